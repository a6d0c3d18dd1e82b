"""One delivery of a task to a worker."""

from __future__ import annotations

from roost.tasks.records import Ref, Subjects
from roost.transport import Message
from roost.transport.ackinfo import parse_ack

TRACE_LENGTH = 55
"""Characters of a ``traceparent`` (W3C Trace Context, version 00)."""


class Delivery:
    """What was delivered, and what the worker knows of it meanwhile."""

    __slots__ = (
        "attempt",
        "begun",
        "data",
        "deadline",
        "delivered",
        "expired",
        "message",
        "noted",
        "ref",
        "reply",
        "seq",
        "stored_s",
        "subject",
        "token",
        "withdrawn",
    )

    def __init__(self, message: Message, ref: Ref, seq: int, delivered: int, stored_s: float) -> None:
        self.message = message
        self.subject = message.subject
        self.reply = message.reply
        self.data = message.data
        self.ref = ref
        self.seq = seq  # of the task in the stream: the guard of its end
        self.delivered = delivered
        self.stored_s = stored_s  # server time, seconds since 1970
        self.attempt = 0
        self.token = ""
        self.noted = False  # a note says that this attempt has started
        self.begun = 0.0  # loop time
        self.withdrawn = False  # it was cancelled: whatever its handler comes to is not wanted
        self.deadline: float | None = None  # loop time at which the attempt is ended
        self.expired = False  # it was ended for that

    @classmethod
    def of(cls, message: Message, subjects: Subjects) -> Delivery:
        """Raises ValueError when the message is not a delivery of a task record."""
        parsed = subjects.parse(message.subject)
        if parsed is None or parsed[0] != "task":
            raise ValueError("its subject does not name a task")
        ack = parse_ack(message.reply)
        return cls(message, parsed[1], ack.stream_seq, ack.delivered, ack.timestamp_s)

    @property
    def copied(self) -> bool:
        """Whether the task was copied into a forked run: its outcome may stand there already."""
        return b"\r\nRoost-Copied:" in self.message.head

    @property
    def trace(self) -> str:
        """The ``traceparent`` of the task, or nothing; found without parsing the other headers."""
        head = self.message.head
        begin = head.find(b"\r\ntraceparent:")
        if begin < 0:
            return ""
        begin += 14
        return head[begin : head.find(b"\r\n", begin)].decode("ascii", "replace").strip()[:TRACE_LENGTH]
