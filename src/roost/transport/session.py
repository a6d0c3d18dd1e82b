"""The life of a connection: made, listened to for signs of life, lost, made again, closed.

A connected session has no task of its own, so none that could die: bytes are handled as they arrive, pings
are a timer. It never ends by itself. nats-py closes its client for good on every error of the server but
two (an expired token, a full server), waits for ever for a frozen server to take the last bytes before it
reconnects, and gives a dead connection out as a live one when the server ends it during the handshake.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
import ssl
from abc import abstractmethod
from collections.abc import Callable
from threading import get_ident
from typing import Any

from roost.errors import ConfigError, ConnectionClosed, Disconnected, NotConnected, WrongLoop
from roost.transport.compat import NatsPy
from roost.transport.failures import Anonymous, AuthRefused, Stale, is_auth_failure
from roost.transport.handshake import greet, parse_info
from roost.transport.listener import Listener
from roost.transport.login import Login
from roost.transport.parser import Parser
from roost.transport.servers import merge
from roost.transport.wire import Wire

log = logging.getLogger("roost.transport")

RECONNECT_BASE_S = 0.25
RECONNECT_CAP_S = 2.0
REFUSED_CAP_S = 10.0
"""Longest pause while the server refuses the credentials."""
ATTEMPT_CAP_S = 5.0
"""Most seconds that one attempt to reconnect may take."""
PING_INTERVAL_S = 10.0
SILENT_PINGS = 2
"""A connection is given up when nothing at all has arrived for this many pings: within 30 s."""

_DENIED = re.compile(
    r"permissions violation for (?P<action>publish|subscription) to \"(?P<subject>.*?)\"(?: using queue .*| \(sid .*)?",
    re.IGNORECASE | re.DOTALL,
)


def reconnect_delay_s(attempt: int, u: float, cap_s: float = RECONNECT_CAP_S) -> float:
    """Seconds before reconnect `attempt` (0 is the first), with `u` drawn from [0, 1).

    Exponential from 0.25 s to 2 s with full jitter: clients of a restarted server come back spread over the
    whole interval (nats-py waits a fixed 2 s: 50 of 50 clients in the same instant).
    """
    return float(min(cap_s, RECONNECT_BASE_S * 2 ** min(attempt, 10)) * u)


class Session(NatsPy):
    """The part of `Client` that keeps it connected."""

    def __init__(self, observe: Callable[[str, str], None]) -> None:
        super().__init__()
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._thread = get_ident()
        self._wire: Wire | None = None
        self._parser = Parser(self)
        self._listeners: dict[bytes, Listener] = {}
        self._sendable = False
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._scheduled = False
        self._ping_timer: asyncio.TimerHandle | None = None
        self._silent = 0
        self.ping_interval_s = PING_INTERVAL_S
        self.attempt_s = ATTEMPT_CAP_S
        """Most seconds that one attempt to connect may take."""
        self.on_disconnect: list[Callable[[], None]] = []
        self.on_reconnect: list[Callable[[], None]] = []
        self.on_denied: list[Callable[[str, str], None]] = []
        self.login = Login()
        """Who the client says it is, and how it protects that."""
        self.auth_failures = 0
        """How often in a row the server has refused the credentials."""
        self._trouble = ""

    @abstractmethod
    def _write(self) -> None: ...

    @abstractmethod
    def deliver(self, sid: bytes, subject: bytes, reply: bytes, head: bytes, data: bytes) -> None: ...

    # Making it ------------------------------------------------------------------------------------

    async def _select_next_server(self) -> None:
        """nats-py's `connect` asks for one attempt; all of it happens here."""
        await self.dial()

    async def _process_connect_init(self) -> None:
        """Done in `dial`."""

    async def dial(self) -> None:
        """One attempt at the next server. Raises what `greet` raises, and TimeoutError."""
        srv = self._server_pool.pop(0)
        self._server_pool.append(srv)
        self._current_server = srv
        wire = Wire()
        try:
            async with asyncio.timeout(self.attempt_s):
                await wire.connect(srv.uri.hostname or "", srv.uri.port or 4222)
                exposed = not (self.login.insecure or wire.is_local)
                if exposed and not self.login.says_who:
                    raise Anonymous
                await greet(
                    wire,
                    hostname=self.options.get("tls_hostname") or srv.tls_name or srv.uri.hostname or "",
                    context=lambda: self.ssl_context,
                    tls_wanted="tls" in self.options or self.login.tls is not None or srv.uri.scheme == "tls",
                    tls_first=bool(self.options["tls_handshake_first"]) or self.login.tls_first,
                    exposed=exposed,
                    connect=self._connect_line,
                )
        except BaseException:
            wire.abort()
            raise
        self._connected(wire)

    def _connect_line(self, info: dict[str, Any]) -> bytes:
        self._server_info = info
        self._auth_configured = self._auth_configured or bool(info.get("auth_required"))
        return self.login.completed(self._connect_command(), info)

    @property
    def ssl_context(self) -> ssl.SSLContext:
        """Made afresh for each connection, of the files as they are now. Raises ConfigError."""
        given = self.options.get("tls")
        return given if given is not None else self.login.ssl_context()

    @property
    def tls_version(self) -> str:
        """Such as TLSv1.3; empty when the connection is not encrypted, or there is none."""
        return self._wire.tls_version if self._wire is not None else ""

    def _connected(self, wire: Wire) -> None:
        """Everything that follows a handshake, in one turn of the loop: nothing can come between."""
        self._wire = wire
        self._parser = Parser(self)
        self._status = self.CONNECTED
        self._sendable = True
        self._pongs = []
        self._silent = 0
        self._client_id = self._server_info.get("client_id")
        self.auth_failures = 0
        self._trouble = ""
        self._learn(self._server_info)
        wire.write(self._replay())
        wire.start(self._received, self._lost)
        self._ping_timer = self._loop.call_later(self.ping_interval_s, self._ping)
        self._look_at_login()

    def _replay(self) -> bytes:
        """The subscriptions, as a fresh connection needs them."""
        for key in [key for key, listener in self._listeners.items() if listener.ended]:
            del self._listeners[key]
        lines = []
        for listener in self._listeners.values():
            listener.denied = False
            lines.append(listener.command)
        for sid, sub in list(self._subs.items()):
            if 0 < sub._max_msgs <= sub._received:
                del self._subs[sid]
                continue
            lines.append(f"SUB {sub._subject} {sub._queue} {sid}\r\n".encode())
            if sub._max_msgs:
                lines.append(f"UNSUB {sid} {sub._max_msgs - sub._received}\r\n".encode())
        return b"".join(lines)

    # Keeping it -----------------------------------------------------------------------------------

    def _received(self, data: bytes) -> None:
        self.stats["in_bytes"] += len(data)
        scheduled, self._scheduled = self._scheduled, True  # what callbacks send goes out right after them
        try:
            self.stats["in_msgs"] += self._parser.feed(data)
        finally:
            self._scheduled = scheduled
            self._write()

    def control(self, operation: bytes, argument: bytes) -> None:
        """Anything but a message; called by the parser."""
        if operation == b"PING":
            self._command(b"PONG\r\n")
        elif operation == b"PONG":
            self._pongs_received += 1
            if self._pongs:
                future = self._pongs.pop(0)
                if not future.done():  # whoever waited has given up: nats-py raised here, and died
                    future.set_result(True)
        elif operation == b"INFO":
            self._learn(parse_info(argument))
        else:
            self._refused(argument.decode("utf-8", "replace").strip().strip("'"))

    def _ping(self) -> None:
        """Ask for a sign of life, and give the connection up when there was none for several pings."""
        wire = self._wire
        if wire is None or self._status != self.CONNECTED:
            return
        self._silent = 0 if wire.heard else self._silent + 1
        wire.heard = False
        if self._silent >= SILENT_PINGS:
            self._lost(Stale())
            return
        self._ping_with(self._loop.create_future())
        self._ping_timer = self._loop.call_later(self.ping_interval_s, self._ping)
        self._look_at_login()

    def _look_at_login(self) -> None:
        """Say in time that it is about to expire; by the clock of the day, and so with the pings."""
        text = self.login.expires_soon()
        if text:
            self._tell("login_expires_soon", text)

    # Asking whether it is there -------------------------------------------------------------------

    async def flush(self, timeout: float = 10.0) -> None:
        """Wait until the server has processed all that was sent. Raises TimeoutError, NotConnected, Disconnected."""
        await self.rtt(timeout)

    async def rtt(self, timeout: float = 10.0) -> float:
        """Seconds of one round trip to the server. Raises TimeoutError, NotConnected, Disconnected."""
        if self._status != self.CONNECTED or get_ident() != self._thread:
            self._refuse("a ping")
        future: asyncio.Future[Any] = self._loop.create_future()
        begun = self._loop.time()
        self._ping_with(future)
        async with asyncio.timeout(timeout):
            await future
        return self._loop.time() - begun

    def _ping_with(self, future: asyncio.Future[Any]) -> None:
        """A ping follows what was sent before it, so its pong means that the server has seen all that."""
        self._command(b"PING\r\n")
        self._pongs.append(future)

    def when_processed(self, function: Callable[[], object]) -> None:
        """Call `function` once the server has processed all that was sent, or the connection has ended.

        What the server had sent by then for an ended subscription has reached its callback.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        future.add_done_callback(lambda _: function())
        if self._status == self.CONNECTED:
            self._ping_with(future)
        else:
            future.set_result(None)

    # What the server says -------------------------------------------------------------------------

    def _learn(self, info: dict[str, Any]) -> None:
        """Take over the limit of a message and the addresses of a cluster's other servers."""
        self._server_info |= info
        limit = info.get("max_payload")
        if isinstance(limit, int) and limit > 0:
            self._max_payload = limit
        if self._current_server is not None:
            known = merge(
                self._server_pool, self._current_server, info.get("connect_urls"), self._parse_server_uri
            )
            self._server_pool[:] = known
        if info.get("ldm"):
            self._tell(
                "lame_duck", "the server is about to shut down and will close its connections one by one"
            )

    def _refused(self, text: str) -> None:
        """Handle -ERR: a permission names its subject; after a fatal error the server closes the connection."""
        self.stats["errors_received"] += 1
        denied = _DENIED.fullmatch(text)
        if denied:
            subject = re.sub(r"\\(.)", r"\1", denied["subject"])  # the server quotes it as Go's %q does
            self._denied("publish" if denied["action"].lower() == "publish" else "subscribe", subject)
        elif is_auth_failure(text):
            self._auth_failed(text)
        else:
            self._tell("server_error", text)

    def _auth_failed(self, text: str) -> None:
        self.auth_failures += 1
        why = self.login.why_refused()
        self._trouble = f"the server refuses the credentials: {text}{why}"
        self._tell("auth_failed", f"{text} ({self.auth_failures} times in a row){why}")

    def _denied(self, action: str, subject: str) -> None:
        self._tell("permission_denied", f"{action} {subject}")
        if action == "subscribe":
            for listener in list(self._listeners.values()):
                if listener.subject == subject:
                    listener.denied = True
                    if listener.on_denied is not None:
                        self._call(listener.on_denied)
        for tell in list(self.on_denied):
            self._call(tell, action, subject)

    @property
    def backlog(self) -> int:
        """Bytes accepted that the kernel has not taken yet."""
        return self._out_bytes + (self._wire.backlog if self._wire is not None else 0)

    def _tell(self, event: str, detail: str) -> None:
        self._call(self._observe, event, detail)

    def _call(self, function: Callable[..., None], *arguments: str) -> None:
        """Nothing that a callback does may harm the connection."""
        try:
            function(*arguments)
        except (Exception, asyncio.CancelledError):
            self.callback_errors += 1
            log.exception("a callback of the connection failed; the connection goes on")

    def _refuse(self, operation: str) -> None:
        """Raises why nothing can be sent now: WrongLoop, ConnectionClosed, NotConnected."""
        if get_ident() != self._thread:
            raise WrongLoop(operation)
        if self.is_closed:
            raise ConnectionClosed()
        if self._status == self.CONNECTED:
            operation += f" ({self.backlog} bytes already wait for a server that does not take them)"
        elif self._trouble:
            operation += f" ({self._trouble})"
        raise NotConnected(operation)

    # Losing it ------------------------------------------------------------------------------------

    def _lost(self, error: Exception) -> None:
        """The connection has ended: everybody who waits is told, and it is made again."""
        if self._status != self.CONNECTED:
            return
        unsent = self.backlog
        self._disconnect(self.RECONNECTING)
        if self._wire is not None:
            self._wire.abort()
        self._tell(
            "connection_lost", f"{error}" + (f"; {unsent} bytes were not sent any more" if unsent else "")
        )
        self._reconnection_task = self._loop.create_task(self._reconnect(), name="roost-reconnect")

    def _disconnect(self, status: int) -> None:
        """Leave the state of being connected, wanted or not."""
        self._status = status
        self._sendable = False
        self._parser.stop()
        self._out.clear()
        self._out_bytes = 0
        if self._ping_timer is not None:
            self._ping_timer.cancel()
        pongs, self._pongs = self._pongs, []
        for pong in pongs:
            if not pong.done():
                pong.set_exception(Disconnected("a ping"))
                pong.exception()  # nobody waits for those of `_ping`
        for tell in list(self.on_disconnect):
            self._call(tell)

    async def _reconnect(self) -> None:
        """Try until it works; nothing ends it but `close`."""
        if not self.options["dont_randomize"]:
            random.shuffle(self._server_pool)
        attempt = 0
        while True:
            cap_s = REFUSED_CAP_S if self.auth_failures else RECONNECT_CAP_S
            await asyncio.sleep(reconnect_delay_s(attempt, random.random(), cap_s))
            attempt += 1
            try:
                await self.dial()
                break
            except Exception as error:  # whatever it is, a later attempt may work
                if isinstance(error, AuthRefused):
                    self._auth_failed(str(error))
                else:
                    self.auth_failures = 0
                    self._trouble = str(error) if isinstance(error, ConfigError) else ""
                    self._tell("reconnect_failed", f"{type(error).__name__}: {error}")
        self.stats["reconnects"] += 1
        self._tell("reconnected", str(self._server_info.get("server_name", "")))
        for tell in list(self.on_reconnect):
            self._call(tell)

    async def force_reconnect(self) -> None:
        """Give the connection up and make another."""
        self._lost(Stale())

    async def close(self, timeout_s: float = 2.0) -> None:
        """Send what is buffered, then end, for good: within `timeout_s` seconds, server or no server."""
        until = self._loop.time() + timeout_s
        try:
            if self._status == self.CONNECTED:
                await self.flush(timeout_s * 0.75)
        except (TimeoutError, ConnectionError) as error:
            self._tell(
                "close_unflushed", f"the last flush did not finish: {str(error) or 'no answer in time'}"
            )
        finally:
            wire, task = self._wire, self._reconnection_task
            if self._status == self.CONNECTED:
                self._disconnect(self.CLOSED)
            self._status = self.CLOSED
            self._wire = self._reconnection_task = None
            self._listeners.clear()
            try:
                if task is not None and task is not asyncio.current_task():
                    task.cancel()
                    await asyncio.gather(task, return_exceptions=True)
                await self._end_subscriptions()
                if wire is not None:
                    await wire.close(max(0.0, until - self._loop.time()))
            finally:
                if wire is not None:
                    wire.abort()
