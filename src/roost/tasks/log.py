"""The log of one namespace: its stream, its consumers, its clock, and reads of single records."""

from __future__ import annotations

import asyncio
import functools
import random
import re
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from roost.contracts import Task, Workflow
from roost.errors import (
    ConfigError,
    ConfigMismatch,
    Disconnected,
    JetStreamError,
    NotConnected,
    RequestTimeout,
    StreamMissing,
)
from roost.observe import Journal
from roost.tasks.batch import Pairs
from roost.tasks.copies import copies, explained
from roost.tasks.marks import read_marks
from roost.tasks.objects import Objects
from roost.tasks.provision import consumer_config, consumer_name, differences, stream_config
from roost.tasks.records import Subjects
from roost.tasks.room import Room
from roost.transport import Link, Message
from roost.transport.jetstream import (
    CONSUMER_EXISTS,
    CONSUMER_NOT_FOUND,
    STREAM_NAME_IN_USE,
    STREAM_NOT_FOUND,
)

LOOKS = 12
LOOK_S = 0.05
"""A log that was made just now is looked for so often, in seconds of a pause that grows by this much: 4 s."""
PATIENCE_S = 10.0
"""How long a server that is away is waited for where nobody says how long."""
AGAIN_S = 0.1
READ_BATCH = 500
"""Subjects per batched read; the server refuses more than 1,000 (status 413)."""


@dataclass(frozen=True, slots=True)
class Record:
    """A stored record."""

    subject: str
    seq: int
    data: bytes
    stamp: str = ""  # when it was stored, RFC 3339
    marks: Pairs = ()  # of a task, as the header of a direct get has them

    @property
    def stored_s(self) -> float:
        """Server time, seconds since 1970; 0 when it is not known."""
        return parse_time(self.stamp) if self.stamp else 0.0


class Log:
    """Access to the records. `ensure` comes first: it creates the stream if missing and compares it."""

    def __init__(self, link: Link, namespace: str, journal: Journal) -> None:
        self.link = link
        self.subjects = Subjects(namespace)
        self.stream = self.subjects.stream
        self.journal = journal
        self._offset_s = time.time() - time.monotonic()
        self._ready = False
        self._replicas = 0
        self._lock = asyncio.Lock()
        self.room = Room(link.jetstream, self.subjects, journal, self._stream_info)
        self.objects = Objects(link, namespace, journal)

    @property
    def ready(self) -> bool:
        """Whether `ensure` has found it as it should be."""
        return self._ready

    @property
    def replicated(self) -> bool:
        """Whether a direct get may be answered by a replica that lags behind; also while that is not known."""
        return self._replicas != 1

    def now_s(self) -> float:
        """Server time: deadlines hold although this machine's clock is wrong, or is set while this runs."""
        return time.monotonic() + self._offset_s

    async def ensure(self, *, patience_s: float = PATIENCE_S) -> None:
        """Tried again through outages for `patience_s` seconds.

        Raises ConfigMismatch; StreamMissing when it is not there and this user may not create it; NotConnected when
        the server was away for so long.
        """
        until = time.monotonic() + patience_s
        while not self._ready:
            try:
                await self._find()
            except (Disconnected, NotConnected, RequestTimeout) as error:
                if time.monotonic() > until:
                    raise NotConnected(f"the question for the log {self.stream}") from error
                await asyncio.sleep(AGAIN_S * (0.5 + random.random()))

    async def _find(self) -> None:
        async with self._lock:
            if self._ready:
                return
            wanted = stream_config(self.subjects)
            self.link.jetstream.found_new()
            info = await self._seen() or await self._create(wanted)
            found = differences(wanted, info["config"])
            if found:
                raise ConfigMismatch(f"stream {self.stream}", found)
            self.link.jetstream.found_new()
            self._ready = True

    async def _create(self, wanted: dict[str, Any]) -> Any:
        replicas = copies(self.link)
        try:
            await self.link.jetstream.call(
                f"STREAM.CREATE.{self.stream}", wanted | {"num_replicas": replicas}
            )
        except JetStreamError as error:
            if error.err_code != STREAM_NAME_IN_USE:  # somebody else was quicker: compare theirs
                raise explained(error, replicas) from error
        except PermissionError as error:
            raise StreamMissing(self.stream) from error
        for tries in range(LOOKS):  # in a cluster the one who is asked may not have heard of it yet
            info = await self._seen()
            if info is not None:
                return info
            await asyncio.sleep(LOOK_S * (tries + 1))
        return await self._stream_info()

    async def _seen(self) -> Any:
        """Stream information; None when there is no such stream."""
        try:
            return await self._stream_info()
        except JetStreamError as error:
            if error.err_code != STREAM_NOT_FOUND:
                raise
            return None

    async def _stream_info(self) -> Any:
        """Stream information; also sets the clock and the room by it."""
        asked = time.monotonic()
        info = await self.link.jetstream.call(f"STREAM.INFO.{self.stream}")
        answered = time.monotonic()
        stamp = info.get("ts")
        if stamp:
            self._offset_s = parse_time(stamp) - (asked + answered) / 2
        self._replicas = info["config"].get("num_replicas", 1)
        self.room.found(info)
        return info

    async def ensure_consumer(self, task: Task[Any, Any] | Workflow[Any, Any]) -> tuple[str, float]:
        """Create the consumer of a task contract, or compare it; its name, and since when it is there.

        Raises ConfigMismatch.
        """
        durable = consumer_name(task.name)
        wanted = consumer_config(self.subjects, task.name, task.ack_wait_s, task.max_running)
        return durable, await self.ensure_consumer_of(durable, wanted)

    async def ensure_consumer_of(self, durable: str, wanted: dict[str, Any]) -> float:
        """Create a durable consumer, or compare it; since when it is there. Raises ConfigMismatch, ConfigError.

        It is looked for first: where consumers are an administrator's, a worker may look and not create.
        """
        await self.ensure()
        look = f"CONSUMER.INFO.{self.stream}.{durable}"
        subject = f"CONSUMER.CREATE.{self.stream}.{durable}.{wanted['filter_subject']}"
        body = {"stream_name": self.stream, "config": wanted, "action": "create"}
        call = self.link.jetstream.call
        try:
            info = await call(look)
        except (JetStreamError, PermissionError) as error:
            if isinstance(error, JetStreamError) and error.err_code != CONSUMER_NOT_FOUND:
                raise
            try:
                info = await call(subject, body)
            except JetStreamError as refusal:
                if refusal.err_code != CONSUMER_EXISTS:
                    raise
                info = await call(look)
            except PermissionError as refusal:
                if isinstance(error, PermissionError):
                    raise
                raise ConfigError(
                    f"consumer {durable} of stream {self.stream} does not exist, and this user may not make it; have "
                    "an administrator run `roost provision` with this agent"
                ) from refusal
        found = differences(wanted, info["config"])
        if found:
            raise ConfigMismatch(f"consumer {durable} of stream {self.stream}", found)
        return parse_time(info["created"])

    async def close(self) -> None:
        await self.room.close()

    async def last(self, subject: str, *, leader: bool = False) -> Record | None:
        """The newest record on a subject. With `leader`, not from a replica that may lag behind."""
        if leader:
            return await self.from_leader({"last_by_subj": subject})
        message = await self.link.jetstream.last(self.stream, subject)
        return _record(message) if message is not None else None

    async def from_leader(self, query: dict[str, Any]) -> Record | None:
        """The record that a query asks for, as the stream's leader knows it."""
        found = await self.link.jetstream.from_leader(self.stream, query)
        return (
            Record(found.subject, found.seq, found.data, found.stamp, read_marks(found.head))
            if found
            else None
        )

    @staticmethod
    def record_of(message: Message) -> Record:
        """The record that a direct get has returned."""
        return _record(message)

    async def next(self, seq: int, pattern: str) -> Record | None:
        """The first record from `seq` on whose subject matches. Cheaper than a `page` of one, which counts the rest."""
        message = await self.link.jetstream.next(self.stream, seq, pattern)
        return _record(message) if message is not None else None

    async def newest(self, subjects: Sequence[str], *, leader: bool = False) -> dict[str, Record]:
        """The newest record of each subject (or wildcard) that has one, by subject.

        With `leader`, those without one (not of wildcards) are asked for again where none can be missing.
        """
        found: dict[str, Record] = {}
        for begin in range(0, len(subjects), READ_BATCH):
            query = {"multi_last": list(subjects[begin : begin + READ_BATCH])}
            for message in await self.link.jetstream.read(self.stream, query):
                record = _record(message)
                found[record.subject] = record
        if leader:
            for subject in subjects:
                if subject not in found and "*" not in subject:
                    missed = await self.last(subject, leader=True)
                    if missed is not None:
                        found[subject] = missed
        return found

    async def subjects_matching(self, pattern: str) -> list[str]:
        """All subjects in the log that match a pattern, through the stream's own index."""
        found: list[str] = []
        while True:
            info = await self.link.jetstream.call(
                f"STREAM.INFO.{self.stream}", {"subjects_filter": pattern, "offset": len(found)}
            )
            page = info["state"].get("subjects") or {}
            found += page
            if not page or len(found) >= int(info.get("total", 0)):
                return sorted(found)

    async def read_all(self, pattern: str, *, start_seq: int = 1, batch: int = 1000) -> list[Record]:
        """Every record on subjects that match a pattern, in log order, up to the newest that the leader has."""
        records: list[Record] = []
        seq = start_seq
        while True:
            page = await self.page({"seq": seq, "next_by_subj": pattern, "batch": batch}, leader=True)
            if not page:  # a short page is no end: the server may cut one for its size
                return records
            records += page
            seq = records[-1].seq + 1

    async def page(self, query: dict[str, Any], *, leader: bool = False) -> list[Record]:
        """The records that one batched direct get returns.

        A replica may lag behind. It shows no record without all before it, but that it shows none says nothing: with
        `leader`, what is returned is empty only where the leader has none either.
        """
        found = [_record(message) for message in await self.link.jetstream.read(self.stream, query)]
        if leader and not found:
            first = await self.from_leader({"seq": query["seq"], "next_by_subj": query["next_by_subj"]})
            return [first] if first is not None else []
        return found


_place = re.compile(
    "\r\nNats-Subject: ([^\r]+)\r\nNats-Sequence: ([0-9]+)\r\nNats-Time-Stamp: ([^\r]+)\r\n"
).match


def _record(message: Message) -> Record:
    """The server writes its headers behind those of the publisher, who may have used the same names."""
    head = message.head.decode("utf-8", "replace")
    found = _place(head, head.rfind("\r\nNats-Subject: "))
    if found is not None:  # as nats-server has them, one after the other
        subject, seq, stamp = found.groups()
        return Record(subject, int(seq), message.data, stamp, read_marks(message.head))
    return Record(
        _last_header(head, "Nats-Subject"),
        int(_last_header(head, "Nats-Sequence")),
        message.data,
        _last_header(head, "Nats-Time-Stamp"),
        read_marks(message.head),
    )


def _last_header(head: str, name: str) -> str:
    begin = head.rindex(f"\r\n{name}:") + len(name) + 3
    return head[begin : head.index("\r\n", begin)].strip()


def parse_time(stamp: str) -> float:
    """Seconds since 1970 of an RFC 3339 time with up to nanoseconds, as the server writes it."""
    head, _, fraction = stamp.rstrip("Z").partition(".")
    return _second(head) + (float(f"0.{fraction}") if fraction else 0.0)


@functools.lru_cache(maxsize=64)
def _second(head: str) -> float:
    """Of many records that are read in log order, thousands are of the same second."""
    return datetime.fromisoformat(head + "+00:00").timestamp()


def chunks(items: Sequence[Any], size: int) -> Iterable[Sequence[Any]]:
    for begin in range(0, len(items), size):
        yield items[begin : begin + size]
