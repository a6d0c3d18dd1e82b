"""What the tests of tasks share: a small contract, plain nats-py for strangers, and waiting on events."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, TypeVar

import nats
from nats.aio.client import Client as NatsClient
from nats.errors import NoRespondersError
from pydantic import BaseModel

import roost
from roost.agent import Agent
from roost.tasks.log import Record
from roost.tasks.provision import stream_config
from roost.tasks.records import Subjects

I = TypeVar("I")
O = TypeVar("O")

SOON_S = 20.0
"""Longer than anything here takes; a wait that needs it has failed."""


class Number(BaseModel):
    n: int


def agent_of(task: roost.Task[I, O], handler: Callable[..., Any], *, concurrency: int = 32) -> Agent[None]:
    """An agent with this one handler."""
    agent = Agent("tester")
    agent.handles(task, concurrency=concurrency)(handler)
    return agent


async def until(condition: Callable[[], bool], *, within_s: float = SOON_S) -> None:
    """Let the loop turn until this holds: for what has no event of its own."""
    async with asyncio.timeout(within_s):
        while not condition():  # noqa: ASYNC110
            await asyncio.sleep(0)


async def plus_one(value: Number) -> Number:
    return Number(n=value.n + 1)


class Events:
    """The events of a bus, to be waited for."""

    def __init__(self, bus: roost.Bus) -> None:
        self.seen: list[roost.Event] = []
        self._changed = asyncio.Event()
        bus.watch(self._note)

    def _note(self, event: roost.Event) -> None:
        self.seen.append(event)
        self._changed.set()

    def of(self, kind: str) -> list[roost.Event]:
        return [event for event in self.seen if event.kind == kind]

    async def until(self, kind: str, count: int = 1, *, within_s: float = SOON_S) -> list[roost.Event]:
        """The events of this kind, as soon as there are `count`."""
        async with asyncio.timeout(within_s):
            while len(self.of(kind)) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.of(kind)


@asynccontextmanager
async def stranger(url: str) -> AsyncIterator[NatsClient]:
    """A plain nats-py connection, which knows nothing of Roost's rules."""
    client = await nats.connect(url.split(","), allow_reconnect=False)
    try:
        yield client
    finally:
        await client.close()


async def api(client: NatsClient, call: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    """One call of the JetStream API, answered or refused."""
    answer = await client.request(f"$JS.API.{call}", json.dumps(body).encode() if body else b"", timeout=5)
    decoded: dict[str, Any] = json.loads(answer.data)
    return decoded


async def put(
    client: NatsClient, subject: str, data: bytes, headers: dict[str, str] | None = None
) -> dict[str, Any]:
    """Publish and return the acknowledgement, which may be a refusal."""
    async with asyncio.timeout(SOON_S):
        while True:
            try:
                answer = await client.request(subject, data, timeout=5, headers=headers)
                break
            except NoRespondersError:  # in a cluster, not every server has heard of a new log at once
                await asyncio.sleep(0.02)
    decoded: dict[str, Any] = json.loads(answer.data)
    return decoded


async def provision(client: NatsClient, namespace: str, **changes: Any) -> None:
    """Create the log's stream as Roost would, but for `changes`."""
    config = stream_config(Subjects(namespace)) | changes
    answer = await api(client, f"STREAM.CREATE.{config['name']}", config)
    assert "error" not in answer, answer


async def records(bus: roost.Bus, kind: str = "*") -> list[Record]:
    """All records of a kind, in log order, several of one subject included."""
    await bus.log.ensure()
    depth = ".*" if kind == "note" else ""
    return await bus.log.read_all(f"{bus.namespace}.run.*.{kind}.*.*{depth}")


class Child:
    """A worker process of `worker_process.py`, and the lines it prints."""

    def __init__(self, process: Process) -> None:
        self.process = process
        self.said: list[str] = []

    async def says(self, beginning: str, *, within_s: float = SOON_S) -> str:
        """The next line that begins so."""
        assert self.process.stdout is not None
        async with asyncio.timeout(within_s):
            while True:
                line = (await self.process.stdout.readline()).decode()
                if not line:
                    raise AssertionError(
                        f"the worker ended without saying {beginning!r}; it said {self.said}"
                    )
                self.said.append(line.strip())
                if line.startswith(beginning):
                    return line.strip()

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def ended(self, *, within_s: float = SOON_S) -> int:
        async with asyncio.timeout(within_s):
            return await self.process.wait()

    async def close(self) -> None:
        """End it for certain, and its pipe."""
        if self.process.returncode is None:
            self.process.kill()
        assert self.process.stdout is not None
        await self.process.stdout.read()
        await self.process.wait()


@asynccontextmanager
async def children() -> AsyncIterator[Callable[..., Any]]:
    """Gives a function that starts worker processes, ended with the block."""
    started: list[Child] = []

    async def start(mode: str, url: str, namespace: str, *more: str, module: str = "worker_process") -> Child:
        environment = os.environ | {"PYTHONPATH": _path(), "PYTHONUNBUFFERED": "1"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", f"tasks.{module}", mode, url, namespace, *more, stdout=PIPE, env=environment
        )
        child = Child(process)
        started.append(child)
        return child

    try:
        yield start
    finally:
        for child in started:
            await child.close()


def _path() -> str:
    """The import path of a child: this folder's parent before whatever this process was given."""
    here = str(Path(__file__).resolve().parents[1])
    given = os.environ.get("PYTHONPATH", "")
    return f"{given}{os.pathsep}{here}" if given else here
