"""The only NATS client that the rest of Roost sees: nats-py with its failure modes closed.

nats-py supplies options and credentials. What carries messages is replaced, for it was seen to lose them or
to hang (`tests/defects` makes each fault on a real server): a read loop that one bad message ends, pings
that raise for a cancelled waiter, errors that close a client for good, publishes that are buffered while
disconnected and sent after their caller gave up, requests that outlive their connection.
"""

from __future__ import annotations

import asyncio
import logging
from threading import get_ident

from roost.errors import TooLarge, WrongLoop
from roost.transport.listener import MAX_CONTROL_LINE, Callback, Listener, check_pattern, check_printable
from roost.transport.message import Message
from roost.transport.session import Session
from roost.transport.wire import HIGH_WATER

log = logging.getLogger("roost.transport")

CHUNK = 64 * 1024
"""Bytes sent in one turn of the loop after which they are handed to the socket at once."""
CHOKED = 16 * HIGH_WATER
"""Bytes waiting for the socket above which `Client.send` refuses (64 MiB): the server takes nothing any more."""


class Client(Session):
    """A hardened connection. Built by `roost.transport.connection.open_client`.

    `observe` is told of what happened, as (event, detail), synchronously and never from a user's code.
    """

    PRESSURE = HIGH_WATER
    """Bytes waiting for the socket above which `pressure` waits (4 MiB)."""

    # Sending ------------------------------------------------------------------------------------

    def send(self, subject: str, data: bytes = b"", reply: str = "", head: bytes = b"") -> None:
        """Put one message on the wire, at the latest at the end of this turn of the loop.

        Raises NotConnected (nothing was sent, nothing is buffered), ConnectionClosed, WrongLoop, UnsafeToken
        for white space or anything unprintable in a subject, TooLarge when headers and payload together
        exceed the server's `max_payload` (it would close the connection).
        """
        if not self._sendable or get_ident() != self._thread:
            self._refuse(f"a message to {subject}")
        if not subject or not subject.isprintable() or " " in subject:
            check_printable(subject, name="subject")
        if reply and (not reply.isprintable() or " " in reply):
            check_printable(reply, name="reply")
        size = len(head) + len(data)
        if size > self._max_payload:
            raise TooLarge(subject=subject, size=size, limit=self._max_payload)
        if head:
            line = f"HPUB {subject} {reply} {len(head)} {size}\r\n".encode()
        else:
            line = f"PUB {subject} {reply} {size}\r\n".encode()
        if len(line) > MAX_CONTROL_LINE:
            raise TooLarge(subject=subject[:80], size=len(line), limit=MAX_CONTROL_LINE)
        if not self._scheduled:
            self._schedule()
        self._out += (line, head, data, b"\r\n")
        self._out_bytes += size
        self.stats["out_msgs"] += 1
        if self._out_bytes > CHUNK:
            self._write()

    def _command(self, line: bytes) -> None:
        if not self._scheduled:
            self._schedule()
        self._out.append(line)

    def _schedule(self) -> None:
        if asyncio._get_running_loop() is not self._loop:
            raise WrongLoop("a message")
        self._scheduled = True
        self._loop.call_soon(self._turn_ends)

    def _turn_ends(self) -> None:
        self._scheduled = False
        self._write()

    def _write(self) -> None:
        """Hand all that is buffered to the socket in one write, in order."""
        wire = self._wire
        if not self._out or wire is None:
            return
        data = b"".join(self._out)
        self._out.clear()
        self._out_bytes = 0
        self.stats["out_bytes"] += len(data)
        wire.write(data)
        if wire.full and self._sendable and wire.backlog > CHOKED:
            self._sendable = False
            self._loop.call_later(0.1, self._may_send_again)

    def _may_send_again(self) -> None:
        if self._status != self.CONNECTED or self._sendable or self._wire is None:
            return
        self._sendable = self._wire.backlog <= CHOKED
        if not self._sendable:
            self._loop.call_later(0.1, self._may_send_again)

    async def pressure(self) -> None:
        """Wait while more than `PRESSURE` bytes wait for the socket, and there is a connection."""
        self._write()
        while self._wire is not None and self._wire.full and self._status == self.CONNECTED:
            await self._wire.drained()

    # Receiving ----------------------------------------------------------------------------------

    def listen(self, subject: str, callback: Callback, queue: str = "") -> Listener:
        """Subscribe with a synchronous callback; survives reconnects.

        May be called while disconnected. Raises ConnectionClosed, WrongLoop, UnsafeToken, TooLarge.
        """
        if self.is_closed or get_ident() != self._thread:
            self._refuse(f"a subscription to {subject}")
        check_pattern(subject, queue)
        self._sid += 1
        listener = Listener(self._sid, subject, queue, callback)
        self._listeners[listener.key] = listener
        if self._status == self.CONNECTED:
            self._command(listener.command)
        return listener

    def unlisten(self, listener: Listener) -> None:
        """End a subscription; messages already on their way are passed over, and counted as `unroutable`."""
        self.end_interest(listener)
        self._listeners.pop(listener.key, None)

    def end_interest(self, listener: Listener) -> None:
        """Ask the server for no more; what is on its way still reaches the callback, until `unlisten`."""
        if listener.ended:
            return
        listener.ended = True
        if listener.key in self._listeners and self._status == self.CONNECTED:
            self._command(b"UNSUB %b\r\n" % listener.key)

    def deliver(self, sid: bytes, subject: bytes, reply: bytes, head: bytes, data: bytes) -> None:
        """Route one message; called by the parser. Nothing in a message can make this raise."""
        listener = self._listeners.get(sid)
        if listener is None:
            self._hand_over(sid, subject, reply, head, data)
            return
        try:
            listener.callback(
                Message(subject.decode("utf-8", "replace"), reply.decode("utf-8", "replace"), head, data)
            )
        except (Exception, asyncio.CancelledError):
            self.callback_errors += 1
            log.exception("a message callback failed; the connection goes on")
