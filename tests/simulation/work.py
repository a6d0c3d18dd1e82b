"""What the simulated agents do: small tasks and a workflow with every durable operation.

Each result can be computed beforehand, so a history full of faults is compared with an undisturbed one. What
the world must answer only once (a step, an effect) answers with another number each time it is asked.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, Literal, Protocol, cast

from pydantic import BaseModel

from roost.agent import Agent
from roost.context import Context
from roost.contracts import Retry, Signal, Task, Workflow
from roost.errors import Reject
from roost.runs import Run
from roost.tasks import Dead, Done
from simulation.loop import PROCESS

PATIENT = Retry(attempts=60, base_s=0.05, cap_s=0.4)
ACK_WAIT_S = 2.0

Kind = Literal["plain", "flaky", "reject", "once", "long"]


class Work(BaseModel):
    n: int
    kind: Kind = "plain"
    group: str = ""


class Answer(BaseModel):
    n: int
    receipt: int = 0


class Leg(BaseModel):
    order: str
    n: int
    version: int


class Order(BaseModel):
    id: str
    legs: int = 2
    ahead: int = 10
    ordered: bool = False
    below: int = 0
    """How many levels of orders are below this one."""
    approval: bool = False


class Plan(BaseModel):
    numbers: list[int]
    version: int
    receipt: int


class Sum(BaseModel):
    total: int
    receipt: int


class Report(BaseModel):
    version: int
    planned_by: int
    total: int
    dead: int
    price: int
    below: int
    word: str


class Word(BaseModel):
    text: str


job = Task("job", Work, Answer, retry=PATIENT, ack_wait_s=ACK_WAIT_S)
bomb = Task("bomb", Work, Answer, retry=Retry(attempts=2, base_s=0.05, cap_s=0.1), ack_wait_s=ACK_WAIT_S)
leg = Task("leg", Leg, Answer, retry=PATIENT, ack_wait_s=ACK_WAIT_S)
price = Task("price", Leg, Answer, retry=PATIENT, ack_wait_s=ACK_WAIT_S)
voyage = Workflow("voyage", Order, Report, retry=PATIENT, ack_wait_s=ACK_WAIT_S)
approve = Signal("approve", Word)


class Deck(Protocol):
    """The machine on which a handler runs."""

    version: int

    def number(self) -> int:
        """Another one each time."""

    def chance(self, share: float) -> bool: ...

    def seconds(self) -> float: ...

    def die(self) -> None: ...

    def step_begins(self, run: Run[Any], name: str) -> None: ...

    def saw(self, run: Run[Any], what: str, value: object) -> None: ...

    def paid(self, key: str, receipt: int) -> None: ...


@asynccontextmanager
async def machine() -> AsyncIterator[Deck]:
    yield cast(Deck, PROCESS.get())


hands: Agent[Deck] = Agent("hands", lifespan=machine)
ship: Agent[Deck] = Agent("ship", lifespan=machine)


@hands.handles(job, concurrency=4)
async def do_job(work: Work, ctx: Context[Deck]) -> Answer:
    deck = ctx.deps
    await asyncio.sleep(deck.seconds() if work.kind != "long" else 1.5 * ACK_WAIT_S)
    if work.kind == "reject":
        raise Reject("not wanted")
    if work.kind == "flaky" and ctx.attempt < 3:
        raise ValueError(f"attempt {ctx.attempt}")
    receipt = 0
    if work.kind == "once":

        async def pay() -> int:
            await asyncio.sleep(deck.seconds())
            return deck.number()

        receipt = await ctx.once("pay", pay)
        deck.paid(ctx.idempotency_key, receipt)
        if deck.chance(0.3):
            raise ValueError("after the effect")
    return Answer(n=work.n + 1, receipt=receipt)


@hands.handles(bomb, concurrency=2)
async def explode(work: Work, ctx: Context[Deck]) -> Answer:
    ctx.deps.die()
    await asyncio.sleep(1000)
    raise AssertionError("a dead process went on")


@ship.handles(leg, concurrency=3)
async def go(value: Leg, ctx: Context[Deck]) -> Answer:
    await asyncio.sleep(ctx.deps.seconds())
    if value.n % 5 == 4:
        raise Reject("off the map")
    if value.n % 3 == 1 and ctx.attempt == 1:
        raise ValueError("high seas")
    return Answer(n=value.n * 10 + value.version)


@ship.handles(price, concurrency=3)
async def ask_price(value: Leg, ctx: Context[Deck]) -> Answer:
    await asyncio.sleep(ctx.deps.seconds())
    return Answer(n=value.n + 100 * value.version)


@ship.handles(voyage, concurrency=1)
async def sail(order: Order, run: Run[Deck]) -> Report:
    deck = run.deps

    async def plan(order: Order, version: int) -> Plan:
        deck.step_begins(run, "plan")
        await asyncio.sleep(deck.seconds())
        return Plan(numbers=list(range(1, order.legs + 1)), version=version, receipt=deck.number())

    async def add(values: list[int]) -> Sum:
        deck.step_begins(run, "sum")
        return Sum(total=sum(values), receipt=deck.number())

    planned = await run.step("plan", plan, order, deck.version)
    deck.saw(run, "plan", planned)
    values: list[int] = []
    dead = 0
    legs = [Leg(order=order.id, n=n, version=deck.version) for n in planned.numbers]
    async with run.map(
        leg, legs, key=lambda one: str(one.n), ahead=order.ahead, ordered=order.ordered
    ) as outcomes:
        async for outcome in outcomes:
            deck.saw(run, "leg", (outcome.key, type(outcome).__name__))
            match outcome:
                case Done(answer):
                    values.append(answer.n)
                case Dead():
                    dead += 1
    deck.saw(run, "now", run.now())
    added = await run.step("sum", add, values)
    deck.saw(run, "sum", added)
    cost = await run.call(price, Leg(order=order.id, n=order.legs, version=deck.version))
    deck.saw(run, "price", cost)
    below = 0
    if order.below:
        inner = Order(id=f"{order.id}-{order.below}", legs=1, below=order.below - 1)
        report = await run.call(voyage, inner, name="below")
        deck.saw(run, "below", report)
        below = 1 + report.below
    word = ""
    if order.approval:
        word = (await run.wait_for(approve)).text
        deck.saw(run, "word", word)
    deck.saw(run, "dice", run.random())
    if deck.chance(0.25):
        raise ValueError("a squall")
    return Report(
        version=deck.version,
        planned_by=planned.version,
        total=added.total,
        dead=dead,
        price=cost.n,
        below=below,
        word=word,
    )


def expected(order: Order, version: int) -> Report:
    """The report of an undisturbed run of one version of the code."""
    numbers = range(1, order.legs + 1)
    dead = sum(n % 5 == 4 for n in numbers)
    return Report(
        version=version,
        planned_by=version,
        total=sum(n * 10 + version for n in numbers if n % 5 != 4),
        dead=dead,
        price=order.legs + 100 * version,
        below=order.below,
        word="go" if order.approval else "",
    )
