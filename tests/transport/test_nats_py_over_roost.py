"""nats-py's own key-value and object stores, subscriptions and JetStream calls over a Roost connection."""

from __future__ import annotations

import asyncio

import nats.errors
import pytest
from nats.aio.msg import Msg
from nats.js.errors import BucketNotFoundError, KeyNotFoundError

from roost.server import LocalServer
from roost.settings import Settings
from roost.transport import Client, open_client


async def connected(url: str) -> Client:
    """Of a cluster, to the first server, so that the subscriptions of one are known where another asks."""
    return await open_client(Settings(servers=(url.split(",")[0],)), lambda *_: None)


async def test_key_value_store(own_server: LocalServer) -> None:
    client = await connected(own_server.url)
    streams = client.jetstream()
    with pytest.raises(BucketNotFoundError):
        await streams.key_value("none")
    bucket = await streams.create_key_value(bucket="b", history=3)
    first = await bucket.put("k", b"1")
    assert await bucket.update("k", b"2", last=first) == first + 1
    entry = await bucket.get("k")
    assert (entry.value, entry.revision) == (b"2", first + 1)
    with pytest.raises(KeyNotFoundError):
        await bucket.get("none")
    watcher = await bucket.watchall()
    update = None
    while update is None:  # it says None when it believes to have come to the end, perhaps too early
        update = await watcher.updates(timeout=2)  # type: ignore[no-untyped-call]
    assert update.key == "k"
    await bucket.put("other", b"3")
    assert await bucket.keys() == ["k", "other"]
    await watcher.stop()  # type: ignore[no-untyped-call]
    await client.close()


async def test_object_store(own_server: LocalServer) -> None:
    client = await connected(own_server.url)
    store = await client.jetstream().create_object_store("o")
    await store.put("name", b"x" * 500_000)
    found = await store.get("name")
    assert found.data == b"x" * 500_000
    await client.close()


async def test_push_and_pull_subscriptions(own_server: LocalServer) -> None:
    client = await connected(own_server.url)
    streams = client.jetstream()
    await streams.add_stream(name="S", subjects=["s.>"])
    for number in range(10):
        await streams.publish("s.x", b"%d" % number)
    pull = await streams.pull_subscribe("s.x", "C")
    messages = await pull.fetch(10, timeout=2)
    assert [message.data for message in messages] == [b"%d" % number for number in range(10)]
    await messages[0].ack_sync()
    push = await streams.subscribe("s.x", ordered_consumer=True)
    assert [(await push.next_msg(timeout=2)).data for _ in range(10)] == [
        b"%d" % number for number in range(10)
    ]
    futures = [await streams.publish_async("s.x", b"x") for _ in range(20)]
    assert [(await future).seq for future in futures] == list(range(11, 31))
    await client.close()


async def test_subscriptions_of_each_kind_survive_a_restart(own_server: LocalServer) -> None:
    client = await connected(own_server.url)
    back = asyncio.Event()
    client.on_reconnect.append(back.set)
    got: list[bytes] = []

    async def callback(message: Msg) -> None:
        got.append(message.data)

    await client.subscribe("a.cb", cb=callback)
    queued = await client.subscribe("a.q", queue="group")
    limited = await client.subscribe("a.limited")
    await limited.unsubscribe(limit=2)
    await client.publish("a.limited", b"0")
    await client.flush()
    own_server.kill()
    own_server.restart()
    async with asyncio.timeout(10):
        await back.wait()
    for subject in ("a.cb", "a.q", "a.limited", "a.limited"):
        await client.publish(subject, b"after")
    await client.flush()
    assert (await queued.next_msg()).data == b"after"
    assert [(await limited.next_msg()).data for _ in range(2)] == [b"0", b"after"]
    with pytest.raises(nats.errors.TimeoutError):
        await limited.next_msg(timeout=0.05)
    assert got == [b"after"]
    await client.drain()
    assert client.is_closed


async def test_client_is_a_context_and_ends_what_waits(nats_url: str) -> None:
    client = await connected(nats_url)
    async with client:
        subscription = await client.subscribe("x")
        waiting = asyncio.create_task(subscription.next_msg(timeout=30))
        await asyncio.sleep(0)
        seen = []

        async def iterate() -> None:
            async for message in (await client.subscribe("y")).messages:
                seen.append(message)

        iterating = asyncio.create_task(iterate())
        await client.flush()
    assert client.is_closed
    with pytest.raises(nats.errors.ConnectionClosedError):
        await waiting
    await iterating


async def test_bad_header_of_a_caller_is_refused(nats_url: str) -> None:
    client = await connected(nats_url)
    got: list[Msg] = []

    async def callback(message: Msg) -> None:
        got.append(message)

    await client.subscribe("h", cb=callback)
    with pytest.raises(nats.errors.BadHeaderError):
        await client.publish("h", headers={"a b": "x"})
    await client.publish("h", headers={"A": "x\r\nB: y"})
    await client.flush()
    await client.flush()
    assert got[0].headers == {"A": "x  B: y"}
    await client.close()
