"""The only NATS client that the rest of Roost sees: nats-py with its failure modes closed.

nats-py supplies connecting, authentication, TLS and reconnection. What is replaced here is what was
seen to lose messages or to hang (`tests/defects` makes each fault on a real server): a read loop that
one bad message ends, pings that raise on a cancelled waiter, errors that close a client for good,
publishes that are buffered while disconnected and sent after their caller gave up, requests that
outlive their connection. A client never ends by itself: only `close` ends it.
"""

from __future__ import annotations

import asyncio
import logging
import random
import re
from collections.abc import Awaitable, Callable
from typing import Any

import nats.aio.client as upstream
from nats import errors as nats_errors
from nats.aio.client import Server
from nats.aio.msg import Msg

from roost.errors import ConnectionClosed, Disconnected, NotConnected, TooLarge, UnsafeToken, WrongLoop
from roost.transport.message import Message
from roost.transport.parser import Parser

log = logging.getLogger("roost.transport")

RECONNECT_BASE_S = 0.25
RECONNECT_CAP_S = 4.0
WRITE_BUFFER_LIMIT = 4 * 1024 * 1024
"""Bytes waiting for the socket above which `Client.pressure` waits."""
MAX_CONTROL_LINE = 4096
"""nats-server's default `max_control_line`, in bytes: a longer subject line closes the connection."""

_UNSAFE = re.compile(r"[\x00-\x20\x7f]")
_DENIED = re.compile(r"permissions violation for (publish|subscription) to \"([^\"]*)\"", re.IGNORECASE)
_FATAL_AUTH = (
    "authorization violation",
    "authentication expired",
    "authentication revoked",
    "account authentication",
)

Callback = Callable[[Message], None]


def reconnect_delay_s(attempt: int, u: float) -> float:
    """Seconds before reconnect `attempt` (0 is the first), with `u` drawn from [0, 1).

    Exponential from 0.25 s to 4 s with full jitter: clients of a restarted server come back spread
    over the whole interval (nats-py waits a fixed 2 s: 50 of 50 clients in the same instant).
    """
    return float(min(RECONNECT_CAP_S, RECONNECT_BASE_S * 2 ** min(attempt, 10)) * u)


class Listener:
    """A subscription whose callback runs in the read loop, without a queue or a task of its own.

    The callback must not block; what it raises is logged and counted, and ends nothing. The attributes
    with an underscore are those that nats-py's reconnect and close look at.
    """

    __slots__ = (
        "_max_msgs",
        "_message_iterator",
        "_pending_next_msgs_calls",
        "_queue",
        "_received",
        "_subject",
        "_wait_for_msgs_task",
        "callback",
        "denied",
        "on_denied",
        "sid",
    )

    def __init__(self, sid: int, subject: str, queue: str, callback: Callback) -> None:
        self.sid = sid
        self.callback = callback
        self.denied = False
        self.on_denied: Callable[[], None] | None = None
        self._subject = subject
        self._queue = queue
        self._received = 0
        self._max_msgs = 0
        self._wait_for_msgs_task = None
        self._message_iterator = None
        self._pending_next_msgs_calls = None

    @property
    def subject(self) -> str:
        return self._subject


class Client(upstream.Client):
    """A hardened connection. Built by `roost.transport.connection.open_client`.

    `observe` is told of what happened, as (event, detail), synchronously and never from a user's code.
    """

    def __init__(self, observe: Callable[[str, str], None]) -> None:
        super().__init__()
        self._ps = Parser(self)
        self._observe = observe
        self._loop = asyncio.get_running_loop()
        self._flush_handle: asyncio.Handle | None = None
        self._buffered: list[bytes] = []
        self._buffered_bytes = 0
        self.on_disconnect: list[Callable[[], None]] = []
        self.on_reconnect: list[Callable[[], None]] = []
        self.on_denied: list[Callable[[str, str], None]] = []
        self.callback_errors = 0
        self.unroutable = 0
        self._auth_failures = 0
        self._attempt = 0

    PRESSURE = WRITE_BUFFER_LIMIT

    # Sending ------------------------------------------------------------------------------------

    def send(self, subject: str, data: bytes = b"", reply: str = "", head: bytes = b"") -> None:
        """Put one message on the wire at the end of this turn of the loop.

        Raises NotConnected (nothing was sent, nothing is buffered), ConnectionClosed, WrongLoop,
        UnsafeToken for white space or control characters in a subject, TooLarge when headers and
        payload together exceed the server's ``max_payload`` (it would close the connection).
        """
        if self._status != self.CONNECTED:
            self._refuse(subject)
        if asyncio._get_running_loop() is not self._loop:
            raise WrongLoop(f"sending to {subject}")
        if _UNSAFE.search(subject) or _UNSAFE.search(reply) or not subject:
            raise UnsafeToken(
                name="subject", value=subject, reason="white space, control characters or nothing at all"
            )
        total = len(head) + len(data)
        if total > self._max_payload:
            raise TooLarge(subject=subject, size=total, limit=self._max_payload)
        if head:
            line = f"HPUB {subject} {reply} {len(head)} {total}\r\n".encode()
        else:
            line = f"PUB {subject} {reply} {total}\r\n".encode()
        if len(line) > MAX_CONTROL_LINE:
            raise TooLarge(subject=subject[:80], size=len(line), limit=MAX_CONTROL_LINE)
        self._buffered += (line, head, data, b"\r\n") if head else (line, data, b"\r\n")
        self._buffered_bytes += total
        self.stats["out_msgs"] += 1
        self.stats["out_bytes"] += total
        if self._flush_handle is None:
            self._flush_handle = self._loop.call_soon(self._write)

    def _refuse(self, operation: str) -> None:
        if self.is_closed:
            raise ConnectionClosed()
        raise NotConnected(operation)

    def _write(self) -> None:
        """Hand all that is buffered to the socket in one write, in order."""
        if self._flush_handle is not None:
            self._flush_handle.cancel()
            self._flush_handle = None
        if not self._buffered:
            return
        data = b"".join(self._buffered)
        self._discard()
        if self._transport is not None and self._status in (self.CONNECTED, self.CLOSED):
            try:
                self._transport.write(data)
            except (OSError, RuntimeError, AttributeError) as error:
                self._observe("write_failed", str(error))

    def _discard(self) -> None:
        self._buffered.clear()
        self._buffered_bytes = 0

    @property
    def backlog(self) -> int:
        """Bytes accepted that the kernel has not taken yet."""
        writer = getattr(self._transport, "_io_writer", None)
        return self._buffered_bytes + (
            int(writer.transport.get_write_buffer_size()) if writer is not None else 0
        )

    async def pressure(self) -> None:
        """Wait while more than `WRITE_BUFFER_LIMIT` bytes wait for the socket."""
        if (
            self.backlog > WRITE_BUFFER_LIMIT
            and self._transport is not None
            and self._status == self.CONNECTED
        ):
            self._write()
            try:
                await self._transport.drain()
            except OSError as error:
                self._observe("write_failed", str(error))

    async def _send_command(self, cmd: bytes, priority: bool = False) -> None:
        """nats-py's own commands (PONG, SUB of its subscriptions) take the same ordered way."""
        self._buffered.append(cmd)
        if self._status == self.CONNECTED and self._flush_handle is None:
            self._flush_handle = self._loop.call_soon(self._write)

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        self._write()
        future: asyncio.Future[None] = self._loop.create_future()
        future.set_result(None)
        return future

    async def _flusher(self) -> None:
        """nats-py expects a flusher task for the life of a connection; `_write` does its work."""
        await self._loop.create_future()

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """nats-py's publish, refused while disconnected instead of buffered past its caller's patience."""
        if self._status != self.CONNECTED:
            self._refuse(subject)
        size = (
            sum(len(name.encode()) + len(value.encode()) + 4 for name, value in (headers or {}).items()) + 12
        )
        if len(payload) + (size if headers else 0) > self._max_payload:
            raise TooLarge(subject=subject, size=len(payload) + size, limit=self._max_payload)
        if len(subject) + len(reply) + 40 > MAX_CONTROL_LINE:
            raise TooLarge(subject=subject[:80], size=len(subject) + len(reply) + 40, limit=MAX_CONTROL_LINE)
        await super().publish(subject, payload, reply, headers)

    # Receiving ----------------------------------------------------------------------------------

    def listen(self, subject: str, callback: Callback, queue: str = "") -> Listener:
        """Subscribe with a synchronous callback; survives reconnects. Raises ConnectionClosed, UnsafeToken."""
        if self.is_closed:
            self._refuse(subject)
        if not subject or _UNSAFE.search(subject) or _UNSAFE.search(queue):
            raise UnsafeToken(
                name="subject", value=subject, reason="white space, control characters or nothing at all"
            )
        self._sid += 1
        listener = Listener(self._sid, subject, queue, callback)
        self._subs[self._sid] = listener  # type: ignore[assignment]
        if self._status == self.CONNECTED:
            self._command(f"SUB {subject} {queue} {listener.sid}\r\n".encode())
        return listener

    def unlisten(self, listener: Listener) -> None:
        """End a subscription; messages already on their way are passed over."""
        if self._subs.pop(listener.sid, None) is not None and self._status == self.CONNECTED:
            self._command(f"UNSUB {listener.sid}\r\n".encode())

    def end_interest(self, listener: Listener) -> None:
        """Ask the server for no more; what is on its way still reaches the callback, until `unlisten`."""
        if listener.sid in self._subs and self._status == self.CONNECTED:
            self._command(f"UNSUB {listener.sid}\r\n".encode())

    def _command(self, line: bytes) -> None:
        self._buffered.append(line)
        if self._flush_handle is None:
            self._flush_handle = self._loop.call_soon(self._write)

    def deliver(
        self, sid: int, subject: bytes, reply: bytes, head: bytes, data: bytes
    ) -> Awaitable[None] | None:
        """Route one message; called by the parser. Nothing in a message can make this raise."""
        self.stats["in_msgs"] += 1
        self.stats["in_bytes"] += len(data)
        target: object = self._subs.get(sid)
        if type(target) is Listener:
            try:
                target.callback(
                    Message(subject.decode("utf-8", "replace"), reply.decode("utf-8", "replace"), head, data)
                )
            except (Exception, asyncio.CancelledError):
                self.callback_errors += 1
                log.exception("a message callback failed; the connection goes on")
            return None
        if target is None:
            self.unroutable += 1
            return None
        return self._deliver_upstream(sid, subject, reply, head, data)

    async def _deliver_upstream(
        self, sid: int, subject: bytes, reply: bytes, head: bytes, data: bytes
    ) -> None:
        self.stats["in_msgs"] -= 1
        self.stats["in_bytes"] -= len(data)
        try:
            await self._process_msg(sid, subject, reply, data, head)
        except Exception:
            self.callback_errors += 1
            log.exception("a message could not be handed to its subscription; the connection goes on")

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        return _ReplyMsg(
            subject=subject.decode("utf-8", "replace"),
            reply=reply.decode("utf-8", "replace"),
            data=data,
            headers=headers,
            _client=self,
            _sid=sid,
        )

    async def _read_loop(self) -> None:
        """Read until the connection ends; whatever goes wrong leads to a reconnect, never to silence."""
        while not (self.is_closed or self.is_reconnecting) and self._transport is not None:
            try:
                if self._transport.at_eof():
                    await self._process_op_err(nats_errors.UnexpectedEOF())
                    return
                data = await self._transport.read(65536)
                if data:
                    await self._ps.parse(data)
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self._observe("read_failed", f"{type(error).__name__}: {error}")
                await self._process_op_err(error)
                return

    async def _process_ping(self) -> None:
        self._command(upstream.PONG_PROTO)

    async def _process_pong(self) -> None:
        """A pong whose waiter has given up is counted and forgotten (nats-py raised and died)."""
        self._pings_outstanding = 0
        self._pongs_received += 1
        if self._pongs:
            future = self._pongs.pop(0)
            if not future.done():
                future.set_result(True)

    async def _send_ping(self, future: asyncio.Future[Any] | None = None) -> None:
        """Pings follow what was sent before them, so that a pong means that the server has seen it."""
        if future is None:
            future = self._loop.create_future()
            future.set_result(True)
        self._pongs.append(future)
        self._command(upstream.PING_PROTO)

    async def flush(self, timeout: float = 10.0) -> None:  # type: ignore[override]
        """Wait until the server has processed all that was sent. Raises TimeoutError, NotConnected."""
        await self.rtt(timeout)

    async def rtt(self, timeout: float = 10.0) -> float:  # type: ignore[override]
        """Seconds of one round trip to the server. Raises TimeoutError, NotConnected."""
        if self._status != self.CONNECTED:
            self._refuse("a ping")
        future: asyncio.Future[Any] = self._loop.create_future()
        begun = self._loop.time()
        await self._send_ping(future)
        async with asyncio.timeout(timeout):
            await future
        return self._loop.time() - begun

    # Errors and reconnection --------------------------------------------------------------------

    async def _process_err(self, err_msg: str) -> None:
        """Handle -ERR: a permission names its subject; anything else leads to a reconnect.

        nats-py closes the client for good on every error but two, so that an expired token or a full
        server ended an agent's life in silence.
        """
        denied = _DENIED.search(err_msg)
        if denied:
            self._denied("publish" if denied[1].lower() == "publish" else "subscribe", denied[2])
            return
        text = err_msg.strip("'")
        error: Exception = nats_errors.Error(f"nats: {text}")
        if any(sign in text.lower() for sign in _FATAL_AUTH):
            self._auth_failures += 1
            error = nats_errors.AuthorizationError()
            self._observe("auth_failed", f"{text} ({self._auth_failures} times in a row)")
        elif "invalid subject" in text.lower() or "permissions violation" in text.lower():
            self._observe("server_error", text)
            return
        else:
            self._observe("server_error", text)
        self._err = error
        await self._process_op_err(error)

    def _denied(self, action: str, subject: str) -> None:
        self._observe("permission_denied", f"{action} {subject}")
        if action == "subscribe":
            for target in list(self._subs.values()):
                if isinstance(target, Listener) and target.subject == subject:
                    target.denied = True
                    if target.on_denied is not None:
                        target.on_denied()
        for tell in list(self.on_denied):
            tell(action, subject)

    async def _process_op_err(self, e: Exception) -> None:
        if self.is_closed or self.is_reconnecting:
            return
        if self.is_connecting:
            self._err = e
            return
        self._observe("connection_lost", f"{type(e).__name__}: {e}")
        self._discard()
        self._status = self.RECONNECTING
        self._ps.reset()
        for pong in self._pongs:
            if not pong.done():
                pong.set_exception(Disconnected("a ping"))
        self._pongs = []
        for tell in list(self.on_disconnect):
            tell()
        if self._reconnection_task is not None:
            self._reconnection_task.cancel()
        self._reconnection_task = self._loop.create_task(self._reconnect_for_ever(), name="roost-reconnect")

    async def _reconnect_for_ever(self) -> None:
        """Drive nats-py's reconnect until it has worked; no exception of it ends the attempt."""
        self._attempt = 0
        while not self.is_closed and self._reconnection_task is asyncio.current_task():
            self._status = self.RECONNECTING
            try:
                await self._attempt_reconnect()
            except asyncio.CancelledError:
                raise
            except Exception as error:
                self._observe("reconnect_failed", f"{type(error).__name__}: {error}")
                await asyncio.sleep(reconnect_delay_s(self._attempt, random.random()))
                self._attempt += 1
                continue
            if self.is_connected:
                return

    def _choose_server(self, servers: list[Server], info: dict[str, Any]) -> tuple[Server | None, float]:
        """nats-py's hook for the next server and the seconds to wait before it."""
        delay_s = reconnect_delay_s(self._attempt // max(1, len(servers)), random.random())
        chosen = servers[self._attempt % len(servers)]
        self._attempt += 1
        return chosen, delay_s

    async def _reconnected(self) -> None:
        self._auth_failures = 0
        self._observe("reconnected", str(self._server_info.get("server_name", "")))
        for tell in list(self.on_reconnect):
            tell()

    def _connect_command(self) -> bytes:
        """Refuse to send credentials in clear to a server that was to be reached over TLS.

        A server (or whoever answers in its place) that leaves ``tls_required`` out of its INFO would
        otherwise get the password in plain text.
        """
        server = self._current_server
        wants_tls = "tls" in self.options or (server is not None and server.uri.scheme in ("tls", "wss"))
        if wants_tls and server is not None and server.uri.scheme != "wss":
            writer = getattr(self._transport, "_io_writer", None)
            if writer is None or writer.get_extra_info("ssl_object") is None:
                raise nats_errors.Error(
                    "nats: the server did not offer TLS although it was asked for; no credentials were sent"
                )
        return super()._connect_command()


class _ReplyMsg(Msg):
    """A message whose `respond` does not send the request's headers back to whoever asked."""

    async def respond(self, data: bytes) -> None:
        if not self.reply:
            raise nats_errors.Error("no reply subject available")
        await self._client.publish(self.reply, data)
