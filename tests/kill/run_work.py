"""What the kill test's runs do, and what each must come to: pure functions of its number."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any, Literal

from pydantic import BaseModel

import roost
from kill.work import ACK_WAIT_S

Kind = Literal["quick", "flaky", "hopeless", "slow"]
CHAPTERS = 2
LINES = 4


class Piece(BaseModel):
    n: int
    kind: Kind = "quick"


class Chapter(BaseModel):
    n: int


class Count(BaseModel):
    n: int


class Book(BaseModel):
    n: int


class Report(BaseModel):
    total: int
    dead: list[str]
    approved: int


piece = roost.Task(
    "piece", Piece, Count, retry=roost.Retry(attempts=60, base_s=0.05, cap_s=0.4), ack_wait_s=ACK_WAIT_S
)
chapter = roost.Workflow("chapter", Chapter, Count, ack_wait_s=ACK_WAIT_S)
book = roost.Workflow("book", Book, Report, ack_wait_s=ACK_WAIT_S)
approval = roost.Signal("approval", Count)


def pages_of(n: int) -> list[Piece]:
    """The pages of book `n`: each book has one that fails for good, one that fails once, and a slow one."""
    kinds: list[Kind] = ["quick", "hopeless", "flaky", "quick", "slow", "quick"]
    return [Piece(n=100 * n + i, kind=kinds[i % len(kinds)]) for i in range(6 + n % 5)]


def lines_of(n: int) -> list[Piece]:
    return [Piece(n=10 * n + i) for i in range(LINES)]


def worth(one: Piece) -> int:
    return one.n % 97 + 1


def chapter_worth(n: int) -> int:
    return sum(map(worth, lines_of(n))) + worth(Piece(n=n))


def expected(n: int) -> Report:
    """The report of an undisturbed run."""
    pages = pages_of(n)
    total = sum(worth(page) for page in pages if page.kind != "hopeless")
    total += sum(chapter_worth(CHAPTERS * n + at) for at in range(CHAPTERS)) + worth(Piece(n=n))
    return Report(
        total=total, dead=[f"p{page.n}" for page in pages if page.kind == "hopeless"], approved=n + 1
    )


class Witness:
    """Notes step functions in a file: `<run> <operation> <execution> <sequence of its epoch>`."""

    def __init__(self, file: int) -> None:
        self._file = file
        self._number = 0

    def begins(self, run: roost.Run[Any]) -> str:
        """The name of an execution."""
        self._number += 1
        return f"{os.getpid()}.{self._number} {run._core.fence.seq}"

    def note(self, run: str, operation: str, execution: str) -> None:
        os.write(self._file, f"{run} {operation} {execution}\n".encode())


def coordinators(file: int) -> roost.Agent[None]:
    """The agent that runs books and chapters."""
    agent = roost.Agent("coordinator")
    witness = Witness(file)

    async def step(run: roost.Run[Any], operation: str, execution: str, *given: Any) -> int:
        """A step whose input is `given`, and not the execution, which differs on each resume."""

        async def fn(*again: Any) -> int:
            witness.note(run.id, operation, execution)
            return len(again)

        return await run.step(operation, fn, *given)

    @agent.handles(chapter, concurrency=4)
    async def write(given: Chapter, run: roost.Run[Any]) -> Count:
        execution = witness.begins(run)
        await step(run, "scan", execution, given.n, run.now(), run.random())
        total = 0
        async with run.map(
            piece, lines_of(given.n), name="lines", key=lambda one: f"l{one.n}", ahead=3
        ) as outcomes:
            async for outcome in outcomes:
                total += outcome.value.n if isinstance(outcome, roost.Done) else 1_000_000
        total += (await run.call(piece, Piece(n=given.n), name="last")).n
        await step(run, "close", execution, total, run.now(), run.random())
        return Count(n=total)

    @agent.handles(book, concurrency=4)
    async def compose(given: Book, run: roost.Run[Any]) -> Report:
        execution = witness.begins(run)
        await step(run, "outline", execution, given.n, run.now(), run.random())
        total, dead, order = 0, [], []
        async with run.map(
            piece, pages_of(given.n), name="pages", key=lambda one: f"p{one.n}", ahead=4
        ) as outcomes:
            async for outcome in outcomes:
                order.append(outcome.index)
                if isinstance(outcome, roost.Done):
                    total += outcome.value.n
                else:
                    dead.append(outcome.key)
        await step(run, "order", execution, order, run.now(), run.random())
        chapters = [Chapter(n=CHAPTERS * given.n + at) for at in range(CHAPTERS)]
        async with run.map(
            chapter, chapters, name="chapters", key=lambda one: f"c{one.n}", ordered=True
        ) as written:
            async for one in written:
                total += one.value.n if isinstance(one, roost.Done) else 1_000_000
        total += (await run.call(piece, Piece(n=given.n), name="cover")).n
        approved = await run.wait_for(approval, timeout_s=600)
        await step(run, "binding", execution, total, approved.n, run.now(), run.random())
        return Report(total=total, dead=sorted(dead), approved=approved.n)

    return agent


def tasks_of(n: int) -> Iterable[tuple[str, str, str]]:
    """What book `n` submits itself, as (contract, operation, key)."""
    for page in pages_of(n):
        yield "piece", "pages", f"p{page.n}"
    for at in range(CHAPTERS):
        yield "chapter", "chapters", f"c{CHAPTERS * n + at}"
    yield "piece", "cover", ""
