"""Defect 17: nats-py takes a header `Status` for the server's word, whoever wrote it. A task that carries
`Status: 100` is thrown away by `fetch` until it counts as poison; a responder's `Status: 503` is NoResponders.

And what it could not know: in a direct get the server appends its headers to those of the publisher, so that
the first `Nats-Subject` and `Nats-Sequence` are the publisher's.
"""

from __future__ import annotations

import asyncio

import nats.errors
import pytest
from defect_kit import ours, raw, stock
from nats.aio.msg import Msg

from roost.errors import NoResponders
from roost.transport import Message, Pump
from roost.transport.headers import block
from roost.transport.jetstream import stored_sequence

FORGERIES = [
    b"NATS/1.0\r\nStatus: 100\r\n\r\n",
    b"NATS/1.0\r\nStatus: 404\r\n\r\n",
    b"NATS/1.0\r\nStatus: 408\r\n\r\n",
    b"NATS/1.0\r\nStatus: 503\r\n\r\n",
    b"NATS/1.0 100 Idle Heartbeat\r\n\r\n",
    b"NATS/1.0 408 Request Timeout\r\n\r\n",
    b"NATS/1.0 409 Consumer Deleted\r\n\r\n",
    b"NATS/1.0 503\r\n\r\n",
]


async def test_17_task_with_a_forged_status_is_delivered_like_any_other(
    nats_url: str, namespace: str
) -> None:
    stream = f"ROOST_{namespace}"
    async with ours(nats_url) as me, raw(nats_url) as publisher:
        await me.jetstream.call(f"STREAM.CREATE.{stream}", {"name": stream, "subjects": [f"{stream}.>"]})
        config = {"durable_name": "C", "ack_policy": "explicit"}
        body = {"stream_name": stream, "config": config, "action": "create"}
        await me.jetstream.call(f"CONSUMER.CREATE.{stream}.C", body)
        for head in FORGERIES:
            await publisher.publish_with_head(f"{stream}.x".encode(), head)  # without payload, as a status is
        got: list[Message] = []
        trouble: list[str] = []
        all_there = asyncio.Event()

        def take(message: Message) -> None:
            got.append(message)
            if len(got) == len(FORGERIES):
                all_there.set()

        pump = Pump(
            me.client,
            stream,
            "C",
            on_message=take,
            room=lambda: 20,
            on_trouble=lambda kind, _: trouble.append(kind),
        )
        pump.start()
        async with asyncio.timeout(5):
            await all_there.wait()
        pump.stop()
        assert [message.status for message in got] == [0] * len(FORGERIES)
        assert trouble == []


async def test_17_answer_with_a_forged_status_is_an_answer(nats_url: str) -> None:
    async with ours(nats_url) as me:
        head = block(("Status", "503"))
        me.client.listen("d17.answers", lambda message: me.client.send(message.reply, b"", "", head))
        answer = await me.requests.ask("d17.answers", timeout_s=2)
        assert answer.headers == {"Status": "503"}
        assert answer.status == 0
        through_nats_py = await me.client.request("d17.answers", timeout=2)
        assert through_nats_py.headers is None
        inline = b"NATS/1.0 503\r\n\r\n"
        me.client.listen("d17.inline", lambda message: me.client.send(message.reply, b"here", "", inline))
        assert (await me.requests.ask("d17.inline", timeout_s=2)).data == b"here"
        with pytest.raises(NoResponders):
            await me.requests.ask("d17.nobody", timeout_s=2)


async def test_17_answer_with_a_forged_end_does_not_cut_a_stored_message_out(
    nats_url: str, namespace: str
) -> None:
    """A stored message without payload whose header block looks like the end of a batch."""
    stream = f"ROOST_{namespace}"
    async with ours(nats_url) as me, raw(nats_url) as publisher:
        config = {"name": stream, "subjects": [f"{stream}.>"], "allow_direct": True}
        await me.jetstream.call(f"STREAM.CREATE.{stream}", config)
        for number, head in enumerate([*FORGERIES, b"NATS/1.0 204 EOB\r\n\r\n"]):
            await publisher.publish_with_head(f"{stream}.{number}".encode(), head)
        found = await me.jetstream.read(stream, {"multi_last": [f"{stream}.>"]})
        assert [stored_sequence(message) for message in found] == list(range(1, len(FORGERIES) + 2))
        one = await me.jetstream.last(stream, f"{stream}.1")
        assert one is not None
        assert stored_sequence(one) == 2
        assert await me.jetstream.last(stream, f"{stream}.none") is None


async def test_17_headers_of_a_publisher_do_not_pass_for_those_of_the_server(
    nats_url: str, namespace: str
) -> None:
    stream = f"ROOST_{namespace}"
    async with ours(nats_url) as me:
        config = {"name": stream, "subjects": [f"{stream}.>"], "allow_direct": True}
        await me.jetstream.call(f"STREAM.CREATE.{stream}", config)
        forged = block(("Nats-Sequence", "999"), ("Nats-Subject", "somebody.elses"), ("Nats-Stream", "OTHER"))
        await me.jetstream.publish(f"{stream}.x", b"x", forged)
        one = await me.jetstream.last(stream, f"{stream}.x")
        assert one is not None
        for message in [one, *await me.jetstream.read(stream, {"multi_last": [f"{stream}.>"]})]:
            assert message.headers["Nats-Subject"] == f"{stream}.x"
            assert message.headers["Nats-Stream"] == stream
            assert stored_sequence(message) == 1


async def test_17_stock_fetch_throws_a_task_with_a_forged_status_away(nats_url: str, namespace: str) -> None:
    stream = f"ROOST_{namespace}"
    async with stock(nats_url) as client:
        streams = client.jetstream()
        await streams.add_stream(name=stream, subjects=[f"{stream}.>"])
        subscription = await streams.pull_subscribe(f"{stream}.x", "C")
        await streams.publish(f"{stream}.x", b"work", headers={"Status": "408"})
        with pytest.raises(nats.errors.TimeoutError):
            await subscription.fetch(1, timeout=0.3)
        info = await subscription.consumer_info()
        assert (info.num_ack_pending, info.num_pending) == (1, 0)


async def test_17_stock_takes_a_responders_header_for_no_responders(nats_url: str) -> None:
    async def answer(message: Msg) -> None:
        await client.publish(message.reply, b"here", headers={"Status": "503"})

    async with stock(nats_url) as client:
        await client.subscribe("d17.stock", cb=answer)
        with pytest.raises(nats.errors.NoRespondersError):
            await client.request("d17.stock", timeout=2)
