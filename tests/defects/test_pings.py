"""Defect 2: a `flush` that timed out or was cancelled ends nats-py's read loop when its pong comes after all.

Defect 26: nats-py writes the ping of a `flush` straight to the socket, past what waits in its buffer. So the flush may
return before the server has seen a SUB, UNSUB or PUB made just before it: another client's request was then told that
nobody listens (5 of 60 times; 8 % of tries in a loop), and `drain`, which relies on it, can lose messages.
"""

from __future__ import annotations

import asyncio

import pytest
from defect_kit import greet, ours, rogue, stock, stock_works
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


class Wire:
    """A server that notes the operations it was sent, in order; it cannot be seen on a real one."""

    def __init__(self) -> None:
        self.operations: list[bytes] = []

    async def talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        while line := await reader.readline():
            operation = line.split()[0]
            if operation == b"PING":
                writer.write(b"PONG\r\n")
            if operation.isupper():
                self.operations.append(operation)


async def test_26_the_ping_of_a_flush_follows_what_was_sent_before_it() -> None:
    wire = Wire()
    async with rogue(wire.talk) as address, ours(f"nats://{address}") as me:
        await me.client.flush()
        wire.operations.clear()
        listener = me.client.listen("d26", lambda _: None)
        me.client.send("d26", b"data")
        await me.client.flush()
        me.client.unlisten(listener)
        await me.client.flush()
        assert wire.operations == [b"SUB", b"PUB", b"PING", b"UNSUB", b"PING"]


async def test_26_stock_ping_overtakes_what_was_sent_before_it() -> None:
    wire = Wire()
    async with rogue(wire.talk) as address, stock(f"nats://{address}") as client:
        await client.flush()
        wire.operations.clear()
        await client.subscribe("d26s")
        await client.publish("d26s", b"data")
        await client.flush()
        await client.flush()
        assert wire.operations == [b"PING", b"SUB", b"PUB", b"PING"]
