"""One delivery of a task to a worker."""

from __future__ import annotations

import re
from dataclasses import dataclass

from roost.tasks.marks import ANY, begin_of, due_of, find, order_of, read_marks, version_of
from roost.tasks.records import Ref, Subjects
from roost.transport import Message
from roost.transport.ackinfo import parse_ack

TRACE_LENGTH = 55
"""Characters of a ``traceparent`` (W3C Trace Context, version 00)."""

_is_turn = re.compile(
    r"([A-Za-z0-9_-]+)::([A-Za-z0-9_-]+)\.task\.([A-Za-z0-9_-]+)\.([0-9]{1,19})"
    r"\.([A-Za-z0-9_:-]+)\.([A-Za-z0-9_:-]+)"
).fullmatch

_is_wake = re.compile(
    r"([A-Za-z0-9_-]+)::\.task\.([A-Za-z0-9_-]+)\.wake\.([0-9]{1,15})\.([A-Za-z0-9_:-]+)\.([A-Za-z0-9_:-]+)"
).fullmatch


@dataclass(frozen=True, slots=True)
class Turn:
    """A task with an order key may run: all before it in the queue of its key have their outcomes."""

    key: str  # the token of it
    place: int  # the sequence of its place in the queue
    ref: Ref

    @classmethod
    def parse(cls, subject: str, subjects: Subjects) -> Turn | None:
        """The turn that a subject names, None if it names none. `order` tells how it is made."""
        prefix = f"{subjects.namespace}.run."
        found = _is_turn(subject, len(prefix)) if subject.startswith(prefix) else None
        if found is None or found[1] != found[3]:
            return None
        return cls(found[2], int(found[4]), Ref(found[5], found[3], found[6]))


@dataclass(frozen=True, slots=True)
class Wake:
    """A task that had to wait may begin (`delays`)."""

    begin_ms: int  # since 1970, as the task's mark has it
    ref: Ref

    @classmethod
    def parse(cls, subject: str, subjects: Subjects) -> Wake | None:
        """The wake that a subject names, None if it names none."""
        prefix = f"{subjects.namespace}.run."
        found = _is_wake(subject, len(prefix)) if subject.startswith(prefix) else None
        if found is None or found[1] != found[2]:
            return None
        return cls(int(found[3]), Ref(found[4], found[2], found[5]))

    def subject(self, subjects: Subjects) -> str:
        """In a run of its own: ids that users choose have one colon behind the contract's name."""
        name = self.ref.name
        own = f"{subjects.namespace}.run.{name}::.task.{name}.wake"
        return f"{own}.{self.begin_ms}.{self.ref.run}.{self.ref.id}"


class Delivery:
    """What was delivered, and what the worker knows of it meanwhile."""

    __slots__ = (
        "attempt",
        "begun",
        "data",
        "deadline",
        "delivered",
        "due_s",
        "expired",
        "message",
        "noted",
        "ref",
        "reply",
        "seq",
        "stored_s",
        "subject",
        "taken",
        "token",
        "turn",
        "wake",
        "withdrawn",
        "woken_s",
    )

    def __init__(self, message: Message, ref: Ref, seq: int, delivered: int, stored_s: float) -> None:
        self.message = message
        self.subject = message.subject
        self.reply = message.reply
        self.data = message.data
        self.ref = ref
        self.turn: Turn | None = None  # if it is delivered for its turn
        self.wake: Wake | None = None  # if it is delivered because it may begin now
        self.woken_s = 0.0  # server time at which that was stored
        self.seq = seq  # of the task in the stream: the guard of its end
        self.delivered = delivered
        self.stored_s = stored_s  # server time, seconds since 1970
        self.attempt = 0
        self.token = ""
        self.noted = False  # a note says that this attempt has started
        self.begun = 0.0  # loop time
        self.taken = 0  # `seq` as it was delivered, before `adopt`
        self.withdrawn = False  # it was cancelled: whatever its handler comes to is not wanted
        self.deadline: float | None = None  # loop time at which the attempt is ended
        self.expired = False  # it was ended for that
        self.due_s: float | None = None  # server time by which the task must have an outcome

    @classmethod
    def of(cls, message: Message, subjects: Subjects) -> Delivery:
        """Raises ValueError when the message is not a delivery of a task record, nor of a turn or a wake."""
        parsed = subjects.parse(message.subject)
        if parsed is None:
            turn = Turn.parse(message.subject, subjects)
            if turn is not None:
                ack = parse_ack(message.reply)
                if turn.place >= ack.stream_seq:
                    raise ValueError("it is the turn of a place that was not there")
                delivery = cls(message, turn.ref, ack.stream_seq, ack.delivered, ack.timestamp_s)
                delivery.turn = turn
                return delivery
            wake = Wake.parse(message.subject, subjects)
            if wake is not None:
                ack = parse_ack(message.reply)
                delivery = cls(message, wake.ref, ack.stream_seq, ack.delivered, ack.timestamp_s)
                delivery.wake, delivery.woken_s = wake, ack.timestamp_s
                return delivery
        if parsed is None or parsed[0] != "task":
            raise ValueError("its subject does not name a task")
        ack = parse_ack(message.reply)
        return cls(message, parsed[1], ack.stream_seq, ack.delivered, ack.timestamp_s)

    def adopt(self, message: Message, subject: str, seq: int, stored_s: float) -> None:
        """Become the delivery of the task whose turn it is, or that may begin, as it was read from the log."""
        self.message = message
        self.subject = subject
        self.data = message.data
        self.seq = seq
        self.stored_s = stored_s

    @property
    def marked(self) -> bool:
        """Whether its header says anything of the kind that the next five do."""
        return ANY in self.message.head

    @property
    def order(self) -> str:
        """The token of the task's order key; empty if it has none."""
        return order_of(read_marks(self.message.head))

    @property
    def version(self) -> int:
        """Of the contract, as its submitter knew it."""
        return version_of(read_marks(self.message.head))

    @property
    def marked_due_s(self) -> float | None:
        """Its deadline as its submitter wrote it, seconds since 1970; None if it wrote none."""
        return due_of(read_marks(self.message.head))

    @property
    def begin_ms(self) -> int | None:
        """When it may begin, milliseconds since 1970; None: at once."""
        return begin_of(read_marks(self.message.head))

    @property
    def copied(self) -> bool:
        """Whether the task was copied into a forked run: its outcome may stand there already."""
        return b"\r\nRoost-Copied:" in self.message.head

    @property
    def trace(self) -> str:
        """The ``traceparent`` of the task, or nothing; found without parsing the other headers."""
        return find(self.message.head, "traceparent")[:TRACE_LENGTH]


def nak(after_s: float) -> bytes:
    """A negative acknowledgement; with a delay the redelivery waits, also across a restart of the server."""
    return b"-NAK" if after_s <= 0 else b'-NAK {"delay": %d}' % int(after_s * 1e9)
