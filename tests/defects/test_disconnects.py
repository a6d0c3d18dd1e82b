"""Defects at a disconnect. 9: nats-py sends what was published meanwhile after its caller has given up.
10: its asynchronous publishes never complete. 11: requests whose publish raised are never forgotten.
12: requests in flight wait for their whole timeout.
"""

from __future__ import annotations

import asyncio
import time

import nats.errors
import pytest
from defect_kit import Events, Ours, ours, settle, stock
from nats.aio.msg import Msg

from roost.errors import Disconnected, NoResponders, NotConnected, RequestTimeout, TooLarge
from roost.server import LocalServer

TOO_MUCH = b"x" * (1024 * 1024 + 1)


async def a_stream(me: Ours) -> None:
    await me.jetstream.call("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"]})


async def messages(me: Ours) -> int:
    info = await me.jetstream.call("STREAM.INFO.S")
    return int(info["state"]["messages"])


async def test_09_nothing_sent_while_disconnected_arrives_later(own_server: LocalServer) -> None:
    async with ours(own_server.url) as me:
        await a_stream(me)
        own_server.kill()
        await me.events.wait("connection_lost")
        with pytest.raises(NotConnected):
            me.client.send("s.x", b"late")
        with pytest.raises(NotConnected):
            await me.client.publish("s.x", b"late")
        with pytest.raises(NotConnected):
            await me.jetstream.publish("s.x", b"late")
        with pytest.raises(NotConnected):
            await me.client.request("s.x", b"late")
        with pytest.raises(NotConnected):
            await me.client.flush()
        own_server.restart()
        await me.events.wait("reconnected")
        assert await messages(me) == 0
        assert await me.jetstream.publish("s.x", b"now") == 1


async def test_09_what_was_buffered_when_the_connection_broke_does_not_arrive_later(
    own_server: LocalServer,
) -> None:
    """The turn of the loop in which the server dies: sent, not written, and not kept for the next connection."""
    async with ours(own_server.url) as me:
        await a_stream(me)
        own_server.kill()
        for _ in range(1000):
            me.client.send("s.x", b"x" * 1000)
        lost = await me.events.wait("connection_lost")
        assert lost
        own_server.restart()
        await me.events.wait("reconnected")
        assert await messages(me) == 0
        assert me.client.backlog == 0


async def test_09_what_was_sent_in_the_turn_of_the_loss_is_dropped_and_said_so(
    own_server: LocalServer,
) -> None:
    async with ours(own_server.url) as me:
        await a_stream(me)
        me.client.send("s.x", b"x" * 1000)
        await me.client.force_reconnect()  # in the same turn of the loop
        assert "1000 bytes were not sent any more" in await me.events.wait("connection_lost")
        await me.events.wait("reconnected")
        await me.client.flush()
        assert await messages(me) == 0


async def test_09_stock_sends_it_after_the_caller_gave_up(own_server: LocalServer) -> None:
    lost, back = asyncio.Event(), asyncio.Event()

    async def on_lost() -> None:
        lost.set()

    async def on_back() -> None:
        back.set()

    async with ours(own_server.url) as me:
        await a_stream(me)
        async with stock(own_server.url, disconnected_cb=on_lost, reconnected_cb=on_back) as client:
            own_server.kill()
            await lost.wait()
            with pytest.raises(nats.errors.TimeoutError):
                await client.jetstream().publish("s.x", b"late", timeout=0.1)
            own_server.restart()
            async with asyncio.timeout(3):
                await back.wait()
            await settle(client)
        await me.events.wait("reconnected")
        assert await messages(me) == 1


async def test_10_publishes_in_flight_fail_at_once_and_leave_nothing_behind(own_server: LocalServer) -> None:
    async with ours(own_server.url) as me:
        await a_stream(me)
        own_server.pause()
        publishes = [
            asyncio.create_task(me.jetstream.publish("s.x", b"%d" % n, timeout_s=30)) for n in range(64)
        ]
        await asyncio.sleep(0)
        begun = time.monotonic()
        own_server.kill()
        outcomes = await asyncio.gather(*publishes, return_exceptions=True)
        assert time.monotonic() - begun < 5
        assert {type(outcome) for outcome in outcomes} == {Disconnected}
        assert len(me.requests) == 0
        own_server.restart()
        await me.events.wait("reconnected")
        assert await me.jetstream.publish("s.x", b"now") >= 1


async def test_10_stock_asynchronous_publishes_never_complete_after_a_disconnect(
    own_server: LocalServer,
) -> None:
    events = Events()

    async def on_back() -> None:
        events("back", "")

    async with ours(own_server.url) as me:
        await a_stream(me)
    async with stock(own_server.url, reconnected_cb=on_back) as client:
        own_server.pause()
        streams = client.jetstream()
        publishes = [await streams.publish_async("s.x", b"x") for _ in range(8)]
        await asyncio.sleep(0)
        own_server.kill()
        own_server.restart()
        await events.wait("back")
        await settle(client)
        assert [publish.done() for publish in publishes] == [False] * 8


async def test_11_requests_whose_publish_raises_are_forgotten(nats_url: str) -> None:
    async with ours(nats_url) as me:
        for _ in range(100):
            with pytest.raises(TooLarge):
                await me.requests.ask("d11", TOO_MUCH, timeout_s=1)
            with pytest.raises(TooLarge):
                await me.client.request("d11", TOO_MUCH)
        assert len(me.requests) == 0
        assert me.client._resp_map == {}


async def test_11_requests_that_time_out_or_are_cancelled_are_forgotten(nats_url: str) -> None:
    async with ours(nats_url) as me:
        me.client.listen("d11.silent", lambda _: None)
        with pytest.raises(RequestTimeout):
            await me.requests.ask("d11.silent", timeout_s=0.01)
        waiting = asyncio.create_task(me.requests.ask("d11.silent", timeout_s=30))
        await asyncio.sleep(0)
        assert len(me.requests) == 1
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert len(me.requests) == 0


async def test_11_stock_keeps_requests_whose_publish_raised(nats_url: str) -> None:
    async with stock(nats_url) as client:
        for _ in range(100):
            with pytest.raises(nats.errors.MaxPayloadError):
                await client.request("d11", TOO_MUCH)
        assert len(client._resp_map) == 100
        for future in client._resp_map.copy().values():
            future.cancel()


async def test_12_requests_in_flight_fail_at_once_when_the_connection_is_lost(
    own_server: LocalServer,
) -> None:
    async with ours(own_server.url) as me:
        me.client.listen("d12.silent", lambda _: None)
        asked = [
            asyncio.create_task(me.requests.ask("d12.silent", timeout_s=30)),
            asyncio.create_task(me.requests.ask_many("d12.silent", timeout_s=30)),
        ]
        asked_by_nats_py = asyncio.create_task(me.client.request("d12.silent", timeout=30))
        flush = asyncio.create_task(me.client.flush(30))
        await me.client.flush()
        await flush
        own_server.pause()
        flush = asyncio.create_task(me.client.flush(30))
        await asyncio.sleep(0)
        begun = time.monotonic()
        own_server.kill()
        outcomes = await asyncio.gather(*asked, asked_by_nats_py, flush, return_exceptions=True)
        assert time.monotonic() - begun < 5
        assert [type(outcome) for outcome in outcomes] == [Disconnected] * 4
        assert len(me.requests) == 0


async def test_12_stock_request_in_flight_waits_for_its_whole_timeout(own_server: LocalServer) -> None:
    async def silent(message: Msg) -> None:
        pass

    async with stock(own_server.url) as client:
        await client.subscribe("d12.silent", cb=silent)
        asked = asyncio.create_task(client.request("d12.silent", timeout=0.5))
        await settle(client)
        begun = time.monotonic()
        own_server.kill()
        with pytest.raises(nats.errors.TimeoutError):
            await asked
        assert time.monotonic() - begun > 0.3


async def test_12_request_ends_at_once_when_nobody_listens(nats_url: str) -> None:
    async with ours(nats_url) as me:
        begun = time.monotonic()
        with pytest.raises(NoResponders):
            await me.requests.ask("d12.nobody", timeout_s=30)
        with pytest.raises(NoResponders):
            await me.requests.ask_many("d12.nobody", timeout_s=30)
        with pytest.raises(nats.errors.NoRespondersError):
            await me.client.request("d12.nobody", timeout=30)
        assert time.monotonic() - begun < 5


@pytest.mark.parametrize("timeout_s", [0, -1.0, float("nan")])
async def test_12_request_without_time_is_not_sent(nats_url: str, timeout_s: float) -> None:
    async with ours(nats_url) as me:
        sent = me.client.stats["out_msgs"]
        with pytest.raises(RequestTimeout):
            await me.requests.ask("d12.nobody", timeout_s=timeout_s)
        assert me.client.stats["out_msgs"] == sent
