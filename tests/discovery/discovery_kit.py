"""What the tests of discovery share: a fleet of all kinds of contracts, and agents in processes of their own."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import BaseModel

import roost
from roost import Agent, AgentChange, AgentWatch, Endpoint, Run, StreamEndpoint, Task, Topic, Workflow

PATIENCE_S = 20.0
"""How long a test waits for what has to come."""


class Page(BaseModel):
    text: str = ""


class Words(BaseModel):
    count: int = 0


DIGEST = Task("digest", Page, Words)
AUDIT = Workflow("audit", Page, Words)
COUNT = Endpoint("count", Page, Words)
SPELL = StreamEndpoint("spell", Page, Words)
STATUS = Topic("team.{agent}.status", Page)
NAMESAKE = Topic("count", Page)


async def count(page: Page) -> Words:
    if page.text == "bad":
        raise ValueError("no words\nat all")
    return Words(count=len(page.text.split()))


async def spell(page: Page) -> AsyncIterator[Words]:
    for word in page.text.split():
        yield Words(count=len(word))


async def heard(page: Page) -> None:
    return None


async def audit(page: Page, run: Run) -> Words:
    return await run.call(DIGEST, page)


def everything() -> Agent[None]:
    """One agent with a handler for every kind of contract."""
    agent = Agent("clerk", version="1.4.0-rc.1")
    agent.handles(DIGEST, concurrency=4)(count)
    agent.handles(AUDIT)(audit)
    agent.handles(COUNT, concurrency=2)(count)
    agent.handles(SPELL)(spell)
    agent.handles(STATUS)(heard)
    agent.handles(NAMESAKE, deliver="every")(heard)

    @agent.reports(DIGEST)
    async def told(outcome: roost.Outcome[Words], ctx: roost.Context) -> None:
        return None

    return agent


def counter(name: str = "counter") -> Agent[None]:
    """An agent that needs no log."""
    agent = Agent(name)
    agent.handles(COUNT, concurrency=2)(count)
    return agent


async def seen(watch: AgentWatch, wanted: Callable[[AgentChange], bool]) -> AgentChange:
    """The next change that is wanted; those before it are passed over."""
    async with asyncio.timeout(PATIENCE_S):
        async for change in watch:
            if wanted(change):
                return change
    raise AssertionError("the watch has ended")


class Child:
    """An agent in a process of its own."""

    def __init__(self, process: Process, name: str) -> None:
        self.process = process
        self.name = name
        """Of the instance."""

    def signal(self, number: int) -> None:
        self.process.send_signal(number)


@asynccontextmanager
async def child(url: str, namespace: str, heartbeat_s: float) -> AsyncIterator[Child]:
    """A process that serves `counter`; killed at the end if it is still there."""
    here = Path(__file__)
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(here), url, namespace, str(heartbeat_s)),
        stdout=PIPE,
        env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(PATIENCE_S):
            name = (await process.stdout.readline()).decode().strip()
        assert name, "the process ended"
        yield Child(process, name)
    finally:
        if process.returncode is None:
            process.kill()
        await process.stdout.read()
        await process.wait()


async def serve(url: str, namespace: str, heartbeat_s: float) -> None:
    async with roost.connect(url, namespace=namespace) as bus:
        async with bus.serving(counter(), heartbeat_s=heartbeat_s) as (instance,):
            print(instance.name)
            await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(serve(sys.argv[1], sys.argv[2], float(sys.argv[3])))
