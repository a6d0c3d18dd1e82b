"""The agent that is fuzzed, a process of its own: `python -m faults.fuzz_agent URL NAMESPACE`.

It serves one of each kind of contract, follows outcomes, and watches who is there. On request it says what it has
seen of the legitimate work, and how much memory it takes.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import AsyncIterator
from typing import Any

from pydantic import BaseModel

import roost
from roost import Done, Outcome, Run

LEGITIMATE = 1_000_000
"""Numbers from here on are those of legitimate work; garbage never has them."""
PIECES = 3


class Note(BaseModel):
    text: str
    number: int = 0


class Figures(BaseModel):
    """What the agent has seen of the legitimate work, and what it takes."""

    rss_bytes: int
    heard: int
    reported: list[int]
    ended: list[str]
    """Names of the asyncio tasks that were there when it had begun to serve, and are no more."""
    inboxes: list[str]
    instance: str
    counters: dict[str, int]


retry = roost.Retry(attempts=2, base_s=0.01, cap_s=0.05)
said = roost.Topic("fuzz.{who}.said", Note)
echo = roost.Endpoint("echo", Note, Note)
figures = roost.Endpoint("figures", Note, Figures)
chat = roost.StreamEndpoint("chat", Note, Note)
work = roost.Task("work", Note, Note, retry=retry, ack_wait_s=5)
turn = roost.Task("turn", Note, Note, retry=retry, ack_wait_s=5, order_key=lambda note: note.text)
piece = roost.Task("piece", Note, Note, retry=retry, ack_wait_s=5)
book = roost.Workflow("book", Note, Note, retry=retry, ack_wait_s=5)
NAMES = ("work", "turn", "piece", "book", "echo", "chat", "fuzz")

agent = roost.Agent("fuzz")
_heard: set[int] = set()
_reported: set[int] = set()


@agent.handles(said)
async def hear(note: Note) -> None:
    if note.number >= LEGITIMATE:
        _heard.add(note.number)


@agent.handles(echo, concurrency=32)
async def answer(note: Note) -> Note:
    return note


@agent.handles(chat)
async def talk(note: Note) -> AsyncIterator[Note]:
    for number in range(3):
        yield Note(text=note.text, number=note.number + number)


@agent.handles(work, concurrency=64)
async def do(note: Note, ctx: roost.Context) -> Note:
    if note.number >= LEGITIMATE and note.text == "chunks":
        await ctx.emit(note)
        await ctx.progress("half")
    return note


@agent.handles(turn)
async def in_turn(note: Note) -> Note:
    return note


@agent.handles(piece, concurrency=64)
async def part(note: Note) -> Note:
    return note


@agent.handles(book)
async def write(note: Note, run: Run) -> Note:
    first: int = await run.step("first", one, note.number)
    pieces = [Note(text=str(number), number=number) for number in range(PIECES)]
    async with run.map(piece, pieces, key=lambda piece: piece.text) as outcomes:
        total = sum([outcome.value.number async for outcome in outcomes if isinstance(outcome, Done)])
    return Note(text=note.text, number=first + total)


async def one(number: int) -> int:
    return number


@agent.reports(work)
async def report(outcome: Outcome[Note], ctx: roost.Context) -> None:
    if isinstance(outcome, Done) and outcome.value.number >= LEGITIMATE:
        _reported.add(outcome.value.number)


def rss_bytes() -> int:
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


async def main(url: str, namespace: str) -> None:
    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    lasting: set[asyncio.Task[Any]] = set()
    instance = ""

    @agent.handles(figures)
    async def tell(note: Note) -> Figures:
        subjects = [one.subject for one in bus.link.client._listeners.values()]
        return Figures(
            rss_bytes=rss_bytes(),
            heard=len(_heard),
            reported=sorted(_reported),
            ended=sorted(one.get_name() for one in lasting if one.done()),
            inboxes=[
                one.removesuffix(".*") for one in subjects if one.startswith("_INBOX") and one.endswith(".*")
            ],
            instance=instance,
            counters=dict(bus.counters),
        )

    async with roost.connect(url, namespace=namespace) as bus, bus.serving(agent) as (serving,):
        instance = serving.name
        async with bus.watch_agents() as watch:

            async def look() -> None:
                async for _ in watch:
                    pass

            looking = asyncio.create_task(look(), name="looking")
            await asyncio.sleep(0)
            lasting |= asyncio.all_tasks()
            print("ready", flush=True)
            await told.wait()
            looking.cancel()


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(main(*sys.argv[1:]))
