"""A small shop, one agent for each role: what the security tests let work under the users that are printed for them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

from pydantic import BaseModel

import roost
from roost import Agent, Context, Run


class Order(BaseModel):
    n: int
    customer: str = "ann"


class Total(BaseModel):
    n: int


class News(BaseModel):
    text: str


pack = roost.Task(
    "pack", Order, Total, retry=roost.Retry(attempts=2, base_s=0.01), ack_wait_s=1, deadline_s=600
)
serve_in_turn = roost.Task(
    "serve_in_turn", Order, Total, order_key=lambda order: order.customer, ack_wait_s=1
)
secret = roost.Task("secret", Order, Total, ack_wait_s=1)
price = roost.Endpoint("price", Order, Total)
sure = roost.Endpoint("sure", Order, Total)
tail = roost.StreamEndpoint("tail", Order, Total)
news = roost.Topic("branches.{branch}.news", News)
approve = roost.Signal("approve", Order)
plan = roost.Workflow("plan", Order, Total, ack_wait_s=1)


class Heard:
    """What handlers have got, in the loop of the test that runs."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._queue: asyncio.Queue[str] = asyncio.Queue()

    def put(self, value: str) -> None:
        self._here().put_nowait(value)

    async def get(self) -> str:
        return await self._here().get()

    def _here(self) -> asyncio.Queue[str]:
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop, self._queue = loop, asyncio.Queue()
        return self._queue


heard = Heard()
reported = Heard()

packer = Agent("packer")
keeper = Agent("keeper")
planner = Agent("planner", calls=[pack, secret])
clerk = Agent("clerk")


@packer.handles(pack)
async def do_pack(order: Order, ctx: Context) -> Total:
    if order.n == 13:
        raise ValueError("unlucky")
    await ctx.progress("packing")
    await ctx.emit({"n": order.n})
    return Total(n=await ctx.once("box", box, order.n))


async def box(n: int) -> int:
    return n


@packer.handles(serve_in_turn)
async def do_serve_in_turn(order: Order) -> Total:
    return Total(n=order.n)


@packer.handles(price)
async def do_price(order: Order) -> Total:
    return Total(n=order.n * 2)


@packer.handles(tail)
async def do_tail(order: Order, ctx: Context) -> AsyncIterator[Total]:
    answer = await ctx.ask(sure, order)
    for n in range(answer.n):
        yield Total(n=n)


@packer.handles(news)
async def hear(value: News) -> None:
    heard.put(value.text)


@keeper.handles(secret)
async def do_secret(order: Order) -> Total:
    return Total(n=order.n)


@planner.handles(plan)
async def do_plan(order: Order, run: Run) -> Total:
    async with run.map(pack, [Order(n=n) for n in range(order.n)], key=lambda one: str(one.n)) as outcomes:
        found = [one async for one in outcomes]
    last = await run.call(secret, order)
    said = await run.wait_for(approve, timeout_s=60)
    return Total(n=len(found) + last.n + said.n)


@clerk.reports(pack)
async def report(outcome: roost.Outcome[Total], ctx: Context) -> None:
    reported.put(outcome.key)
