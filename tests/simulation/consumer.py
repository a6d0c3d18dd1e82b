"""A durable pull consumer of the simulated server. Pure; time is passed in, deliveries are handed to `send`.

An acknowledgement counts for the message, not for the delivery; a delivery that is not acknowledged in time is
made again; what is told to wait holds its slot. A crash of the server may forget the last of it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from simulation.stream import Stored, Stream, matches


@dataclass(slots=True, eq=False)
class Pull:
    """An open pull request. `owner` is the connection on which it came."""

    owner: Any
    inbox: str
    left: int
    expires: float
    beat_s: float
    heard: float


@dataclass(frozen=True, slots=True)
class Memory:
    """What a crash falls back to."""

    next: int
    due: dict[int, float]
    counts: dict[int, int]


class Consumer:
    """One consumer. `send(consumer, pull, record, delivered)` makes a delivery."""

    def __init__(
        self,
        name: str,
        stream: Stream,
        config: dict[str, Any],
        created: float,
        send: Callable[[Consumer, Pull, Stored, int], None],
    ) -> None:
        self.name = name
        self.stream = stream
        self.config = config
        self.created = created
        self.ack_wait_s = config["ack_wait"] / 1e9
        self.most = int(config["max_ack_pending"])
        self.filter = str(config["filter_subject"]).split(".")
        self.next = 1
        self.due: dict[int, float] = {}  # delivered and not acknowledged: when it is delivered again
        self.again: deque[int] = deque()  # to be delivered again now
        self.counts: dict[int, int] = {}
        self.serial = 0
        self.pulls: list[Pull] = []
        self._send = send

    def remember(self) -> Memory:
        return Memory(self.next, dict(self.due), dict(self.counts))

    def crash(self, memory: Memory, now: float) -> None:
        """The server died: pulls are gone, and what it had not written down."""
        self.pulls.clear()
        self.next, self.due, self.counts = memory.next, dict(memory.due), dict(memory.counts)
        self.again = deque(seq for seq in self.due)
        for seq in self.due:
            self.due[seq] = now

    def pending(self) -> int:
        """Matching messages that were never delivered."""
        return sum(
            record is not None and matches(self.filter, record.tokens)
            for record in self.stream.records[self.next - 1 :]
        )

    def turn(self, now: float) -> None:
        """Deliver what can be delivered."""
        for seq, due in self.due.items():
            if due <= now and seq not in self.again:
                self.again.append(seq)
        while self.pulls:
            record = self._take()
            if record is None:
                return
            pull = self.pulls[0]
            pull.left -= 1
            pull.heard = now
            if not pull.left:
                self.pulls.pop(0)
            self.due[record.seq] = now + self.ack_wait_s
            self.serial += 1
            count = self.counts[record.seq] = self.counts.get(record.seq, 0) + 1
            self._send(self, pull, record, count)

    def _take(self) -> Stored | None:
        while self.again:
            seq = self.again.popleft()
            record = self.stream.get(seq)
            if record is not None and seq in self.due:
                return record
            self.due.pop(seq, None)
        if len(self.due) >= self.most:
            return None
        records = self.stream.records
        while self.next <= len(records):
            record = records[self.next - 1]
            self.next += 1
            if record is not None and matches(self.filter, record.tokens):
                return record
        return None

    def due_next(self) -> float | None:
        """When something is delivered again by itself."""
        waiting = [due for seq, due in self.due.items() if seq not in self.again]
        return min(waiting) if waiting else None

    def acknowledge(self, seq: int, word: bytes, delay_s: float, now: float) -> None:
        """An acknowledgement: ``+ACK``, ``-NAK``, ``+WPI`` or ``+TERM``."""
        if seq not in self.due:
            return
        if word.startswith((b"+ACK", b"+TERM")) or not word:
            del self.due[seq]
            self.counts.pop(seq, None)
            if seq in self.again:
                self.again.remove(seq)
        elif word.startswith(b"-NAK"):
            if seq not in self.again:
                self.due[seq] = now + delay_s
                if delay_s <= 0:
                    self.again.append(seq)
        elif word.startswith(b"+WPI") and seq not in self.again:
            self.due[seq] = now + self.ack_wait_s
