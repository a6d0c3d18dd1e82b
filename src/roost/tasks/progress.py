"""What a handler says while it works: how far it is, and streams of chunks. Both are kept.

They are records, so a reader that joins late reads from the start, and one that is there hears them live. They
belong to one execution of the handler. Its attempt's number does not tell executions apart: a first delivery
whose process was killed left no note, so the next execution is attempt 1 again, and a paused process may go on
beside it. Read as one stream, the beginning of an answer would be there twice. So each record names its
execution, and readers get its number.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Generic, Literal, NotRequired, TypeVar

from typing_extensions import TypedDict

from roost.codec import Codec, Limits
from roost.errors import InvalidMessage, RequestTimeout, RoostError, TooLarge
from roost.tasks.log import Log, Record
from roost.tasks.records import Ref
from roost.tasks.storing import store
from roost.tasks.waiting import Waiter
from roost.transport import Message

C = TypeVar("C")
Kind = Literal["chunk", "progress"]

CHUNK_LIMITS = Limits(max_bytes=256 * 1024)
RECORD_LIMITS = Limits(max_bytes=CHUNK_LIMITS.max_bytes + 1024, max_depth=CHUNK_LIMITS.max_depth + 1)
PATIENCE_S = 30.0
"""How long a handler waits for an outage to end, in seconds, before what it says fails."""
SHARE = 0.9
"""Of the store that chunks may fill: half of the reserve is left for outcomes."""
PAGE = 500
PAGE_BYTES = 4 * 1024 * 1024
"""Of one read; 500 chunks of the full size would take longer than a read may."""
LOOK_S = 1.0
"""Seconds between looks at the log without a hint."""
RECORD_BYTES = 200
"""About what a stored chunk takes beside its value."""

_is_number = re.compile("[0-9]{1,9}").fullmatch


class ChunkRecord(TypedDict, Generic[C]):
    """One chunk. `at` is server time (seconds since 1970), `by` the token of the execution, `n` counts in it."""

    at: float
    by: NotRequired[str]
    n: NotRequired[int]
    value: C


@dataclass(frozen=True, slots=True)
class Chunk(Generic[C]):
    """A part of what a handler says while it works."""

    value: C
    attempt: int
    at_s: float  # server time, seconds since 1970
    execution: int = 1
    """Which run of the handler said it: 1 for the first that said something. A higher one begins anew."""


class Emitter:
    """What one execution of a handler says, in the order in which it says it.

    `token` is its own and nobody else's.
    """

    def __init__(self, log: Log, ref: Ref, attempt: int, token: str) -> None:
        self._log = log
        self._ref = ref
        self._attempt = attempt
        self._token = token
        self._count = 0
        self._in_turn = asyncio.Lock()

    async def say(self, kind: Kind, value: Any) -> None:
        """Store `value`. A repeat after a lost answer has the same number, and readers drop it.

        Raises InvalidMessage (TooLarge), StoreFull, JetStreamError, and after 30 s of an outage NotConnected,
        Disconnected, RequestTimeout, NoResponders or StreamMissing.
        """
        log = self._log
        subject = log.subjects.said(kind, self._ref, self._attempt)
        data = value_codec(type(value)).encode(value, subject=subject)
        size = len(data) + RECORD_BYTES
        async with self._in_turn:
            await log.room.take(self._ref.name, 0, size, share=SHARE)
            try:
                self._count += 1
                head = {"at": round(log.now_s(), 6), "by": self._token, "n": self._count}
                record = json.dumps(head, separators=(",", ":")).encode()[:-1] + b',"value":' + data + b"}"
                await store(log, subject, record, patience_s=PATIENCE_S)
            finally:
                log.room.landed(size)


def _value_codec(model: Any) -> Codec[Any]:
    """The codec of what is said, of type `model`. Raises ConfigError."""
    return Codec(model, limits=CHUNK_LIMITS)


def _chunk_codec(model: Any) -> Codec[Any]:
    """The codec of records whose value is of type `model`. Raises ConfigError."""
    record: Any = ChunkRecord[model]
    return Codec(record, limits=RECORD_LIMITS)


value_codec: Callable[[Any], Codec[Any]] = lru_cache(maxsize=256)(_value_codec)
chunk_codec: Callable[[Any], Codec[Any]] = lru_cache(maxsize=256)(_chunk_codec)


async def read_chunks(
    log: Log, waiter: Waiter, ref: Ref, kind: Kind, model: type[C], *, idle_timeout_s: float | None = None
) -> AsyncIterator[Chunk[C]]:
    """What the executions of a task said before its outcome, from the first on, until it has one.

    What does not fit `model` is passed over: counted, logged and told of. Raises RequestTimeout when nothing came
    for `idle_timeout_s` seconds, ConnectionClosed, ConfigError for a model that is none.
    """
    executions = _Executions(log, chunk_codec(model))
    client, loop = log.link.client, asyncio.get_running_loop()
    news = asyncio.Event()

    def heard(message: Message) -> None:
        news.set()

    listener = client.listen(log.subjects.live_said(kind, ref), heard)
    ended = loop.create_task(waiter.end(ref), name="roost-chunks-end")
    ended.add_done_callback(lambda _: news.set())
    following, heard_at = 1, loop.time()
    pattern = log.subjects.said(kind, ref, "*")
    try:
        while True:
            last = ended.result().seq if ended.done() else None
            # A replica that lags behind shows less than there is: after a hint and after the outcome, ask the leader.
            leader = news.is_set() or last is not None
            news.clear()
            try:
                query = {"seq": following, "next_by_subj": pattern, "batch": PAGE, "max_bytes": PAGE_BYTES}
                page = await log.page(query, leader=leader)
                if last is None and page:  # had it an outcome already, as these were read?
                    end = await log.last(log.subjects.end(ref), leader=True)
                    last = end.seq if end is not None else None
                elif last is not None and not page:
                    return
            except RoostError as error:
                log.journal.count(f"chunks_not_read:{type(error).__name__}")
                page = []
            for record in page:
                if last is not None and record.seq > last:
                    return  # by an execution that lost: live readers have left before it came
                following = record.seq + 1
                chunk = executions.read(record)
                if chunk is not None:
                    yield chunk
                    heard_at = loop.time()
            if page and (last is not None or len(page) == PAGE or sum(map(_size, page)) > PAGE_BYTES // 2):
                continue  # there may be more of them; a page is also cut for its size
            left_s = LOOK_S if idle_timeout_s is None else heard_at + idle_timeout_s - loop.time()
            if left_s <= 0:
                raise RequestTimeout(f"a chunk of task {ref}", idle_timeout_s or 0.0)
            try:
                async with asyncio.timeout(min(LOOK_S, left_s)):
                    await news.wait()
            except TimeoutError:
                continue
    finally:
        ended.cancel()
        await asyncio.gather(ended, return_exceptions=True)
        if not client.is_closed:
            client.unlisten(listener)


def _size(record: Record) -> int:
    return len(record.data)


class _Executions:
    """Which execution a record is of, and whether it is its own repeat."""

    def __init__(self, log: Log, codec: Codec[Any]) -> None:
        self._log = log
        self._codec = codec
        self._known: dict[tuple[int, str], list[int]] = {}  # its number, and that of its last chunk

    def read(self, record: Record) -> Chunk[Any] | None:
        """The chunk in a record; None for a repeat, and for what is none."""
        k = record.subject.rpartition(".")[2]
        try:
            if self._log.subjects.parse(record.subject) is None or not _is_number(k):
                raise InvalidMessage(subject=record.subject, field="", reason="its subject names no attempt")
            chunk = self._codec.decode(record.data, subject=record.subject)
        except (InvalidMessage, TooLarge) as error:
            self._log.journal.record("message_refused", subject=record.subject, reason=str(error))
            return None
        place = (int(k), chunk.get("by", ""))
        known = self._known.setdefault(place, [len(self._known) + 1, 0])
        n = chunk.get("n", 0)
        if n and n <= known[1]:
            self._log.journal.count("chunk_repeated")
            return None
        known[1] = max(n, known[1])
        return Chunk(chunk["value"], place[0], chunk["at"], known[0])
