"""Defect 2: a `flush` that timed out or was cancelled ends nats-py's read loop when its pong comes after all."""

from __future__ import annotations

import asyncio

import pytest
from defect_kit import ours, stock, stock_works
from nats.errors import FlushTimeoutError

from roost.server import LocalServer


async def test_02_flush_that_timed_out_does_not_stop_the_client(own_server: LocalServer) -> None:
    async with ours(own_server.url) as me:
        own_server.pause()
        with pytest.raises(TimeoutError):
            await me.client.flush(0.1)
        with pytest.raises(TimeoutError):
            await me.client.rtt(0.1)
        own_server.resume()
        await me.client.flush()  # its pong is the third, after the two that nobody waits for
        assert await me.works()


async def test_02_cancelled_flush_does_not_stop_the_client(own_server: LocalServer) -> None:
    async with ours(own_server.url) as me:
        own_server.pause()
        flushes = [asyncio.create_task(me.client.flush()) for _ in range(3)]
        await asyncio.sleep(0)
        for flush in flushes:
            flush.cancel()
        await asyncio.gather(*flushes, return_exceptions=True)
        own_server.resume()
        await me.client.flush()
        assert await me.works()


async def test_02_stock_is_stopped_by_a_flush_that_timed_out(own_server: LocalServer) -> None:
    async with stock(own_server.url) as client:
        own_server.pause()
        with pytest.raises(FlushTimeoutError):
            await client.flush(timeout=0.1)  # type: ignore[arg-type]
        own_server.resume()
        assert not await stock_works(client)
        assert client.is_connected


async def test_02_late_pongs_do_not_answer_later_pings(own_server: LocalServer) -> None:
    """Otherwise a flush would return before the server has seen what was sent before it."""
    async with ours(own_server.url) as me:
        own_server.pause()
        early = asyncio.create_task(me.client.flush())
        await asyncio.sleep(0)
        early.cancel()
        late = asyncio.create_task(me.client.flush())
        await asyncio.sleep(0)
        own_server.resume()
        await late
        assert me.client._pongs == []
        await asyncio.gather(early, return_exceptions=True)
