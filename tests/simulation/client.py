"""The simulated client: what `roost.transport.Client` offers, over a connection to the simulated server.

The real requests, JetStream calls and pull pump run over it. Each send is a step at which the process may
be killed (before or after it), paused, or cut off.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, cast

from roost.errors import ConnectionClosed, Disconnected, NotConnected
from roost.transport import Link, Listener, Message
from roost.transport.client import Client
from roost.transport.requests import Requests
from simulation.connection import Connection
from simulation.loop import Process, SimLoop
from simulation.server import Server

Strike = Callable[[str, Process], None]


class SimClient:
    """The client of one process. `strike(fault, process)` carries out what befalls the process."""

    def __init__(self, loop: SimLoop, server: Server, process: Process, strike: Strike) -> None:
        self._loop = loop
        self._server = server
        self._process = process
        self._strike = strike
        self._listeners: dict[int, Listener] = {}
        self._sid = 0
        self._pings = 0
        self._pongs: dict[int, asyncio.Future[None]] = {}
        self._requests: Requests | None = None
        self.on_disconnect: list[Callable[[], None]] = []
        self.on_reconnect: list[Callable[[], None]] = []
        self.on_denied: list[Callable[[str, str], None]] = []
        self.max_payload = 1_048_576
        self._server_info: dict[str, str] = {}
        self.is_closed = False
        self._inboxes = 0
        self._id = f"{process.name}x{len(server.connections)}x{int(loop.time() * 1e6):x}"
        self._connection: Connection | None = None
        self._connect()

    def link(self) -> Link:
        return Link(cast(Client, self))

    @property
    def requests(self) -> Requests:
        if self._requests is None:
            self._requests = Requests(cast(Client, self))
        return self._requests

    @property
    def is_connected(self) -> bool:
        return self._connection is not None

    def new_inbox(self) -> str:
        self._inboxes += 1
        return f"_INBOX.{self._id}.{self._inboxes}"

    def _connect(self) -> None:
        self._connection = self._server.connect(self._process, self._received)
        self._connection.on_pong = self._ponged
        self._connection.on_cut = self._lost
        for sid, listener in list(self._listeners.items()):
            if listener.ended:
                del self._listeners[sid]
            else:
                self._connection.send("sub", sid, listener.subject)

    def _lost(self, connection: Connection) -> None:
        if connection is not self._connection or self.is_closed:
            return
        self._connection = None
        pongs, self._pongs = self._pongs, {}
        for pong in pongs.values():
            if not pong.done():
                pong.set_exception(Disconnected("a ping"))
                pong.exception()
        for tell in list(self.on_disconnect):
            tell()
        self._loop.call_later(self._server.faults.rng.random() ** 3 * 2.0, self._again)

    def _again(self) -> None:
        if not self.is_closed:
            self._connect()
            for tell in list(self.on_reconnect):
                tell()

    def send(self, subject: str, data: bytes = b"", reply: str = "", head: bytes = b"") -> None:
        if not self._process.alive:
            return
        if self.is_closed:
            raise ConnectionClosed()
        if self._connection is None:
            raise NotConnected(f"a message to {subject}")
        fault = self._server.faults.of_sender()
        if fault and self._server.faults.rng.random() < 0.5:
            self._strike(fault, self._process)
            fault = ""
        if self._process.alive:
            self._connection.send("pub", subject, data, reply, head)
        if fault:
            self._strike(fault, self._process)

    def listen(self, subject: str, callback: Callable[[Message], None], queue: str = "") -> Listener:
        if self.is_closed:
            raise ConnectionClosed()
        self._sid += 1
        listener = Listener(self._sid, subject, queue, callback)
        self._listeners[self._sid] = listener
        if self._connection is not None:
            self._connection.send("sub", self._sid, subject)
        return listener

    def end_interest(self, listener: Listener) -> None:
        if not listener.ended:
            listener.ended = True
            if self._connection is not None:
                self._connection.send("unsub", listener.sid)

    def unlisten(self, listener: Listener) -> None:
        self.end_interest(listener)
        self._listeners.pop(listener.sid, None)

    def _received(self, sid: int, message: Message) -> None:
        listener = self._listeners.get(sid)
        if listener is not None:
            listener.callback(message)

    async def pressure(self) -> None:
        """Nothing ever waits for a socket here."""

    async def flush(self, timeout: float = 10.0) -> None:
        if self._connection is None:
            raise NotConnected("a ping")
        async with asyncio.timeout(timeout):
            await self._ping()

    def when_processed(self, function: Callable[[], object]) -> None:
        future = self._ping() if self._connection is not None else self._loop.create_future()
        future.add_done_callback(lambda _: function())
        if self._connection is None:
            future.set_result(None)

    def _ping(self) -> asyncio.Future[Any]:
        self._pings += 1
        future = self._pongs[self._pings] = self._loop.create_future()
        if self._connection is not None:
            self._connection.send("ping", self._pings)
        return future

    def _ponged(self, number: int) -> None:
        future = self._pongs.pop(number, None)
        if future is not None and not future.done():
            future.set_result(None)

    def cut(self, kept: int) -> None:
        """Lose the connection; the first `kept` messages on their way still arrive."""
        if self._connection is not None:
            self._connection.close(kept)

    def on_the_way(self) -> int:
        return len(self._connection.on_the_way) if self._connection is not None else 0

    def stall(self, seconds: float) -> None:
        """Nothing gets through to the server for so long."""
        if self._connection is not None:
            self._connection.up_at = max(self._connection.up_at, self._loop.time() + seconds)

    def close(self) -> None:
        self.is_closed = True
        if self._connection is not None:
            self._connection.close(self.on_the_way())
            self._connection = None
