"""The work that both sides do: models, contracts, handlers, payloads. Alike by construction, because shared."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass

from pydantic import BaseModel

from roost import Endpoint, Task, Topic

NAMESPACE = "bench"
CONCURRENCY = 256
"""Tasks that the worker of either side takes on at once."""
CREDIT = 2_000
"""Messages after which a subscriber tells the publisher that they have arrived."""


class Reading(BaseModel):
    """96 bytes of JSON, five fields."""

    sensor: str
    unit: str
    value: float
    taken: int
    tags: list[str]


class Page(BaseModel):
    path: str
    text: str


class Digest(BaseModel):
    path: str
    words: int
    longest: str


class Credit(BaseModel):
    arrived: int


READING = Topic("site.{sensor}.reading", Reading)
CREDITS = Topic("site.credit", Credit)
COUNT = Endpoint("count", Page, Digest)
DIGEST = Task("digest", Page, Digest)

TEXT = (
    "a page of some twenty words that somebody wrote for nobody in particular to be counted and measured here"
)


def reading(number: int) -> Reading:
    return Reading(
        sensor="boiler-7",
        unit="celsius",
        value=20.5 + number % 50,
        taken=1_700_000_000 + number,
        tags=["north", "cellar"],
    )


def page(number: int) -> Page:
    return Page(path=f"docs/page-{number}.md", text=TEXT)


def digest(page: Page) -> Digest:
    words = page.text.split()
    return Digest(path=page.path, words=len(words), longest=max(words, key=len))


def trace_header() -> str:
    """A `traceparent` of a trace that begins here."""
    return f"00-{random.getrandbits(128):032x}-{random.getrandbits(64):016x}-01"


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """How much is measured: `count` operations after `warm_up` of the same, up to `width` in flight."""

    count: int
    warm_up: int
    width: int = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One measurement: seconds for all, and of each operation where they are timed singly."""

    count: int
    seconds: float
    each_s: tuple[float, ...] = ()


class Window:
    """Lets a publisher run ahead of its subscriber by so many messages; `arrived` wakes it."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._sent = 0
        self._arrived = 0
        self._event = asyncio.Event()

    def full(self) -> bool:
        return self._sent - self._arrived >= self._size

    def sent(self) -> None:
        self._sent += 1

    def arrived(self, total: int) -> None:
        self._arrived = max(self._arrived, total)
        self._event.set()

    async def room(self) -> None:
        while self.full():
            self._event.clear()
            await self._event.wait()

    async def all(self) -> None:
        while self._arrived < self._sent:
            self._event.clear()
            await self._event.wait()


async def serially(one: Callable[[int], Awaitable[object]], plan: Plan) -> Sample:
    """One operation after the other, each timed."""
    loop = asyncio.get_running_loop()
    for number in range(plan.warm_up):
        await one(number)
    each = []
    begun = loop.time()
    for number in range(plan.count):
        start = loop.time()
        await one(plan.warm_up + number)
        each.append(loop.time() - start)
    return Sample(count=plan.count, seconds=loop.time() - begun, each_s=tuple(each))


async def side_by_side(one: Callable[[int], Awaitable[object]], plan: Plan) -> Sample:
    """`plan.width` coroutines, each with one operation after the other, until all are done; each timed."""
    loop = asyncio.get_running_loop()

    async def work(numbers: Iterator[int], each: list[float]) -> None:
        for number in numbers:
            start = loop.time()
            await one(number)
            each.append(loop.time() - start)

    async def all_of(first: int, count: int) -> list[float]:
        each: list[float] = []
        numbers = iter(range(first, first + count))
        async with asyncio.TaskGroup() as group:
            for n in range(plan.width):
                group.create_task(work(numbers, each), name=f"bench-{n}")
        return each

    await all_of(0, plan.warm_up)
    begun = loop.time()
    each = await all_of(plan.warm_up, plan.count)
    return Sample(count=plan.count, seconds=loop.time() - begun, each_s=tuple(each))
