"""What the tests of runs share: small contracts, agents made of functions, and waiting on events."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from pydantic import BaseModel

import roost
from roost.agent import Agent
from roost.runs.records import RunSubjects
from roost.tasks.log import Record
from tasks.support import SOON_S, Events, api, put, stranger

__all__ = ["SOON_S", "Events", "api", "put", "stranger"]


class Number(BaseModel):
    n: int


class Report(BaseModel):
    """What a workflow came to, as numbers in order."""

    numbers: list[int]


double = roost.Task("double", Number, Number, retry=roost.Retry(attempts=3, base_s=0.01), ack_wait_s=1)
go = roost.Signal("go", Number)
plan = roost.Workflow("plan", Number, Report, retry=roost.Retry(attempts=3, base_s=0.01), ack_wait_s=0.5)
below = roost.Workflow("below", Number, Number, retry=roost.Retry(attempts=3, base_s=0.01), ack_wait_s=0.5)

Plan = Callable[[Number, roost.Run[Any]], Awaitable[Report]]


async def doubled(value: Number) -> Number:
    return Number(n=2 * value.n)


def numbers(count: int) -> list[Number]:
    return [Number(n=n) for n in range(count)]


def agent_of(*handlers: tuple[Any, Callable[..., Any]], concurrency: int = 8) -> Agent[None]:
    """An agent with these handlers, and one for `double`."""
    agent = Agent("tester")
    for contract, handler in handlers:
        register: Any = agent.handles(contract, concurrency=concurrency)
        register(handler)
    if not any(contract is double for contract, _ in handlers):
        agent.handles(double)(doubled)
    return agent


class Gate:
    """A handler of `double` that waits until the test opens it; `reached` counts who has come."""

    def __init__(self) -> None:
        self.reached = 0
        self.cancelled = 0
        self._changed = asyncio.Event()
        self._open = asyncio.Event()

    async def __call__(self, value: Number) -> Number:
        self.reached += 1
        self._changed.set()
        try:
            await self._open.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            raise
        return await doubled(value)

    def open(self) -> None:
        self._open.set()

    async def until(self, count: int = 1) -> None:
        async with asyncio.timeout(SOON_S):
            while self.reached < count:
                self._changed.clear()
                await self._changed.wait()


class Calls:
    """Step functions that remember how often they ran."""

    def __init__(self) -> None:
        self.made: list[str] = []

    async def note(self, name: str) -> int:
        self.made.append(name)
        return len(self.made)


async def records(bus: roost.Bus, run: str, kind: str) -> list[Record]:
    """The records of one kind in one run, in log order."""
    return await bus.log.read_all(RunSubjects(bus.namespace, run).all_of(kind))


async def stored(bus: roost.Bus, pattern: str, count: int, *, within_s: float = SOON_S) -> list[Record]:
    """The records on subjects that match, as soon as there are so many; woken by the live feed."""
    news = asyncio.Event()
    listener = bus.link.client.listen(pattern.replace(".run.", ".live.run.", 1), lambda _: news.set())
    try:
        async with asyncio.timeout(within_s):
            while True:
                news.clear()
                found = await bus.log.read_all(pattern)
                if len(found) >= count:
                    return found
                await news.wait()
    finally:
        bus.link.client.unlisten(listener)


async def indices(run: roost.Run[Any], items: Any, found: list[int], **options: Any) -> None:
    """Read a map to its end; `found` has what was read, also when it fails."""
    async with run.map(double, items, **options) as outcomes:
        async for outcome in outcomes:
            found.append(outcome.index)


async def run_once(bus: roost.Bus, workflow: Any, *others: tuple[Any, Any], n: int = 1) -> Any:
    async with bus.serving(agent_of((plan, workflow), *others)):
        return await (await bus.start(plan, Number(n=n))).outcome(timeout_s=SOON_S)
