"""The stream of the simulated server: sequences, guards, atomic batches, reads, purges. Pure; time is passed in.

It does what `test_log_contract.py` asks of it and of a real nats-server alike. Numbers are those of
nats-server's ``server/errors.json``; batches are ADR-50, batched direct gets ADR-31.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from roost.transport.message import parse_headers

WRONG_LAST = 10071
PENDING = 10164
INCOMPLETE = 10176
TOO_LARGE_BATCH = 10199
TOO_MANY_BATCHES = 10210
DUPLICATE_GUARD = 10164

MOST_IN_BATCH = 1000
MOST_BATCHES = 50
BATCH_LIFE_S = 10.0

Guard = tuple[int, str]


class Refused(Exception):
    """The server's refusal, as its JSON says it."""

    def __init__(self, err_code: int, description: str, code: int = 400) -> None:
        super().__init__(f"{err_code} {description}")
        self.answer = {"code": code, "err_code": err_code, "description": description}


@dataclass(slots=True)
class Stored:
    """One stored message."""

    seq: int
    subject: str
    tokens: list[str]
    head: bytes
    data: bytes
    at: float


@dataclass(slots=True)
class Open:
    """A batch that is not committed yet."""

    began: float
    writes: list[tuple[str, bytes, bytes, Guard | None]] = field(default_factory=list)
    broken: bool = False


def matches(pattern: list[str], tokens: list[str]) -> bool:
    """Whether the tokens of a subject match those of a pattern with ``*`` and ``>``."""
    size = len(pattern)
    if pattern[-1] == ">":
        size -= 1
        if len(tokens) <= size:
            return False
    elif len(tokens) != size:
        return False
    for number in range(size):
        word = pattern[number]
        if word != "*" and word != tokens[number]:
            return False
    return True


class Stream:
    """One stream. `on_stored` hears of each message, after all of its commit are stored."""

    def __init__(self, name: str, config: dict[str, Any], on_stored: Callable[[Stored, int], None]) -> None:
        self.name = name
        self.config = config
        self.first = 1
        self.records: list[Stored | None] = []  # by sequence - 1; None: purged
        self.newest: dict[str, int] = {}  # subject -> newest sequence
        self.tokens: dict[str, list[str]] = {}
        self.batches: dict[str, Open] = {}
        self.atomic = True
        self._on_stored = on_stored

    @property
    def last_seq(self) -> int:
        return len(self.records)

    # Writing ------------------------------------------------------------------------------------

    def publish(
        self, subject: str, head: bytes, data: bytes, now: float, *, answered: bool
    ) -> dict[str, Any] | None:
        """One published message; its acknowledgement, or None where the server says nothing. Raises Refused."""
        headers = parse_headers(head) if head else {}
        guard = self._guard(subject, headers)
        batch = headers.get("Nats-Batch-Id")
        if batch is not None and self.atomic:
            return self._batched(batch, headers, (subject, head, data, guard), now, answered=answered)
        if guard is not None:
            self._check(guard)
        return {"stream": self.name, "seq": self._store([(subject, head, data)], now)}

    def _guard(self, subject: str, headers: dict[str, str]) -> Guard | None:
        expected = headers.get("Nats-Expected-Last-Subject-Sequence")
        if expected is None:
            return None
        return int(expected), headers.get("Nats-Expected-Last-Subject-Sequence-Subject", subject)

    def _check(self, guard: Guard) -> None:
        there = self.last_on(guard[1])
        if there != guard[0]:
            raise Refused(WRONG_LAST, f"wrong last sequence: {there}")

    def _batched(
        self,
        id: str,
        headers: dict[str, str],
        write: tuple[str, bytes, bytes, Guard | None],
        now: float,
        *,
        answered: bool,
    ) -> dict[str, Any] | None:
        number = int(headers.get("Nats-Batch-Sequence", "0"))
        commits = headers.get("Nats-Batch-Commit") == "1"
        for old in [key for key, batch in self.batches.items() if now - batch.began > BATCH_LIFE_S]:
            del self.batches[old]
        batch = self.batches.get(id)
        if batch is None:
            if number != 1:
                raise Refused(INCOMPLETE, "batch publish is incomplete and was abandoned")
            if len(self.batches) >= MOST_BATCHES:
                raise Refused(TOO_MANY_BATCHES, "batch publish too many in flight", 429)
            batch = self.batches[id] = Open(now)
        if number != len(batch.writes) + 1:
            del self.batches[id]
            raise Refused(INCOMPLETE, "batch publish is incomplete and was abandoned")
        if number > MOST_IN_BATCH:
            del self.batches[id]
            raise Refused(TOO_LARGE_BATCH, "batch publish sequence exceeds server limit (default 1000)")
        batch.writes.append(write)
        if not commits:
            return {} if answered else None
        del self.batches[id]
        written: set[str] = set()
        for subject, _, _, guard in batch.writes:
            if guard is not None:
                if guard[1] in written:
                    raise Refused(DUPLICATE_GUARD, "wrong last sequence")
                self._check(guard)
            written.add(subject)
        last = self._store([write[:3] for write in batch.writes], now)
        return {"stream": self.name, "seq": last, "batch": id, "count": len(batch.writes)}

    def _store(self, writes: list[tuple[str, bytes, bytes]], now: float) -> int:
        stored = []
        for subject, head, data in writes:
            before = self.newest.get(subject, 0)
            tokens = self.tokens.get(subject)
            if tokens is None:
                tokens = self.tokens[subject] = subject.split(".")
            record = Stored(len(self.records) + 1, subject, tokens, head, data, now)
            self.records.append(record)
            self.newest[subject] = record.seq
            stored.append((record, before))
        for record, before in stored:
            self._on_stored(record, before)
        return len(self.records)

    def purge(self, pattern: str) -> int:
        """Remove all messages on matching subjects; how many there were."""
        wanted = pattern.split(".")
        gone = 0
        for subject in [one for one in self.newest if matches(wanted, self.tokens[one])]:
            del self.newest[subject]
            for at, record in enumerate(self.records):
                if record is not None and record.subject == subject:
                    self.records[at] = None
                    gone += 1
        return gone

    # Reading ------------------------------------------------------------------------------------

    def last_on(self, pattern: str) -> int:
        """The newest sequence on matching subjects, 0 if there is none."""
        if "*" not in pattern and ">" not in pattern:
            return self.newest.get(pattern, 0)
        wanted = pattern.split(".")
        return max((seq for one, seq in self.newest.items() if matches(wanted, self.tokens[one])), default=0)

    def get(self, seq: int) -> Stored | None:
        return self.records[seq - 1] if 0 < seq <= len(self.records) else None

    def newest_seen(self, pattern: str, before: float) -> Stored | None:
        """The newest message on matching subjects that was stored by a time: what a lagging replica has."""
        found = self.get(self.last_on(pattern))
        if found is None or found.at <= before:
            return found
        wanted = pattern.split(".")
        for record in reversed(self.records):
            if record is not None and record.at <= before and matches(wanted, record.tokens):
                return record
        return None

    def newest_of_each(self, patterns: list[str], before: float) -> list[Stored]:
        """The newest message of each matching subject, in log order."""
        found: dict[str, Stored] = {}
        for pattern in patterns:
            if "*" not in pattern and ">" not in pattern:
                record = self.newest_seen(pattern, before)
                if record is not None:
                    found[record.subject] = record
                continue
            wanted = pattern.split(".")
            for subject in self.newest:
                if matches(wanted, self.tokens[subject]):
                    record = self.newest_seen(subject, before)
                    if record is not None:
                        found[subject] = record
        return sorted(found.values(), key=lambda record: record.seq)

    def following(self, seq: int, pattern: str, count: int, before: float) -> list[Stored]:
        """Up to `count` messages on matching subjects from a sequence on."""
        wanted = pattern.split(".")
        found = []
        for record in self.records[max(0, seq - 1) :]:
            if record is not None and record.at <= before and matches(wanted, record.tokens):
                found.append(record)
                if len(found) == count:
                    break
        return found

    def subjects(self, pattern: str) -> dict[str, int]:
        """How many messages each matching subject has."""
        wanted = pattern.split(".")
        found: dict[str, int] = {}
        for record in self.records:
            if record is not None and matches(wanted, record.tokens):
                found[record.subject] = found.get(record.subject, 0) + 1
        return found
