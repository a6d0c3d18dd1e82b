"""The NATS client protocol, parsed synchronously and without regular expressions.

nats-py's parser decodes inside its read loop and tries up to seven patterns on each control line; a subject
with a form feed in it matches none of them, and the connection is reset for as long as anybody publishes
there. This one splits a control line at the single spaces that the server writes and hands each message on
at once, as bytes: whatever stands in a message, only its receiver can trip over it.

Protocol: https://docs.nats.io/reference/reference-protocols/nats-protocol
"""

from __future__ import annotations

from typing import Protocol

from roost.transport.failures import Malformed

MAX_CONTROL_LINE = 256 * 1024
"""Longest control line accepted, in bytes; INFO of a large cluster is the longest there is."""
MAX_MESSAGE = 65 * 1024 * 1024
"""Most bytes a message may announce: nats-server's own ceiling for `max_payload` is 64 MiB."""

_MSG, _HMSG = b"MSG", b"HMSG"
_M, _H = b"MH"
_CR = 13


class Sink(Protocol):
    """Who is told what has been received. `control` may say that the rest is not wanted, by `Parser.stop`."""

    def deliver(self, sid: bytes, subject: bytes, reply: bytes, head: bytes, data: bytes) -> None: ...

    def control(self, operation: bytes, argument: bytes) -> None: ...


class Parser:
    """Turns the bytes of one connection into calls of its sink. A new connection needs a new one."""

    __slots__ = ("_held", "_rest", "_sink", "_stopped", "_want")

    def __init__(self, sink: Sink) -> None:
        self._sink = sink
        self._rest: list[bytes] = []  # the beginning of an operation that is not complete yet
        self._held = 0  # bytes in it
        self._want = 0  # bytes of it needed to go on, as far as is known
        self._stopped = False

    def stop(self) -> None:
        """Ignore everything from here on."""
        self._stopped = True

    def feed(self, data: bytes) -> int:
        """Hand on every operation that is complete by now; the number of messages among them.

        A message is joined once, when its last byte is there: linear in its size, however it was split.
        Raises Malformed (a nats.errors.ProtocolError) when the bytes are not the NATS protocol; the connection is of no
        use then.
        """
        if self._rest:
            self._rest.append(data)
            self._held += len(data)
            if self._held < self._want:
                return 0
            data = b"".join(self._rest)
            self._rest.clear()
        deliver = self._sink.deliver
        position, size, want, messages = 0, len(data), 0, 0
        while position < size and not self._stopped:
            eol = data.find(b"\r\n", position)
            if eol < 0:
                if size - position > MAX_CONTROL_LINE:
                    raise Malformed("a control line without an end")
                break
            first = data[position]
            if first in (_M, _H):
                words = data[position:eol].split(b" ")
                body = eol + 2
                head, reply = 0, b""
                try:
                    if first == _M:
                        if len(words) == 4:
                            operation, subject, sid, last = words
                        else:
                            operation, subject, sid, reply, last = words
                        total = int(last)
                    else:
                        if len(words) == 5:
                            operation, subject, sid, middle, last = words
                        else:
                            operation, subject, sid, reply, middle, last = words
                        head, total = int(middle), int(last)
                except ValueError as error:
                    raise Malformed("a message line with other words than it should have") from error
                if not 0 <= head <= total <= MAX_MESSAGE or operation != (_MSG if first == _M else _HMSG):
                    raise Malformed("a message line with other words than it should have")
                end = body + total
                if end + 2 > size:
                    want = end + 2 - position
                    break
                if data[end] != _CR:
                    raise Malformed("a message of another length than announced")
                position = end + 2
                messages += 1
                if head:
                    body += head
                    deliver(sid, subject, reply, data[eol + 2 : body], data[body:end])
                else:
                    deliver(sid, subject, reply, b"", data[body:end])
            else:
                word, _, argument = data[position:eol].partition(b" ")
                position = eol + 2
                self._control(word, argument)
        if position < size and not self._stopped:
            rest = data[position:] if position else data
            self._rest.append(rest)
            self._held = len(rest)
            self._want = want
        return messages

    def _control(self, word: bytes, argument: bytes) -> None:
        if word in (b"PING", b"PONG", b"-ERR", b"INFO"):
            self._sink.control(word, argument)
        elif word != b"+OK":
            raise Malformed(f"the operation {word[:20]!r}")
