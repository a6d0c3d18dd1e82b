"""Defects of callbacks. 3: an exception in nats-py's error callback ends a subscription or the read loop.
13: a callback that raises CancelledError ends its subscription for ever. 14: one callback at a time.
24: a burst drops messages, with one error callback for each, awaited inside the read loop.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from defect_kit import Events, ours, raw, settle, stock
from nats.aio.msg import Msg
from nats.errors import SlowConsumerError

from roost.server import LocalServer
from roost.transport import Message

BURST = 200_000


@contextmanager
def silenced() -> Iterator[None]:
    """Tracebacks that a test provokes are not printed."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


@pytest.mark.parametrize("error", [RuntimeError("a bug"), asyncio.CancelledError(), StopIteration()])
async def test_13_callback_that_raises_anything_goes_on_receiving(
    nats_url: str, error: BaseException
) -> None:
    got: list[bytes] = []

    def callback(message: Message) -> None:
        got.append(message.data)
        raise error

    async with ours(nats_url) as me:
        me.client.listen("d13", callback)
        for number in range(3):
            me.client.send("d13", b"%d" % number)
        with silenced():
            await me.client.flush()
        assert got == [b"0", b"1", b"2"]
        assert me.client.callback_errors == 3
        assert await me.works()


async def test_13_stock_subscription_ends_when_its_callback_raises_cancelled(nats_url: str) -> None:
    got: list[bytes] = []

    async def callback(message: Msg) -> None:
        got.append(message.data)
        raise asyncio.CancelledError

    async with stock(nats_url) as client:
        await client.subscribe("d13s", cb=callback)
        for number in range(3):
            await client.publish("d13s", b"%d" % number)
        await settle(client)
        assert got == [b"0"]


async def test_03_exceptions_of_observers_harm_nothing(own_server: LocalServer) -> None:
    """All that a client calls back may raise: on events, on disconnect, on reconnect, on denial."""
    events = Events()

    def observe(event: str, detail: str) -> None:
        events(event, detail)
        raise RuntimeError("a bug in the observer")

    def broken(*_: str) -> None:
        raise asyncio.CancelledError

    with silenced():
        async with ours(own_server.url) as me:
            me.client._observe = observe
            me.client.on_disconnect.insert(0, broken)
            me.client.on_reconnect.insert(0, broken)
            me.client.on_denied.insert(0, broken)
            me.client._refused('Permissions Violation for Publish to "x"')
            own_server.kill()
            await events.wait("connection_lost")
            own_server.restart()
            await events.wait("reconnected")
            assert await me.works()


async def test_03_stock_subscription_ends_when_the_error_callback_raises(nats_url: str) -> None:
    got: list[bytes] = []

    async def callback(message: Msg) -> None:
        got.append(message.data)
        raise ValueError

    async def failing(error: Exception) -> None:
        raise RuntimeError

    async with stock(nats_url, error_cb=failing) as client:
        subscription = await client.subscribe("d03", cb=callback)
        for number in range(3):
            await client.publish("d03", b"%d" % number)
        await settle(client)
        assert got == [b"0"]
        task = subscription._wait_for_msgs_task
        assert task is not None
        assert isinstance(task.exception(), RuntimeError)


async def test_14_callbacks_are_not_serialised_behind_slow_work(nats_url: str) -> None:
    """A callback starts work and returns: five pieces of 0.2 s are done after 0.2 s, not after 1 s."""
    async with ours(nats_url) as me, asyncio.TaskGroup() as work:
        loop = asyncio.get_running_loop()
        begun: list[float] = []

        def callback(message: Message) -> None:
            begun.append(loop.time())
            work.create_task(asyncio.sleep(0.2))

        me.client.listen("d14", callback)
        for _ in range(5):
            me.client.send("d14")
        await me.client.flush()
        assert len(begun) == 5
        assert begun[-1] - begun[0] < 0.1


async def test_14_stock_runs_one_callback_at_a_time(nats_url: str) -> None:
    loop = asyncio.get_running_loop()
    done: asyncio.Future[None] = loop.create_future()
    begun: list[float] = []

    async def callback(message: Msg) -> None:
        begun.append(loop.time())
        if len(begun) == 5:
            done.set_result(None)
        await asyncio.sleep(0.1)

    async with stock(nats_url) as client:
        await client.subscribe("d14s", cb=callback)
        for _ in range(5):
            await client.publish("d14s")
        async with asyncio.timeout(3):
            await done
        assert begun[-1] - begun[0] > 0.35


async def test_24_burst_to_a_slow_callback_loses_nothing(nats_url: str) -> None:
    """200,000 messages in one go; what cannot be handled yet waits at the server, not in a queue of ours."""
    done = asyncio.Event()
    seen = 0
    last = -1
    disorder = 0

    def slow(message: Message) -> None:
        nonlocal seen, last, disorder
        number = int(message.data)
        disorder += number != last + 1
        last = number
        seen += 1
        sum(range(100))  # some microseconds of work
        if seen == BURST:
            done.set()

    async with ours(nats_url) as me:
        me.client.listen("d24", slow)
        await me.client.flush()
        async with raw(nats_url) as publisher:
            await publisher.send(
                *(line for number in range(BURST) for line in (b"PUB d24 6", b"%06d" % number))
            )
        async with asyncio.timeout(20):
            await done.wait()
        assert (seen, disorder) == (BURST, 0)
        assert me.events.all == []


async def test_24_what_a_subscription_of_nats_py_drops_is_counted(nats_url: str) -> None:
    async with ours(nats_url) as me:
        await me.client.subscribe("d24n", pending_msgs_limit=10)
        async with ours(nats_url) as other:
            for _ in range(200):
                other.client.send("d24n", b"x")
            await other.client.flush()
        await me.client.flush()
        await me.client.flush()
        assert me.client.dropped == 190
        assert me.events.count("slow_consumer") == 8  # at the 1st, 2nd, 4th … 128th, not 190 times
        assert await me.works()


async def test_24_stock_calls_back_for_each_dropped_message_inside_the_read_loop(nats_url: str) -> None:
    errors: list[Exception] = []

    async def count(error: Exception) -> None:
        errors.append(error)

    async with stock(nats_url, error_cb=count) as client:
        await client.subscribe("d24s", pending_msgs_limit=10)
        async with ours(nats_url) as other:
            for _ in range(200):
                other.client.send("d24s", b"x")
            await other.client.flush()
        await settle(client)
        assert len(errors) == 190
        assert all(isinstance(error, SlowConsumerError) for error in errors)
