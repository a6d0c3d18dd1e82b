"""Defects of shutdown. 4: nats-py's `drain` ends the answers to requests before handlers have finished.
5: it hangs for its whole timeout, or raises, when the broker is down.

Ours: ask for no more, let handlers finish, flush, close; within its time whatever the server does, and with no
task or socket left behind (the suite fails a test that leaves a task, and turns warnings into errors).
"""

from __future__ import annotations

import asyncio
import time

import pytest
from defect_kit import Events, Ours, greet, ours, rogue, settle, stock
from nats.aio.client import Client as StockClient
from nats.aio.msg import Msg
from nats.errors import ConnectionReconnectingError
from nats.errors import TimeoutError as NatsTimeoutError

from roost.errors import ConnectError, ConnectionClosed, Disconnected
from roost.server import LocalServer
from roost.settings import Settings
from roost.transport import Message, open_client
from roost.transport.connection import close_client


async def a_stream(me: Ours, name: str) -> None:
    await me.jetstream.call(f"STREAM.CREATE.{name}", {"name": name, "subjects": [f"{name}.>"]})


async def test_04_handler_in_flight_can_still_publish_and_ask_while_shutting_down(
    nats_url: str, namespace: str
) -> None:
    stream = f"ROOST_{namespace}"
    async with ours(nats_url) as me:
        await a_stream(me, stream)
        work: list[asyncio.Task[int]] = []
        came = asyncio.Event()

        async def handle() -> int:
            await came.wait()
            return await me.jetstream.publish(f"{stream}.x", b"done in shutdown", timeout_s=1)

        def callback(message: Message) -> None:
            work.append(asyncio.create_task(handle()))

        listener = me.client.listen("d04", callback)
        me.client.send("d04")
        await me.client.flush()
        me.client.end_interest(listener)
        me.client.send("d04")  # nobody is interested any more
        came.set()
        assert await asyncio.gather(*work) == [1]
        await me.client.close()
        assert len(work) == 1


async def test_04_stock_drain_takes_the_answers_from_a_handler_in_flight(
    nats_url: str, namespace: str
) -> None:
    stream = f"ROOST_{namespace}"
    async with ours(nats_url) as me:
        await a_stream(me, stream)
    outcome: asyncio.Future[str] = asyncio.get_running_loop().create_future()
    async with stock(nats_url, drain_timeout=2) as client:
        started = asyncio.Event()
        streams = client.jetstream()
        await streams.publish(f"{stream}.x", b"first")  # the inbox exists by now

        async def handle(message: Msg) -> None:
            started.set()
            await asyncio.sleep(0.05)
            try:
                await streams.publish(f"{stream}.x", b"in drain", timeout=0.3)
                outcome.set_result("acknowledged")
            except NatsTimeoutError:
                outcome.set_result("timed out")

        await client.subscribe("d04s", cb=handle)
        await client.publish("d04s")
        await started.wait()
        await client.drain()
        assert await outcome == "timed out"
    async with ours(nats_url) as me:
        info = await me.jetstream.call(f"STREAM.INFO.{stream}")
        assert info["state"]["messages"] == 2


async def test_05_closing_while_the_broker_is_down_is_quick_and_silent(own_server: LocalServer) -> None:
    async with ours(own_server.url) as me:
        own_server.kill()
        await me.events.wait("connection_lost")
        begun = time.monotonic()
        await me.client.close()
        assert time.monotonic() - begun < 1.5
        assert me.client.is_closed


async def test_05_closing_while_the_broker_is_frozen_ends_in_its_time(own_server: LocalServer) -> None:
    async with ours(own_server.url) as me:
        own_server.pause()
        me.client.send("d05", b"x" * 500_000)
        for _ in range(40):  # 20 MB: more than any socket takes, so the close cannot send it all
            me.client.send("d05", b"x" * 500_000)
        begun = time.monotonic()
        await close_client(me.client, timeout_s=0.5)
        assert time.monotonic() - begun < 1.5
        own_server.resume()


async def test_05_closing_during_an_attempt_to_reconnect_ends_that_attempt() -> None:
    """The attempt hangs when the close comes: the server accepts the connection and never greets."""
    connections = 0
    hanging = asyncio.Event()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if connections == 1:
            await greet(reader, writer)
        else:
            hanging.set()
            await reader.read()

    async with rogue(talk) as address, ours(f"nats://{address}") as me:
        async with asyncio.timeout(5):
            await hanging.wait()
        begun = time.monotonic()
        await me.client.close()
        assert time.monotonic() - begun < 1.5
        assert me.client.is_closed


async def test_05_everything_that_waits_is_told_when_the_client_closes(nats_url: str) -> None:
    async with ours(nats_url) as me, ours(nats_url) as silent:
        silent.client.listen("d05.silent", lambda _: None)
        await silent.client.flush()
        asked = asyncio.create_task(me.requests.ask("d05.silent", timeout_s=30))
        await asyncio.sleep(0)
        await me.client.close()
        with pytest.raises(Disconnected):
            await asked
        for call in (lambda: me.client.send("x"), lambda: me.client.listen("x", print)):
            with pytest.raises(ConnectionClosed):
                call()
        for waiting in (me.client.flush(), me.requests.ask("x", timeout_s=1), me.client.rtt()):
            with pytest.raises(ConnectionClosed):
                await waiting
        await me.client.close()  # once more does no harm


async def test_05_what_was_sent_before_the_close_arrives(nats_url: str) -> None:
    async with ours(nats_url) as listening:
        got: list[bytes] = []
        listening.client.listen("d05.last", lambda message: got.append(message.data))
        await listening.client.flush()
        async with ours(nats_url) as me:
            for number in range(1000):
                me.client.send("d05.last", b"%d" % number)
        await listening.client.flush()
        assert len(got) == 1000


async def test_05_a_cancelled_close_leaves_nothing_open(own_server: LocalServer) -> None:
    async with ours(own_server.url) as me:
        own_server.pause()
        closing = asyncio.create_task(me.client.close(30))
        await asyncio.sleep(0)
        closing.cancel()
        begun = time.monotonic()
        await asyncio.gather(closing, return_exceptions=True)
        assert time.monotonic() - begun < 5
        assert me.client.is_closed
        own_server.resume()


async def test_05_failed_and_cancelled_attempts_to_connect_leave_nothing_open() -> None:
    async def say_nothing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()

    async with rogue(say_nothing) as address:
        begun = time.monotonic()
        with pytest.raises(ConnectError, match=r"no answer within 0\.3 s"):
            await open_client(Settings(servers=(f"nats://{address}",), connect_timeout_s=0.3), Events())
        assert time.monotonic() - begun < 1.5
        attempt = asyncio.create_task(open_client(Settings(servers=(f"nats://{address}",)), Events()))
        await asyncio.sleep(0.05)
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt


async def buffered(client: StockClient, stream: str) -> None:
    """A pull subscription of nats-py with messages that nobody has fetched."""
    subscription = await client.jetstream().pull_subscribe(f"{stream}.x", "C")
    await client.publish(subscription._nms, b'{"batch":3}', subscription._deliver)
    for _ in range(3):
        await client.jetstream().publish(f"{stream}.x", b"")
    await settle(client)
    assert subscription._sub.pending_msgs == 3


async def test_05_messages_that_nobody_fetched_do_not_hold_the_close_up(
    nats_url: str, namespace: str
) -> None:
    stream = f"ROOST_{namespace}"
    async with ours(nats_url) as me:
        await a_stream(me, stream)
        await buffered(me.client, stream)
        begun = time.monotonic()
        await me.client.drain()
        assert time.monotonic() - begun < 1.5


async def test_05_stock_drain_hangs_for_messages_that_nobody_fetched(nats_url: str, namespace: str) -> None:
    stream = f"ROOST_{namespace}"
    async with ours(nats_url) as me:
        await a_stream(me, stream)
    async with stock(nats_url, drain_timeout=0.5) as client:
        await buffered(client, stream)
        begun = time.monotonic()
        await client.drain()
        assert time.monotonic() - begun > 0.4


async def test_05_stock_drain_raises_while_the_broker_is_down(own_server: LocalServer) -> None:
    lost = asyncio.Event()

    async def told() -> None:
        lost.set()

    async with stock(own_server.url, disconnected_cb=told) as client:
        own_server.kill()
        async with asyncio.timeout(3):
            await lost.wait()
        with pytest.raises(ConnectionReconnectingError):
            await client.drain()
        own_server.restart()
