"""Defect 1: one malformed message ends nats-py's read loop while `is_connected` stays True; every call then
times out. Any peer that may publish to a subject we read can do it, and a stored one kills each worker in turn.

Defect 25: a subject with a form feed, which the server accepts, resets nats-py's connection.
"""

from __future__ import annotations

import asyncio

import pytest
from defect_kit import Events, Ours, ours, raw, settle, stock, stock_works

from roost.transport import Message, Pump

SHAPES: dict[str, tuple[bytes, bytes, bytes]] = {
    # name: subject after the prefix, reply, header block
    "subject that is not UTF-8": (b"\xff\xfe", b"", b""),
    "reply that is not UTF-8": (b"x", b"r.\xff", b""),
    "header block without an end": (b"x", b"", b"NATS/1.0"),
    "header block shorter than its first line": (b"x", b"", b"NA"),
    "status that is not UTF-8": (b"x", b"", b"NATS/1.0 \xff\xfe\xfd\r\n\r\n"),
    "status text that is not UTF-8": (b"x", b"", b"NATS/1.0 100 \xff\xfe\r\n\r\n"),
}
STILL_MALFORMED_WHEN_STORED = [
    "subject that is not UTF-8",
    "header block without an end",
    "header block shorter than its first line",
]
"""A stream drops the reply, and what stands behind `NATS/1.0` in the first line of a header block."""


async def attack(url: str, prefix: bytes, shape: str) -> None:
    """Publish the malformed message, then a good one."""
    subject, reply, head = SHAPES[shape]
    async with raw(url) as publisher:
        if head:
            await publisher.publish_with_head(prefix + subject, head, b"bad", reply)
        else:
            await publisher.publish(prefix + subject, b"bad", reply)
        await publisher.publish(prefix + b"good", b"good")


@pytest.mark.parametrize("shape", SHAPES)
async def test_01_malformed_message_does_not_stop_the_client(nats_url: str, shape: str) -> None:
    async with ours(nats_url) as me:
        got: list[Message] = []
        me.client.listen("d01.>", got.append)
        await me.client.flush()
        await attack(nats_url, b"d01.", shape)
        await me.client.flush()
        assert [message.data for message in got] == [b"bad", b"good"]
        assert all(isinstance(message.headers, dict) and message.status == 0 for message in got)
        assert await me.works()
        assert me.events.count("connection_lost") == 0


@pytest.mark.parametrize("shape", SHAPES)
async def test_01_malformed_message_reaches_a_subscription_of_nats_py_over_our_client(
    nats_url: str, shape: str
) -> None:
    async with ours(nats_url) as me:
        subscription = await me.client.subscribe("d01.>")
        await me.client.flush()
        await attack(nats_url, b"d01.", shape)
        assert (await subscription.next_msg(timeout=2)).data == b"bad"
        assert (await subscription.next_msg(timeout=2)).data == b"good"


@pytest.mark.parametrize("shape", SHAPES)
async def test_01_stock_is_stopped_by_a_malformed_message(nats_url: str, shape: str) -> None:
    async with stock(nats_url) as client:
        await client.subscribe("d01.>")
        await settle(client)
        await attack(nats_url, b"d01.", shape)
        assert not await stock_works(client)
        assert client.is_connected


async def stored(me: Ours, stream: str, prefix: str) -> None:
    """A stream and a consumer for the attack."""
    await me.jetstream.call(f"STREAM.CREATE.{stream}", {"name": stream, "subjects": [f"{prefix}.>"]})
    config = {"durable_name": "C", "ack_policy": "explicit", "ack_wait": 30_000_000_000}
    await me.jetstream.call(
        f"CONSUMER.CREATE.{stream}.C", {"stream_name": stream, "config": config, "action": "create"}
    )


@pytest.mark.parametrize("shape", SHAPES)
async def test_01_malformed_message_in_a_stream_does_not_stop_the_worker(
    nats_url: str, namespace: str, shape: str
) -> None:
    """The message reaches the worker with replaced characters, so that it can be refused; the next one comes too."""
    stream = f"ROOST_{namespace}"
    async with ours(nats_url) as me:
        await stored(me, stream, namespace)
        await attack(nats_url, f"{namespace}.".encode(), shape)
        got: list[Message] = []
        done = asyncio.Event()

        def take(message: Message) -> None:
            got.append(message)
            if message.data == b"good":
                done.set()

        pump = Pump(me.client, stream, "C", on_message=take, room=lambda: 5, on_trouble=lambda *_: None)
        pump.start()
        async with asyncio.timeout(5):
            await done.wait()
        pump.stop()
        await me.client.flush()
        assert [message.data for message in got] == [b"bad", b"good"]
        if shape == "subject that is not UTF-8":
            assert got[0].subject == f"{namespace}.\ufffd\ufffd"
        for message in got:
            answer = b"+TERM" if message.data == b"bad" else b"+ACK"
            await me.requests.ask(message.reply, answer, timeout_s=2)  # with a reply, it is confirmed
        info = await me.jetstream.call(f"CONSUMER.INFO.{stream}.C")
        assert (info["num_ack_pending"], info["num_pending"]) == (0, 0)


@pytest.mark.parametrize("shape", STILL_MALFORMED_WHEN_STORED)
async def test_01_stock_worker_is_stopped_by_a_stored_malformed_message(
    nats_url: str, namespace: str, shape: str
) -> None:
    stream = f"ROOST_{namespace}"
    async with ours(nats_url) as me:
        await stored(me, stream, namespace)
    async with stock(nats_url) as client:
        subscription = await client.jetstream().pull_subscribe_bind("C", stream)
        await settle(client)
        await attack(nats_url, f"{namespace}.".encode(), shape)
        with pytest.raises(TimeoutError):
            await subscription.fetch(2, timeout=0.2)
        assert not await stock_works(client)


async def test_25_subject_with_a_form_feed_does_not_reset_the_connection(nats_url: str) -> None:
    async with ours(nats_url) as me:
        got: list[str] = []
        me.client.listen("d25.>", lambda message: got.append(message.subject))
        await me.client.flush()
        async with raw(nats_url) as publisher:
            for odd in (b"\x0c", b"\x0b", b"\x00", b"\x1b[2J", b"\xe2\x80\xae"):
                await publisher.publish(b"d25.a" + odd + b"b", b"x")
        await me.client.flush()
        assert got == ["d25.a\x0cb", "d25.a\x0bb", "d25.a\x00b", "d25.a\x1b[2Jb", "d25.a\u202eb"]
        assert me.events.all == []


async def test_25_stock_is_reset_by_a_subject_with_a_form_feed(nats_url: str) -> None:
    events = Events()

    async def lost() -> None:
        events("lost", "")

    async def back() -> None:
        events("back", "")

    async with stock(nats_url, disconnected_cb=lost, reconnected_cb=back) as client:
        await client.subscribe("d25.>")
        await settle(client)
        async with raw(nats_url) as publisher:
            for number in (1, 2):
                await publisher.publish(b"d25.a\x0cb", b"x")
                await events.wait("lost", number=number, within_s=3)
                await events.wait("back", number=number, within_s=3)
