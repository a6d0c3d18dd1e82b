"""JetStream calls: what they return, and that each refusal is a typed error with the server's number."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from roost.errors import JetStreamError, StreamMissing
from roost.settings import Settings
from roost.transport import Link, open_link
from roost.transport.headers import block
from roost.transport.jetstream import (
    CONSUMER_NOT_FOUND,
    STREAM_NOT_FOUND,
    WRONG_LAST_SEQUENCE,
    stored_sequence,
)


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Link]:
    async with open_link(Settings(servers=tuple(url.split(","))), lambda *_: None) as link:
        yield link


async def test_records_are_written_guarded_and_read(nats_url: str, namespace: str) -> None:
    stream = f"ROOST_{namespace}"
    once = block(("Nats-Expected-Last-Subject-Sequence", "0"))
    async with opened(nats_url) as link:
        log = link.jetstream
        log.found_new()
        await log.call(
            f"STREAM.CREATE.{stream}", {"name": stream, "subjects": [f"{stream}.>"], "allow_direct": True}
        )
        assert await log.last(stream, f"{stream}.a") is None  # in a cluster: once this is heard, writes are
        assert await log.publish(f"{stream}.a", b"1", once) == 1
        with pytest.raises(JetStreamError) as refused:
            await log.publish(f"{stream}.a", b"2", once)
        assert refused.value.err_code == WRONG_LAST_SEQUENCE
        assert await log.publish(f"{stream}.b", b"3") == 2
        newest = await log.last(stream, f"{stream}.b")
        assert newest is not None
        assert (newest.data, stored_sequence(newest)) == (b"3", 2)
        assert await log.last(stream, f"{stream}.none") is None
        assert await log.last_from_leader(stream, f"{stream}.a") == (1, b"1")
        assert await log.last_from_leader(stream, f"{stream}.none") is None
        found = await log.read(stream, {"multi_last": [f"{stream}.>"]})
        assert [message.data for message in found] == [b"1", b"3"]
        assert await log.read(stream, {"multi_last": [f"{stream}.none"]}) == []
        with pytest.raises(JetStreamError) as bad:
            await log.read(stream, {"multi_last": [f"{stream}.>"], "batch": 1, "seq": 1, "next_by_subj": "x"})
        assert bad.value.code in (400, 408)


async def test_what_is_missing_is_said_to_be_missing(nats_url: str, namespace: str) -> None:
    async with opened(nats_url) as link:
        with pytest.raises(StreamMissing):
            await link.jetstream.publish(f"{namespace}.nowhere", b"")
        with pytest.raises(JetStreamError) as no_stream:
            await link.jetstream.call(f"STREAM.INFO.ROOST_{namespace}")
        assert no_stream.value.err_code == STREAM_NOT_FOUND
        stream = f"ROOST_{namespace}"
        await link.jetstream.call(f"STREAM.CREATE.{stream}", {"name": stream, "subjects": [f"{stream}.>"]})
        with pytest.raises(JetStreamError) as no_consumer:
            await link.jetstream.call(f"CONSUMER.INFO.{stream}.C")
        assert no_consumer.value.err_code == CONSUMER_NOT_FOUND


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"OK",
        b"null",
        b"[]",
        b"5",
        b"{}",
        b'{"seq":"x"}',
        b'{"seq":-1',
        b'{"error":"x"}',
        b'{"error":{"code":"x"}}',
        b'{"error":[1]}',
        b"\xff",
        b"[" * 100_000,
    ],
    ids=lambda answer: repr(answer[:20]),
)
async def test_answer_of_somebody_else_is_a_typed_error(nats_url: str, answer: bytes) -> None:
    """Whoever may subscribe to the subject can answer a publish that no stream takes."""
    async with opened(nats_url) as link:
        link.client.listen("j.odd", lambda message: link.client.send(message.reply, answer))
        with pytest.raises(JetStreamError):
            await link.jetstream.publish("j.odd", b"")
