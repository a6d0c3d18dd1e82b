"""Tasks on Roost's side, written as a user would."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import roost
from benchmarks._work import (
    CONCURRENCY,
    DIGEST,
    NAMESPACE,
    Digest,
    Page,
    Plan,
    Sample,
    digest,
    page,
    serially,
    side_by_side,
)
from roost import Agent


@asynccontextmanager
async def worker(url: str, plan: Plan) -> AsyncIterator[None]:
    agent = Agent("digester")

    @agent.handles(DIGEST, concurrency=CONCURRENCY)
    async def one(value: Page) -> Digest:
        return digest(value)

    async with roost.connect(url, namespace=NAMESPACE) as bus, bus.serving(agent):
        yield


async def submit(url: str, plan: Plan) -> Sample:
    """Submit and await the outcome: one at a time, or `plan.width` of them."""
    async with roost.connect(url, namespace=NAMESPACE) as bus:

        async def one(number: int) -> None:
            handle = await bus.submit(DIGEST, page(number))
            await handle.result()

        return await (serially if plan.width == 1 else side_by_side)(one, plan)


async def fan_out(url: str, plan: Plan) -> Sample:
    """Submit `plan.width` tasks side by side and await all outcomes, again and again."""
    async with roost.connect(url, namespace=NAMESPACE) as bus:

        async def one(number: int) -> None:
            handles = await asyncio.gather(*(bus.submit(DIGEST, page(n)) for n in range(plan.width)))
            await asyncio.gather(*(handle.result() for handle in handles))

        return await serially(one, plan)


async def fan_out_atomic(url: str, plan: Plan) -> Sample:
    """The same, stored all or none."""
    async with roost.connect(url, namespace=NAMESPACE) as bus:

        async def one(number: int) -> None:
            handles = await bus.submit_many(DIGEST, [page(n) for n in range(plan.width)])
            await asyncio.gather(*(handle.result() for handle in handles))

        return await serially(one, plan)
