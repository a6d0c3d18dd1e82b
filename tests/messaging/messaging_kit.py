"""What the messaging tests share: contracts, a watcher to wait on, plain nats-py, and a raw socket."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated
from urllib.parse import urlsplit

import nats
from nats.aio.client import Client as Plain
from pydantic import BaseModel, Field

from roost import Bus, Endpoint, Event, Topic

PATIENCE_S = 10.0
"""How long a test waits for what has to come."""


class Note(BaseModel):
    text: str = ""
    number: Annotated[int, Field(ge=0)] = 0


class Answer(BaseModel):
    text: str = ""
    number: int = 0


STATUS = Topic("team.{agent}.status", Note)
HELLO = Endpoint("hello", Note, Answer)
SECOND = Endpoint("second", Note, Answer)


class Events:
    """What a bus tells its watchers, and a way to wait for it."""

    def __init__(self, bus: Bus) -> None:
        self.all: list[Event] = []
        self._news = asyncio.Event()
        bus.watch(self._heard)

    def _heard(self, event: Event) -> None:
        self.all.append(event)
        self._news.set()

    def of(self, kind: str) -> list[Event]:
        return [event for event in self.all if event.kind == kind]

    async def wait(self, kind: str, number: int = 1) -> list[Event]:
        """The first `number` events of a kind, past or to come."""
        async with asyncio.timeout(PATIENCE_S):
            while len(self.of(kind)) < number:
                self._news.clear()
                await self._news.wait()
        return self.of(kind)[:number]


class Inbox:
    """Where handlers put what they got, so that a test can wait for it."""

    def __init__(self) -> None:
        self._queue: asyncio.Queue[object] = asyncio.Queue()

    def put(self, item: object) -> None:
        self._queue.put_nowait(item)

    async def get(self) -> object:
        return await asyncio.wait_for(self._queue.get(), PATIENCE_S)

    async def take(self, number: int) -> list[object]:
        return [await self.get() for _ in range(number)]

    @property
    def empty(self) -> bool:
        return self._queue.empty()


async def settle(*buses: Bus) -> None:
    """Returns when all that the server had for these connections has arrived and was looked at."""
    for _ in range(2):
        for bus in buses:
            await bus.link.client.flush()
        await asyncio.sleep(0)


@asynccontextmanager
async def plain(url: str) -> AsyncIterator[Plain]:
    """A client of nats-py as others use it."""
    client = await nats.connect(url.split(","))
    try:
        yield client
    finally:
        await client.close()


async def known(client: Plain) -> None:
    """Returns when the server knows the subscriptions of a plain client: its first PING overtakes them."""
    await client.flush()
    await client.flush()


class Raw:
    """A connection that sends what it is told, byte for byte: what a client would refuse to send."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *lines: bytes) -> None:
        """Send protocol lines, and return when the server has processed them."""
        self._writer.write(b"".join(lines) + b"PING\r\n")
        async with asyncio.timeout(PATIENCE_S):
            while (line := await self._reader.readline()) != b"PONG\r\n":
                assert line, "the server closed the connection"
                assert not line.startswith(b"-ERR"), line

    async def publish(self, subject: str, data: bytes, *, reply: str = "", head: bytes = b"") -> None:
        if head:
            sizes = f"{len(head)} {len(head) + len(data)}"
            line = f"HPUB {subject} {reply} {sizes}\r\n".encode()
        else:
            line = f"PUB {subject} {reply} {len(data)}\r\n".encode()
        await self.send(line, head, data, b"\r\n")


@asynccontextmanager
async def raw(url: str) -> AsyncIterator[Raw]:
    """To one server; others of its cluster get what it sends a moment later."""
    parts = urlsplit(url)
    reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
    try:
        await reader.readline()  # INFO
        connection = Raw(reader, writer)
        await connection.send(
            b'CONNECT {"verbose":false,"pedantic":false,"headers":true,"no_responders":true}\r\n'
        )
        yield connection
    finally:
        writer.close()
        await writer.wait_closed()
