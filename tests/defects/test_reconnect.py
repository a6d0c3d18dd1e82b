"""Defect 21: nats-py notices a frozen peer after up to six minutes, reconnects after a fixed pause (fifty clients
in the same instant), and may try the first connection for two minutes.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import AsyncExitStack

import pytest
from defect_kit import Events, Ours, free_port, ours, stock

from roost.errors import ConfigError, ConnectError
from roost.server import LocalServer
from roost.settings import Settings
from roost.transport import open_client
from roost.transport.session import PING_INTERVAL_S, SILENT_PINGS, reconnect_delay_s

CLIENTS = 50


async def test_21_fifty_clients_come_back_spread_over_time(own_server: LocalServer) -> None:
    async with AsyncExitStack() as stack:
        clients = [await stack.enter_async_context(ours(own_server.url)) for _ in range(CLIENTS)]
        back: list[float] = []
        for client in clients:
            client.client.on_reconnect.append(lambda: back.append(time.monotonic()))
        own_server.kill()
        own_server.restart()
        await asyncio.gather(*(client.events.wait("reconnected") for client in clients))
        assert len(back) == CLIENTS
        assert max(back) - min(back) > 0.1
        assert statistics.pstdev(back) > 0.03
        assert all([await client.works() for client in clients[:5]])


def test_21_pauses_grow_are_capped_and_are_spread_over_their_whole_length() -> None:
    for attempt, most in enumerate([0.25, 0.5, 1.0, 2.0, 2.0, 2.0]):
        assert reconnect_delay_s(attempt, 0.0) == 0.0
        assert reconnect_delay_s(attempt, 0.5) == most / 2
    assert reconnect_delay_s(10_000, 1.0) == 2.0
    assert reconnect_delay_s(10_000, 1.0, 10.0) == 10.0


async def test_21_stock_clients_come_back_in_one_instant(own_server: LocalServer) -> None:
    back: list[float] = []
    events = Events()

    async def on_back() -> None:
        back.append(time.monotonic())
        events("back", "")

    async with AsyncExitStack() as stack:
        for _ in range(10):
            await stack.enter_async_context(
                stock(own_server.url, reconnected_cb=on_back, reconnect_time_wait=0.5)
            )
        own_server.kill()
        own_server.restart()
        await events.wait("back", number=10)
        assert max(back) - min(back) < 0.4


async def test_21_subscriptions_survive_a_restart_and_nothing_comes_twice(own_server: LocalServer) -> None:
    async with ours(own_server.url) as me:
        got: list[bytes] = []
        kept = me.client.listen("d21.a", lambda message: got.append(message.data))
        ended = me.client.listen("d21.a", lambda message: got.append(b"ended"))
        queued = me.client.listen("d21.q", lambda message: got.append(b"q:" + message.data), "group")
        me.client.end_interest(ended)
        own_server.kill()
        await me.events.wait("connection_lost")
        added = me.client.listen("d21.b", lambda message: got.append(b"b:" + message.data))
        gone = me.client.listen("d21.a", lambda message: got.append(b"gone"))
        me.client.unlisten(gone)
        own_server.restart()
        await me.events.wait("reconnected")
        for subject in ("d21.a", "d21.b", "d21.q"):
            me.client.send(subject, b"x")
        await me.client.flush()
        assert got == [b"x", b"b:x", b"q:x"]
        assert set(me.client._listeners.values()) == {kept, queued, added}


async def test_21_frozen_server_is_noticed_by_pings(own_server: LocalServer) -> None:
    """With the pings of 0.1 s that this test sets; a connection is given up after two without any sign of life."""
    async with ours(own_server.url) as me:
        await shorten_pings(me)
        own_server.pause()
        begun = time.monotonic()
        lost = await me.events.wait("connection_lost", within_s=3)
        assert lost == "nothing was heard from the server any more"
        assert time.monotonic() - begun > 0.1
        own_server.resume()
        await me.events.wait("reconnected")
        assert await me.works()


async def test_21_traffic_counts_as_a_sign_of_life(nats_url: str) -> None:
    """A pong may stand behind megabytes of messages."""
    async with ours(nats_url) as me:
        await shorten_pings(me, 0.05)
        original = me.client.control

        def without_pongs(operation: bytes, argument: bytes) -> None:
            if operation != b"PONG":
                original(operation, argument)

        me.client.control = without_pongs  # type: ignore[method-assign]
        me.client.listen("d21.busy", lambda _: None)
        until = time.monotonic() + 0.5
        while time.monotonic() < until:
            me.client.send("d21.busy")
            await asyncio.sleep(0.01)
        assert me.events.all == []
        me.client.control = original  # type: ignore[method-assign]


async def shorten_pings(me: Ours, interval_s: float = 0.1) -> None:
    me.client.ping_interval_s = interval_s
    await me.client.force_reconnect()
    await me.events.wait("reconnected")
    me.events.all.clear()


def test_21_a_frozen_server_is_noticed_within_half_a_minute() -> None:
    assert PING_INTERVAL_S * (SILENT_PINGS + 1) <= 30


async def test_21_frozen_server_with_a_full_socket_does_not_hold_the_reconnect_up(
    own_server: LocalServer,
) -> None:
    """nats-py waits until the last bytes have been taken, which a frozen server never does."""
    async with ours(own_server.url) as me:
        await shorten_pings(me)
        own_server.pause()
        for _ in range(40):
            me.client.send("d21.big", b"x" * 500_000)
        lost = await me.events.wait("connection_lost", within_s=3)
        assert "bytes were not sent any more" in lost
        own_server.resume()
        await me.events.wait("reconnected")
        assert await me.works()


async def test_21_first_connection_has_a_deadline() -> None:
    begun = time.monotonic()
    with pytest.raises(ConnectError, match="Connect call failed") as refused:
        await open_client(
            Settings(servers=(f"nats://127.0.0.1:{free_port()}",), connect_timeout_s=0.3), Events()
        )
    assert 0.25 < time.monotonic() - begun < 2
    assert refused.value.retryable


async def test_21_first_connection_waits_for_a_server_that_is_just_starting(own_server: LocalServer) -> None:
    own_server.kill()
    opening = asyncio.create_task(open_client(Settings(servers=(own_server.url,)), Events()))
    await asyncio.sleep(0.05)
    own_server.restart()
    client = await opening
    await client.flush()
    await client.close()


async def test_21_other_servers_are_tried_when_one_does_not_answer(
    own_server: LocalServer, nats_url: str
) -> None:
    """One address refuses, one is frozen, one works."""
    own_server.pause()
    async with ours(
        f"nats://127.0.0.1:{free_port()}", own_server.url, nats_url, timeout_s=1.5, dont_randomize=True
    ) as me:
        assert await me.works()
    own_server.resume()


@pytest.mark.parametrize("url", ["ws://127.0.0.1:1", "http://x", "wss://x"])
async def test_21_address_of_another_kind_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match="use nats:// or tls://"):
        await open_client(Settings(servers=(url,)), Events())


@pytest.mark.parametrize("url", ["nats://", "nats://host:port", "127.0.0.1:99999"])
async def test_21_address_that_cannot_be_read_is_an_error_at_once(url: str) -> None:
    begun = time.monotonic()
    with pytest.raises((ConnectError, ConfigError)):
        await open_client(Settings(servers=(url,)), Events())
    assert time.monotonic() - begun < 2
