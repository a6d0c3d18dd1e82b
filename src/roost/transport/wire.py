"""One TCP or TLS connection, as an asyncio protocol: no reading task that could die unnoticed.

Bytes go to their reader in the same turn of the loop in which they arrive. During the handshake lines are
waited for; afterwards a function gets every chunk. The end of the connection, whatever its cause, is told
exactly once.
"""

from __future__ import annotations

import asyncio
import ipaddress
import ssl
from collections.abc import Callable

from roost.transport.failures import Malformed, ServerClosed

HIGH_WATER = 4 * 1024 * 1024
"""Bytes waiting for the socket above which `drained` waits."""
MAX_LINE = 256 * 1024
"""Most bytes of one line of the handshake; INFO of a large cluster is the longest."""


class Wire(asyncio.Protocol):
    """Not connected when made; see `connect`. Belongs to the loop it is made in."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._gathered = b""  # what the handshake has not read yet
        self._waiter: asyncio.Future[None] | None = None
        self._drainers: list[asyncio.Future[None]] = []
        self._on_data: Callable[[bytes], None] | None = None
        self._on_lost: Callable[[Exception], None] | None = None
        self._lost: Exception | None = None
        self._left = False  # nobody is to be told any more
        self._gone = self._loop.create_future()
        self.heard = False
        """Set whenever anything arrives."""
        self.full = False
        """Whether more than `HIGH_WATER` bytes wait for the socket."""

    # Opening ------------------------------------------------------------------------------------

    async def connect(self, host: str, port: int) -> None:
        """Raises OSError."""
        await self._loop.create_connection(lambda: self, host, port)

    async def upgrade(self, context: ssl.SSLContext, hostname: str) -> None:
        """Go on in TLS. Raises ssl.SSLError and other OSErrors, Malformed.

        Whatever was received in clear and not yet read would pass for part of the protected conversation:
        it is refused.
        """
        if self._gathered:
            raise Malformed("something in clear before the TLS handshake")
        assert self._transport is not None
        upgraded = await self._loop.start_tls(self._transport, self, context, server_hostname=hostname)
        if upgraded is None:
            raise ServerClosed
        self._transport = upgraded
        upgraded.set_write_buffer_limits(high=HIGH_WATER)

    @property
    def is_encrypted(self) -> bool:
        return self._transport is not None and self._transport.get_extra_info("ssl_object") is not None

    @property
    def tls_version(self) -> str:
        """Such as TLSv1.3; empty when the connection is not encrypted."""
        secured = self._transport.get_extra_info("ssl_object") if self._transport is not None else None
        return str(secured.version()) if secured is not None else ""

    @property
    def is_local(self) -> bool:
        """Whether the other end is on this machine: by its address, not by its name."""
        peer = self._transport.get_extra_info("peername") if self._transport is not None else None
        return isinstance(peer, tuple) and is_loopback(str(peer[0]))

    async def line(self) -> bytes:
        """The next line of the handshake, without its end. Raises ServerClosed, OSError, Malformed."""
        while True:
            line, found, rest = self._gathered.partition(b"\r\n")
            if found:
                self._gathered = rest
                return line
            if self._lost is not None:
                raise self._lost
            if len(self._gathered) > MAX_LINE:
                raise Malformed("a greeting without an end")
            self._waiter = self._loop.create_future()
            try:
                await self._waiter
            finally:
                self._waiter = None

    def start(self, on_data: Callable[[bytes], None], on_lost: Callable[[Exception], None]) -> None:
        """End of the handshake: from the next turn of the loop on, `on_data` gets each chunk.

        `on_data` may raise Malformed, which ends the connection. `on_lost` gets the reason of the end, once,
        after all data. Neither is called after `abort` or `close`.
        """
        self._loop.call_soon(self._begin, on_data, on_lost)

    def _begin(self, on_data: Callable[[bytes], None], on_lost: Callable[[Exception], None]) -> None:
        if self._left:
            return
        self._on_data, self._on_lost = on_data, on_lost
        rest, self._gathered = self._gathered, b""
        if rest:
            self.data_received(rest)
        if self._lost is not None:
            self._end(self._lost)

    # Writing ------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Queue bytes for the socket; silently nothing when the connection is at its end."""
        if self._transport is not None and self._lost is None:
            self._transport.write(data)

    @property
    def backlog(self) -> int:
        """Bytes that the kernel has not taken yet."""
        return self._transport.get_write_buffer_size() if self._transport is not None else 0

    async def drained(self) -> None:
        """Wait until there is room again, or the connection has ended."""
        if self.full and self._lost is None:
            drainer = self._loop.create_future()
            self._drainers.append(drainer)
            await drainer

    # Ending -------------------------------------------------------------------------------------

    def abort(self) -> None:
        """End at once: what is not sent is discarded, nobody is told."""
        self._left = True
        self._on_data = self._on_lost = None
        if self._lost is None:
            self._lost = ServerClosed()
        self._wake()
        if self._transport is not None:
            self._transport.abort()

    async def close(self, timeout_s: float) -> None:
        """Send what is queued, then end; after `timeout_s` seconds end at once."""
        self._left = True
        self._on_data, self._on_lost = _ignore, None
        if self._transport is None:
            return
        self._transport.close()
        try:
            async with asyncio.timeout(timeout_s):
                await asyncio.shield(self._gone)
        except TimeoutError:
            pass  # frozen or gone: nothing that is left to send would arrive
        finally:
            self.abort()

    # What the loop calls --------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        self._transport = transport
        transport.set_write_buffer_limits(high=HIGH_WATER)

    def data_received(self, data: bytes) -> None:
        self.heard = True
        if self._on_data is not None:
            try:
                self._on_data(data)
            except Malformed as error:
                self._end(error)
        elif self._lost is None:
            self._gathered += data
            if self._waiter is not None and not self._waiter.done():
                self._waiter.set_result(None)

    def eof_received(self) -> bool:
        self._end(ServerClosed())
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._end(exc if exc is not None else ServerClosed())
        if not self._gone.done():
            self._gone.set_result(None)

    def pause_writing(self) -> None:
        self.full = True

    def resume_writing(self) -> None:
        self.full = False
        self._wake_drainers()

    def _end(self, error: Exception) -> None:
        told = self._on_lost
        self._on_data = self._on_lost = None
        if self._lost is None:
            self._lost = error
        self._wake()
        if self._transport is not None:
            self._transport.abort()
        if told is not None:
            told(error)

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        self._wake_drainers()

    def _wake_drainers(self) -> None:
        drainers, self._drainers = self._drainers, []
        for drainer in drainers:
            if not drainer.done():
                drainer.set_result(None)


def is_loopback(address: str) -> bool:
    """Whether an IP address is this machine's own."""
    try:
        found = ipaddress.ip_address(address.partition("%")[0])
    except ValueError:
        return False
    mapped = found.ipv4_mapped if isinstance(found, ipaddress.IPv6Address) else None
    return (mapped or found).is_loopback


def _ignore(data: bytes) -> None:
    """What still arrives while a connection is being closed."""
