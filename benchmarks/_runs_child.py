"""One process of a measured run: ``python -m benchmarks._runs_child <coordinator|worker> <url>``.

It writes lines of JSON: ``ready``, and a coordinator also ``begun`` each time that it executes the workflow and
``read`` at each tenth of the outcomes, with its own memory just then. It serves until its standard input ends.
"""

from __future__ import annotations

import asyncio
import json
import os
import resource
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pydantic import BaseModel

import roost
from benchmarks._work import CONCURRENCY, DIGEST, NAMESPACE, Digest, Page, digest, page
from roost import Agent

ACK_WAIT_S = 1.0
"""How long a coordinator may be silent before another takes its runs over; 30 by default."""
TENTHS = 10


class Job(BaseModel):
    """A fan-out of `count` pages, `ahead` of them submitted and not yet read."""

    count: int
    ahead: int


class Total(BaseModel):
    """What came of it. Counts and two sums over the indices: a page that was lost, or counted twice, changes them."""

    done: int = 0
    others: int = 0
    words: int = 0
    indices: int = 0
    squares: int = 0


MANY = roost.Workflow("many", Job, Total, ack_wait_s=ACK_WAIT_S)


def expected(count: int) -> Total:
    """The total of an undisturbed run."""
    return Total(
        done=count,
        words=digest(page(0)).words * count,
        indices=count * (count - 1) // 2,
        squares=(count - 1) * count * (2 * count - 1) // 6,
    )


def tell(event: str, **more: Any) -> None:
    """At once: whoever is killed next has said what it has done."""
    os.write(
        1,
        (
            json.dumps({"event": event, "at_s": time.time(), "cpu_s": time.process_time(), **more}) + "\n"
        ).encode(),
    )


def rss_mb() -> float:
    """Memory of this process that is resident just now; where that is not told, the most there ever was."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        return most / 2**20 if sys.platform == "darwin" else most / 2**10
    return pages * resource.getpagesize() / 2**20


def pages(count: int) -> Iterator[Page]:
    for number in range(count):
        yield page(number)


async def many(job: Job, run: roost.Run[Any]) -> Total:
    tell("begun")
    done = others = words = indices = squares = 0
    tenths = {job.count * tenth // TENTHS: tenth for tenth in range(1, TENTHS + 1)}
    async with run.map(DIGEST, pages(job.count), ahead=job.ahead) as outcomes:
        async for outcome in outcomes:
            if isinstance(outcome, roost.Done):
                done += 1
                words += outcome.value.words
            else:
                others += 1
            indices += outcome.index
            squares += outcome.index**2
            tenth = tenths.get(done + others)
            if tenth is not None:
                tell("read", tenth=tenth, rss_mb=round(rss_mb(), 2))
    return Total(done=done, others=others, words=words, indices=indices, squares=squares)


async def one(value: Page) -> Digest:
    return digest(value)


async def serve(role: str, url: str) -> None:
    agent = Agent(role)
    if role == "coordinator":
        agent.handles(MANY)(many)
    else:
        agent.handles(DIGEST, concurrency=CONCURRENCY)(one)
    async with roost.connect(url, namespace=NAMESPACE) as bus, bus.serving(agent):
        tell("ready")
        await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:3]))
