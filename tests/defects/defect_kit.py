"""What the defect suite makes faults with: servers with a configuration, raw sockets, rogue servers.

Each defect of plain nats-py gets a test that makes the fault on a real server and passes with our client.
Where it costs little, the same file shows the defect on plain nats-py (tests with `stock` in their name): when
an upgrade of nats-py mends it, that test turns red and says that a guard may go.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

import nats
from nats.aio.client import Client as StockClient

from roost.server.find import find_server
from roost.settings import Settings
from roost.transport import Client, Link, open_client
from roost.transport.connection import close_client


class Events:
    """What a client has told its observer, and a way to wait for it."""

    def __init__(self) -> None:
        self.all: list[tuple[str, str]] = []
        self._news = asyncio.Event()

    def __call__(self, event: str, detail: str) -> None:
        self.all.append((event, detail))
        self._news.set()

    def count(self, event: str) -> int:
        return len(self.details(event))

    def details(self, event: str) -> list[str]:
        return [detail for name, detail in self.all if name == event]

    async def wait(self, event: str, text: str = "", *, number: int = 1, within_s: float = 10.0) -> str:
        """The detail of the `number`-th event of this name that has `text` in it, past or to come."""
        async with asyncio.timeout(within_s):
            while len(found := [detail for detail in self.details(event) if text in detail]) < number:
                self._news.clear()
                await self._news.wait()
        return found[number - 1]


class Ours:
    """Our client with its events."""

    def __init__(self, client: Client, events: Events) -> None:
        self.client = client
        self.events = events
        self.link = Link(client)
        self.jetstream = self.link.jetstream
        self.requests = self.link.requests

    async def works(self) -> bool:
        """Whether a message of its own comes back to it."""
        came = asyncio.Event()
        inbox = self.client.new_inbox()
        listener = self.client.listen(inbox, lambda _: came.set())
        try:
            self.client.send(inbox)
            async with asyncio.timeout(2):
                await came.wait()
        finally:
            self.client.unlisten(listener)
        return True


def first_of(url: str) -> str:
    """Of the servers of a cluster (--roost-cluster), the one for all clients of a test: what one has flushed is on its
    way to the others there, and not yet elsewhere."""
    return url.split(",")[0]


@asynccontextmanager
async def ours(
    *servers: str, events: Events | None = None, timeout_s: float = 5.0, **options: Any
) -> AsyncIterator[Ours]:
    """Our client, connected; closed at the end."""
    seen = events if events is not None else Events()
    named = tuple(first_of(server) for server in servers)
    settings = Settings(servers=named, connect_timeout_s=timeout_s, options=options)
    client = await open_client(settings, seen)
    try:
        yield Ours(client, seen)
    finally:
        await close_client(client)


async def quiet(error: Exception) -> None:
    """The error callback of a plain client whose errors are expected."""


@asynccontextmanager
async def stock(url: str, **options: Any) -> AsyncIterator[StockClient]:
    """Plain nats-py, connected, with a quick reconnect."""
    options = {"error_cb": quiet, "reconnect_time_wait": 0.05, "max_reconnect_attempts": -1} | options
    client = await nats.connect(first_of(url), **options)
    try:
        yield client
    finally:
        await client.close()


async def settle(client: StockClient) -> None:
    """Flush a plain client. Twice: its ping may overtake the subscriptions that were made before it."""
    await client.flush()
    await client.flush()


async def stock_works(client: StockClient) -> bool:
    """Whether a plain client still gets a pong."""
    try:
        await client.rtt(timeout=0.3)  # type: ignore[arg-type]  # flush() does not ask a dead read loop
    except nats.errors.TimeoutError:
        return False
    return True


class Raw:
    """A publisher that sanitises nothing."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def send(self, *lines: bytes) -> None:
        """Write lines, and return when the server has processed them."""
        self._writer.write(b"".join(line + b"\r\n" for line in (*lines, b"PING")))
        await self._writer.drain()
        async with asyncio.timeout(5):
            while await self._reader.readline() != b"PONG\r\n":
                if self._reader.at_eof():
                    raise ConnectionError("the server closed the raw connection")

    async def publish(self, subject: bytes, data: bytes = b"", reply: bytes = b"") -> None:
        await self.send(b"PUB %b %b %d" % (subject, reply, len(data)), data)

    async def publish_with_head(
        self, subject: bytes, head: bytes, data: bytes = b"", reply: bytes = b""
    ) -> None:
        await self.send(b"HPUB %b %b %d %d" % (subject, reply, len(head), len(head) + len(data)), head + data)


@asynccontextmanager
async def raw(url: str) -> AsyncIterator[Raw]:
    """A raw connection to a server."""
    host, port = first_of(url).removeprefix("nats://").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    try:
        await reader.readline()
        publisher = Raw(reader, writer)
        await publisher.send(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}')
        yield publisher
    finally:
        writer.close()
        await writer.wait_closed()


class ConfiguredServer:
    """A nats-server with a configuration file of its own, which can be changed while it runs."""

    def __init__(self, folder: Path, config: str) -> None:
        self._folder = folder
        self._file = folder / "server.conf"
        self.port = free_port()
        self._process: subprocess.Popen[bytes] | None = None
        self._lines: list[str] = []
        self._said = threading.Condition()
        self._config = config

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def url_of(self, user: str, password: str = "pw") -> str:
        return f"nats://{user}:{password}@127.0.0.1:{self.port}"

    def start(self) -> None:
        self._write(self._config)
        self._process = subprocess.Popen([str(find_server()), "-c", str(self._file)], stderr=subprocess.PIPE)
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        self.await_line("Server is ready")

    def reload(self, config: str) -> None:
        """Change the configuration of the running server (SIGHUP); returns when it has taken effect."""
        self._write(config)
        self._signal(signal.SIGHUP, "Reloaded server configuration")

    def kill(self) -> None:
        process = self._process
        if process is not None:
            process.kill()
            process.wait()
            self._process = None

    def _write(self, config: str) -> None:
        self._config = config
        common = f"host: 127.0.0.1\nport: {self.port}\njetstream {{ store_dir: '{self._folder}' }}\n"
        self._file.write_text(common + config)

    def _signal(self, number: int, answer: str) -> None:
        assert self._process is not None
        with self._said:
            self._lines.clear()
        os.kill(self._process.pid, number)
        self.await_line(answer)

    def await_line(self, text: str) -> None:
        """Wait until the server's log has said `text`."""
        with self._said:
            if not self._said.wait_for(lambda: any(text in line for line in self._lines), timeout=10):
                raise TimeoutError(f"the server did not say {text!r} but {self._lines}")

    def _listen(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stderr is not None
        with process.stderr as log:
            for line in log:
                with self._said:
                    self._lines.append(line.decode("utf-8", "replace"))
                    self._said.notify_all()


@contextmanager
def configured(folder: Path, config: str) -> Iterator[ConfiguredServer]:
    """A server with this configuration, killed at the end."""
    server = ConfiguredServer(folder, config)
    server.start()
    try:
        yield server
    finally:
        server.kill()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Coroutine[Any, Any, None]]


@asynccontextmanager
async def rogue(talk: Talk, port: int = 0) -> AsyncIterator[str]:
    """A server that says what it likes; only for what no real one can be made to say. Yields host:port."""
    talks: set[asyncio.Task[None]] = set()

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        talks.add(task)
        try:
            await talk(reader, writer)
        except (ConnectionError, asyncio.CancelledError):
            pass  # the client has left, or the test is over
        finally:
            writer.close()

    server = await asyncio.start_server(accept, "127.0.0.1", port)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        for task in talks:
            task.cancel()
        await asyncio.gather(*talks, return_exceptions=True)
        await server.wait_closed()


INFO = b'INFO {"server_id":"X","version":"2.15.1","max_payload":1048576,"headers":true,"proto":1%b}\r\n'
"""What a rogue server begins with; more JSON members may be put in."""


async def greet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bytes:
    """What a server says until the client is connected; the CONNECT line it got."""
    writer.write(INFO % b"")
    connect = await reader.readline()
    while await reader.readline() not in (b"PING\r\n", b""):
        pass
    writer.write(b"PONG\r\n")
    await writer.drain()
    return connect


async def answer_pings(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """What a server without news does until the client leaves."""
    while line := await reader.readline():
        if line == b"PING\r\n":
            writer.write(b"PONG\r\n")
