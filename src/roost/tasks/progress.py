"""What a handler says while it works: progress, and streams of chunks that are kept.

Chunks are records, so a reader that joins late reads from the start, and one that is there hears them
live. They belong to an attempt: a retry begins its stream anew, and says so by its number.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from typing_extensions import TypedDict

from roost.codec import Codec, Limits
from roost.errors import InvalidMessage, RoostError
from roost.tasks.log import Log
from roost.tasks.records import Ref
from roost.tasks.waiting import Waiter
from roost.transport import Message

C = TypeVar("C")

CHUNK_LIMITS = Limits(max_bytes=256 * 1024)
PAGE = 500
LOOK_S = 1.0
"""Seconds between looks at the log without a hint."""


class ChunkRecord(TypedDict, Generic[C]):
    """One chunk. `at` is server time, seconds since 1970."""

    at: float
    value: C


@dataclass(frozen=True, slots=True)
class Chunk(Generic[C]):
    """A part of what a handler says while it works."""

    value: C
    attempt: int
    at_s: float  # server time, seconds since 1970


_codecs: dict[Any, Codec[Any]] = {}


def chunk_codec(model: Any) -> Codec[Any]:
    """The codec of chunk records whose value is of type `model`."""
    if model not in _codecs:
        record: Any = ChunkRecord[model]
        _codecs[model] = Codec(record, limits=CHUNK_LIMITS)
    return _codecs[model]


async def emit(log: Log, ref: Ref, attempt: int, value: Any) -> None:
    """Store a chunk. Raises InvalidMessage (TooLarge) and the errors of a publish."""
    subject = log.subjects.chunk(ref, attempt)
    record = {"at": round(log.now_s(), 6), "value": value}
    data = chunk_codec(type(value)).encode(record, subject=subject)
    await log.link.jetstream.publish(subject, data)


async def read_chunks(log: Log, waiter: Waiter, ref: Ref, model: type[C]) -> AsyncIterator[Chunk[C]]:
    """The chunks of a task from the first on, until it has an outcome. One that does not fit is counted."""
    codec = chunk_codec(model)
    news = asyncio.Event()

    def heard(message: Message) -> None:
        news.set()

    client = log.link.client
    listener = client.listen(log.subjects.live_chunks(ref), heard)
    ended = asyncio.get_running_loop().create_task(waiter.end(ref), name="roost-chunks-end")
    ended.add_done_callback(lambda _: news.set())
    following = 1
    pattern = log.subjects.chunk(ref, "*")
    try:
        while True:
            over = ended.done()
            news.clear()
            try:
                page = await log.page({"seq": following, "next_by_subj": pattern, "batch": PAGE})
            except RoostError as error:
                log.journal.count(f"chunks_not_read:{type(error).__name__}")
                page, over = [], False
            for record in page:
                following = record.seq + 1
                attempt = (
                    int(record.subject.rsplit(".", 1)[1]) if record.subject.rsplit(".", 1)[1].isdigit() else 0
                )
                try:
                    chunk = codec.decode(record.data, subject=record.subject)
                except InvalidMessage as error:
                    log.journal.record("message_refused", subject=record.subject, reason=str(error))
                    continue
                yield Chunk(chunk["value"], attempt, chunk["at"])
            if page:
                continue
            if over:
                return
            try:
                async with asyncio.timeout(LOOK_S):
                    await news.wait()
            except TimeoutError:
                continue
    finally:
        ended.cancel()
        await asyncio.gather(ended, return_exceptions=True)
        if not client.is_closed:
            client.unlisten(listener)
