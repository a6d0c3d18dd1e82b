"""Defect 16: nats-py's `fetch` stalls after one that timed out, may drop delivered messages when cancelled, takes
a deleted consumer for a timeout and never looks at heartbeats.
"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import nats.errors
import pytest
from defect_kit import Ours, ours, raw, settle, stock

from roost.server import LocalServer
from roost.transport import Message, Pump

ACK_WAIT_S = 30


async def provision(me: Ours, stream: str) -> None:
    await me.jetstream.call(f"STREAM.CREATE.{stream}", {"name": stream, "subjects": [f"{stream}.>"]})
    config = {
        "durable_name": "C",
        "ack_policy": "explicit",
        "ack_wait": ACK_WAIT_S * 10**9,
        "max_ack_pending": 1000,
    }
    body = {"stream_name": stream, "config": config, "action": "create"}
    await me.jetstream.call(f"CONSUMER.CREATE.{stream}.C", body)


async def info(me: Ours, stream: str) -> dict[str, Any]:
    found: dict[str, Any] = await me.jetstream.call(f"CONSUMER.INFO.{stream}.C")
    return found


class Taking:
    """A pump and what it has taken."""

    def __init__(
        self, me: Ours, stream: str, *, room: int = 10, expires_s: float = 20.0, heartbeat_s: float = 2.0
    ) -> None:
        self.me = me
        self.got: list[Message] = []
        self.trouble: list[tuple[str, str]] = []
        self.room = room
        self.running = 0
        self.most = 0
        self._news = asyncio.Event()
        self.acks = True
        self.pump = Pump(
            me.client,
            stream,
            "C",
            on_message=self._take,
            room=lambda: self.room - self.running,
            on_trouble=self._troubled,
            expires_s=expires_s,
            heartbeat_s=heartbeat_s,
        )

    def _take(self, message: Message) -> None:
        self.got.append(message)
        self.running += 1
        self.most = max(self.most, self.running)
        self._news.set()
        if self.acks:
            asyncio.get_running_loop().call_soon(self._done, message)

    def _done(self, message: Message) -> None:
        self.running -= 1
        self.me.client.send(message.reply, b"+ACK")
        self.pump.wake()

    def _troubled(self, kind: str, text: str) -> None:
        self.trouble.append((kind, text))
        self._news.set()

    async def until(self, count: int = 0, trouble: int = 0, *, within_s: float = 10.0) -> None:
        async with asyncio.timeout(within_s):
            while len(self.got) < count or len(self.trouble) < trouble:
                self._news.clear()
                await self._news.wait()


async def test_16_no_stall_after_a_pull_that_expired(nats_url: str, namespace: str) -> None:
    """Sixty messages, published at all moments of a pull's 50 ms; none waits longer than a moment."""
    stream = f"ROOST_{namespace}"
    async with ours(nats_url) as me:
        await provision(me, stream)
        taking = Taking(me, stream, expires_s=0.05, heartbeat_s=0.02)
        taking.pump.start()
        slowest = 0.0
        for number in range(60):
            await asyncio.sleep(0.02 + 0.0007 * number)
            begun = time.monotonic()
            await me.jetstream.publish(f"{stream}.x", b"%d" % number)
            await taking.until(number + 1, within_s=5)
            slowest = max(slowest, time.monotonic() - begun)
        taking.pump.stop()
        assert slowest < 1.0
        assert [message.data for message in taking.got] == [b"%d" % number for number in range(60)]
        assert taking.trouble == []


async def test_16_never_more_than_there_is_room_for(nats_url: str, namespace: str) -> None:
    stream = f"ROOST_{namespace}"
    async with ours(nats_url) as me:
        await provision(me, stream)
        for number in range(500):
            me.client.send(f"{stream}.x", b"%d" % number)
        await me.client.flush()
        taking = Taking(me, stream, room=7)
        taking.pump.start()
        await taking.until(500)
        taking.pump.stop()
        assert 1 < taking.most <= 7
        assert [int(message.data) for message in taking.got] == list(range(500))


async def test_16_room_that_grows_from_nothing_is_used_at_once(nats_url: str, namespace: str) -> None:
    stream = f"ROOST_{namespace}"
    async with ours(nats_url) as me:
        await provision(me, stream)
        taking = Taking(me, stream, room=0)
        taking.pump.start()
        await me.jetstream.publish(f"{stream}.x", b"")
        await me.client.flush()
        assert (taking.got, taking.pump.asked) == ([], 0)
        taking.room = 1
        begun = time.monotonic()
        taking.pump.wake()
        await taking.until(1)
        assert time.monotonic() - begun < 2
        taking.pump.stop()


async def test_16_what_was_sent_when_the_pump_stopped_can_be_handed_back(
    nats_url: str, namespace: str
) -> None:
    """Everything the server has delivered reaches the callback, so nothing waits for the ack wait to end."""
    stream = f"ROOST_{namespace}"
    async with ours(nats_url) as me, ours(nats_url) as other:
        await provision(me, stream)
        taking = Taking(me, stream, room=200)
        taking.acks = False
        taking.pump.start()
        await me.client.flush()
        connection = me.client._wire._transport if me.client._wire else None
        assert connection is not None
        connection.pause_reading()  # what is delivered stays on its way
        for number in range(200):
            await other.jetstream.publish(f"{stream}.x", b"%d" % number)
        assert (await info(other, stream))["delivered"]["consumer_seq"] == 200
        assert taking.got == []
        taking.pump.stop()
        connection.resume_reading()
        await me.client.flush()
        assert [int(message.data) for message in taking.got] == list(range(200))
        await me.client.flush()
        assert all(
            pull.listener.key not in me.client._listeners for pull in taking.pump._pulls if pull.listener
        )


async def test_16_deleted_consumer_is_told_and_taken_up_again_when_it_is_back(
    nats_url: str, namespace: str
) -> None:
    stream = f"ROOST_{namespace}"
    async with ours(nats_url) as me:
        await provision(me, stream)
        taking = Taking(me, stream)
        taking.pump.start()
        await me.client.flush()
        begun = time.monotonic()
        await me.jetstream.call(f"CONSUMER.DELETE.{stream}.C")
        await taking.until(trouble=2)
        assert time.monotonic() - begun < 2
        assert {kind for kind, _ in taking.trouble} == {"missing"}
        await me.jetstream.call(f"STREAM.DELETE.{stream}")
        await provision(me, stream)
        await me.jetstream.publish(f"{stream}.x", b"after")
        await taking.until(1)
        taking.pump.stop()


async def test_16_consumer_that_never_was_is_told(nats_url: str, namespace: str) -> None:
    async with ours(nats_url) as me:
        taking = Taking(me, f"ROOST_{namespace}")
        taking.pump.start()
        await taking.until(trouble=1, within_s=2)
        assert taking.trouble[0][0] == "missing"
        taking.pump.stop()


async def test_16_pull_the_server_refuses_is_told_with_its_words(nats_url: str, namespace: str) -> None:
    stream = f"ROOST_{namespace}"
    async with ours(nats_url) as me:
        await me.jetstream.call(f"STREAM.CREATE.{stream}", {"name": stream, "subjects": [f"{stream}.>"]})
        config = {"durable_name": "C", "ack_policy": "explicit", "max_batch": 5}
        body = {"stream_name": stream, "config": config, "action": "create"}
        await me.jetstream.call(f"CONSUMER.CREATE.{stream}.C", body)
        taking = Taking(me, stream, room=10)
        taking.pump.start()
        await taking.until(trouble=1)
        assert taking.trouble[0] == ("refused", "409 Exceeded MaxRequestBatch of 5")
        taking.pump.stop()


async def test_16_missed_heartbeats_are_noticed_and_the_pull_is_asked_again(own_server: LocalServer) -> None:
    """A frozen server: its connections stay open, only the heartbeats stop."""
    async with ours(own_server.url) as me:
        await provision(me, "S")
        taking = Taking(me, "S", expires_s=1.0, heartbeat_s=0.1)
        taking.pump.start()
        await me.client.flush()
        own_server.pause()
        await taking.until(trouble=1, within_s=3)
        assert taking.trouble[0][0] == "silent"
        assert taking.pump.silent >= 1
        own_server.resume()
        await me.jetstream.publish("S.x", b"after")
        await taking.until(1)
        assert me.client.is_connected
        taking.pump.stop()


async def test_16_pulls_go_on_after_a_restart_of_the_server(own_server: LocalServer) -> None:
    """At once, not when the pump next looks after its pulls: every 4 s with these heartbeats."""
    async with ours(own_server.url) as me:
        await provision(me, "S")
        taking = Taking(me, "S", heartbeat_s=8)
        taking.pump.start()
        await me.jetstream.publish("S.x", b"before")
        await taking.until(1)
        for number in (1, 2):
            own_server.kill()
            await me.events.wait("connection_lost", number=number)
            own_server.restart()
            await me.events.wait("reconnected", number=number)
            before = len(taking.got)
            await me.jetstream.publish("S.x", b"after")
            await taking.until(before + 1, within_s=2)
        assert taking.pump.asked <= 10
        taking.pump.stop()


async def test_16_pump_that_stops_while_disconnected_or_closed_leaves_nothing(
    own_server: LocalServer,
) -> None:
    async with ours(own_server.url) as me:
        await provision(me, "S")
        taking, other = Taking(me, "S"), Taking(me, "S")
        taking.pump.start()
        other.pump.start()
        own_server.kill()
        await me.events.wait("connection_lost")
        taking.pump.stop()
        await me.client.close()
        other.pump.stop()
        assert me.client.on_reconnect == []


async def test_16_stock_fetch_takes_a_deleted_consumer_for_a_timeout(nats_url: str, namespace: str) -> None:
    stream = f"ROOST_{namespace}"
    async with ours(nats_url) as me, stock(nats_url) as client:
        await provision(me, stream)
        subscription = await client.jetstream().pull_subscribe_bind("C", stream)
        fetching = asyncio.create_task(subscription.fetch(1, timeout=0.5))
        await settle(client)
        await me.jetstream.call(f"CONSUMER.DELETE.{stream}.C")
        with pytest.raises(nats.errors.TimeoutError):
            await fetching


async def test_what_strangers_send_to_the_inbox_of_a_pull_is_no_delivery_and_is_not_answered(
    nats_url: str, namespace: str
) -> None:
    """It once was answered at the subject of the stranger's choice, and without one it was a traceback each."""
    stream = f"ROOST_{namespace}"
    async with ours(nats_url) as me, raw(nats_url) as stranger:
        await provision(me, stream)
        got: list[Message] = []
        trouble: list[str] = []
        pump = Pump(
            me.client,
            stream,
            "C",
            on_message=got.append,
            room=lambda: 20,
            on_trouble=lambda kind, _: trouble.append(kind),
        )
        pump.start()
        (inbox,) = {one.subject for one in me.client._listeners.values() if one.subject.endswith(".0.*")}
        await me.client.flush()
        place = inbox.replace("*", "1").encode()
        await stranger.publish(place, b"x")
        await stranger.publish(place, b"x", b"admin.cmd")
        await stranger.publish(place, b"", b"_INBOX.x")
        await me.client.flush()
        assert trouble == ["strayed"] * 3
        await me.jetstream.publish(f"{stream}.x", b"work")
        async with asyncio.timeout(5):
            while not got:
                await me.client.flush()
        assert [one.data for one in got] == [b"work"]
        pump.stop()
