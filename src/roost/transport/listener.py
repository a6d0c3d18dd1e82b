"""A subscription without a queue or a task of its own: nothing in it can overflow, stall or die.

nats-py gives each subscription a task and a queue. The task ends for ever when a callback raises
CancelledError, runs one callback at a time, and the queue drops what it cannot hold.
"""

from __future__ import annotations

from collections.abc import Callable

from roost.errors import TooLarge, UnsafeToken
from roost.transport.message import Message

Callback = Callable[[Message], None]

MAX_CONTROL_LINE = 4096
"""nats-server's default `max_control_line`, in bytes: a longer line closes the connection."""


class Listener:
    """One subscription of a `Client`.

    `callback` runs as soon as a message has been read, before the next one is looked at. It must not block;
    what it raises is logged and counted, and ends nothing.
    """

    __slots__ = ("callback", "denied", "ended", "key", "on_denied", "queue", "subject")

    def __init__(self, sid: int, subject: str, queue: str, callback: Callback) -> None:
        self.key = b"%d" % sid
        self.subject = subject
        self.queue = queue
        self.callback = callback
        self.denied = False
        """True when the server does not let this user subscribe: nothing will arrive."""
        self.on_denied: Callable[[], None] | None = None
        self.ended = False
        """True once the server has been asked for no more."""

    @property
    def sid(self) -> int:
        """Its number on the connection."""
        return int(self.key)

    @property
    def command(self) -> bytes:
        """What asks the server for it."""
        return f"SUB {self.subject} {self.queue} {self.sid}\r\n".encode()


def check_pattern(subject: str, queue: str) -> None:
    """Refuse what the server would refuse: by an error without a name, or by closing the connection.

    Raises UnsafeToken for an empty subject or token, a misplaced wildcard, white space or anything
    unprintable; TooLarge for more than fits into a control line.
    """
    check_printable(subject, name="subject")
    if queue:
        check_printable(queue, name="queue")
    words = subject.split(".")
    for number, word in enumerate(words, 1):
        if not word:
            raise UnsafeToken(name="subject", value=subject, reason="it has an empty token")
        if len(word) > 1 and ("*" in word or ">" in word):
            raise UnsafeToken(name="subject", value=subject, reason="a wildcard must be a token of its own")
        if word == ">" and number < len(words):
            raise UnsafeToken(name="subject", value=subject, reason="`>` may only be the last token")
    size = len(subject.encode()) + len(queue.encode()) + 32
    if size > MAX_CONTROL_LINE:
        raise TooLarge(subject=subject[:80], size=size, limit=MAX_CONTROL_LINE)


def check_printable(text: str, *, name: str) -> None:
    """Raises UnsafeToken for an empty text, white space, or anything that cannot be printed."""
    if not text:
        raise UnsafeToken(name=name, value=text, reason="it is empty")
    if " " in text or not text.isprintable():
        raise UnsafeToken(
            name=name, value=text, reason="it has white space or an unprintable character in it"
        )
