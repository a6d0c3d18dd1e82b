"""What the tests of breakers and retries share: a contract, what a bus tells, and agents in other processes."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from pydantic import BaseModel

import roost

SOON_S = 20.0
"""Longer than anything here takes; a wait that needs it has failed."""


class Query(BaseModel):
    n: int = 0


class Facts(BaseModel):
    n: int = 0
    by: str = ""


class Told:
    """What a bus tells, to be waited for."""

    def __init__(self, bus: roost.Bus) -> None:
        self.events: list[roost.Event] = []
        self._news = asyncio.Event()
        bus.watch(self._heard)

    def _heard(self, event: roost.Event) -> None:
        self.events.append(event)
        self._news.set()

    def of(self, kind: str) -> list[roost.Event]:
        return [one for one in self.events if one.kind == kind]

    async def until(self, condition: Callable[[], bool], *, within_s: float = SOON_S) -> None:
        """Until this holds, which is looked at after each event."""
        async with asyncio.timeout(within_s):
            while not condition():
                self._news.clear()
                await self._news.wait()

    async def heard(self, kind: str, count: int = 1) -> list[roost.Event]:
        await self.until(lambda: len(self.of(kind)) >= count)
        return self.of(kind)


class Child:
    """A process that serves an agent."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def says(self, line: str) -> None:
        assert self._process.stdout is not None
        async with asyncio.timeout(SOON_S):
            while (said := await self._process.stdout.readline()).decode().strip() != line:
                assert said, "the process ended"

    def kill(self) -> None:
        self._process.kill()

    async def close(self) -> None:
        if self._process.returncode is None:
            self._process.kill()
        assert self._process.stdout is not None
        await self._process.stdout.read()
        await self._process.wait()


@asynccontextmanager
async def child(program: str, url: str, namespace: str) -> AsyncIterator[Child]:
    """One of the programs beside this file, once it has said `ready`."""
    path = Path(__file__).parent / program
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(path), url, namespace, stdout=PIPE, env=os.environ
    )
    started = Child(process)
    try:
        await started.says("ready")
        yield started
    finally:
        await started.close()
