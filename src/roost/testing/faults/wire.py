"""What lies between a client and its server, as something that a test can break: a forwarder on loopback."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from types import TracebackType
from typing import Self
from urllib.parse import urlsplit

CHUNK = 65536


class Wire:
    """``async with Wire(server.url) as wire:`` and connect to ``wire.url`` instead.

    `cut` closes all connections and refuses new ones, as a network does that is gone and says so; `stalled` keeps
    them open and lets nothing through, as one does that swallows everything (a half-open connection: only
    pings find it). `delay_s` holds each piece back. `sever` closes what is open now, once.
    `to_client` and `to_server` put bytes of your own into every open connection.

    Only what goes through it is affected: several clients may have a wire each. A server tells its clients the
    addresses of its cluster; a client that is to stay on the wire connects to a server without one.
    """

    def __init__(self, url: str) -> None:
        parts = urlsplit(url if "://" in url else f"nats://{url}")
        if parts.port is None:
            raise ValueError(f"{url!r} names no port; use the url of a LocalServer")
        self._host = parts.hostname or "127.0.0.1"
        self._port = parts.port
        self._listener: asyncio.Server | None = None
        self._own_port = 0
        self._flows: set[_Flow] = set()
        self._open = asyncio.Event()
        self._open.set()
        self._refusing = False
        self.delay_s = 0.0
        """Seconds by which each piece of data is late, in both directions."""
        self.accepted = 0
        """Connections that were let through so far."""

    async def __aenter__(self) -> Self:
        self._listener = await asyncio.start_server(self._connected, "127.0.0.1", 0, limit=CHUNK)
        self._own_port = self._listener.sockets[0].getsockname()[1]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._listener is not None:
            self._listener.close()
        flows = list(self._flows)
        for flow in flows:
            flow.close()
        await asyncio.gather(*(flow.ended.wait() for flow in flows))

    @property
    def url(self) -> str:
        """What to connect to."""
        return f"nats://127.0.0.1:{self._own_port}"

    @contextmanager
    def cut(self) -> Iterator[None]:
        """For the length of the block every connection is closed, and none can be made."""
        self._refusing = True
        self.sever()
        try:
            yield
        finally:
            self._refusing = False

    @contextmanager
    def stalled(self) -> Iterator[None]:
        """For the length of the block nothing gets through, in either direction; connections stay open."""
        self._open.clear()
        try:
            yield
        finally:
            self._open.set()

    def sever(self) -> None:
        """Close the connections of this moment; new ones are let through."""
        for flow in list(self._flows):
            flow.close()

    def to_client(self, data: bytes) -> None:
        """Write bytes into every open connection as if the server had sent them."""
        for flow in self._flows:
            flow.client.write(data)

    def to_server(self, data: bytes) -> None:
        """Write bytes into every open connection as if the client had sent them."""
        for flow in self._flows:
            if flow.server is not None:
                flow.server.write(data)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        flow = _Flow(writer)
        self._flows.add(flow)
        try:
            if not self._refusing:
                await self._forward(flow, reader)
        except OSError:
            pass  # either side went away, which is what a wire is for
        finally:
            flow.close()
            self._flows.discard(flow)
            flow.ended.set()

    async def _forward(self, flow: _Flow, reader: asyncio.StreamReader) -> None:
        await self._open.wait()
        back, flow.server = await asyncio.open_connection(self._host, self._port, limit=CHUNK)
        self.accepted += 1
        ways = {
            asyncio.create_task(self._pump(reader, flow.server), name="wire-to-server"),
            asyncio.create_task(self._pump(back, flow.client), name="wire-to-client"),
            asyncio.create_task(flow.closed.wait(), name="wire-closed"),
        }
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while data := await reader.read(CHUNK):
            if self.delay_s > 0:
                await asyncio.sleep(self.delay_s)
            await self._open.wait()
            writer.write(data)
            await writer.drain()


class _Flow:
    """One connection through the wire."""

    def __init__(self, client: asyncio.StreamWriter) -> None:
        self.client = client
        self.server: asyncio.StreamWriter | None = None
        self.closed = asyncio.Event()
        self.ended = asyncio.Event()

    def close(self) -> None:
        """At once, and without sending what is still to be sent."""
        self.closed.set()
        for side in (self.client, self.server):
            if side is not None:
                side.transport.abort()
