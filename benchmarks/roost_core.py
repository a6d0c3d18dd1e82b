"""Messages on Roost's side, written as a user would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import roost
from benchmarks._work import (
    COUNT,
    CREDIT,
    CREDITS,
    NAMESPACE,
    READING,
    Credit,
    Digest,
    Page,
    Plan,
    Reading,
    Sample,
    Window,
    digest,
    page,
    reading,
    serially,
    side_by_side,
)
from roost import Agent, Bus, Context


@asynccontextmanager
async def subscriber(url: str, plan: Plan) -> AsyncIterator[None]:
    agent = Agent("reader")
    total = 0

    @agent.handles(READING)
    async def read(value: Reading, ctx: Context) -> None:
        nonlocal total
        if ctx.parameters["sensor"] != value.sensor:
            raise ValueError("the subject names another sensor")
        total += 1
        if total % CREDIT == 0:
            await bus.publish(CREDITS, Credit(arrived=total))

    async with roost.connect(url, namespace=NAMESPACE) as bus, bus.serving(agent):
        yield


async def publish(url: str, plan: Plan) -> Sample:
    window = Window(plan.width)
    agent = Agent("publisher")

    @agent.handles(CREDITS)
    async def credit(value: Credit) -> None:
        window.arrived(value.arrived)

    async def some(bus: Bus, count: int) -> None:
        address = READING.at(sensor="boiler-7")
        for number in range(count):
            if window.full():
                await window.room()
            window.sent()
            await bus.publish(address, reading(number))
        await window.all()

    loop = asyncio.get_running_loop()
    async with roost.connect(url, namespace=NAMESPACE) as bus, bus.serving(agent):
        await some(bus, plan.warm_up)
        begun = loop.time()
        await some(bus, plan.count)
        return Sample(count=plan.count, seconds=loop.time() - begun)


@asynccontextmanager
async def responder(url: str, plan: Plan) -> AsyncIterator[None]:
    agent = Agent("counter")

    @agent.handles(COUNT, concurrency=max(32, plan.width))
    async def count(value: Page) -> Digest:
        return digest(value)

    async with roost.connect(url, namespace=NAMESPACE) as bus, bus.serving(agent):
        yield


async def request(url: str, plan: Plan) -> Sample:
    async with roost.connect(url, namespace=NAMESPACE) as bus:

        async def one(number: int) -> None:
            await bus.request(COUNT, page(number))

        return await (serially if plan.width == 1 else side_by_side)(one, plan)
