"""What handlers say while they work: read live and later, by whoever comes, as often as wanted."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import pytest
from pydantic import BaseModel

import roost
from roost.server import LocalServer
from roost.tasks.progress import CHUNK_LIMITS, Emitter
from tasks.support import SOON_S, Events, Number, agent_of, children, provision, put, stranger, until
from tasks.teller_process import told

C = TypeVar("C")
Handler = Callable[[Number, roost.Context], Awaitable[Number]]


class Token(BaseModel):
    text: str


async def all_of(chunks: AsyncIterator[roost.Chunk[C]]) -> list[C]:
    async with asyncio.timeout(SOON_S):
        return [chunk.value async for chunk in chunks]


async def counting(value: Number, ctx: roost.Context) -> Number:
    for n in range(value.n):
        await ctx.emit(n)
    return value


async def test_readers_that_come_early_late_and_after_the_end_read_the_same(
    nats_url: str, namespace: str
) -> None:
    half, go_on = asyncio.Event(), asyncio.Event()

    async def handler(value: Number, ctx: roost.Context) -> Number:
        for n in range(10):
            if n == 5:
                half.set()
                await go_on.wait()
            await ctx.emit(Token(text=f"word {n}"))
        return value

    words = [Token(text=f"word {n}") for n in range(10)]
    async with roost.connect(nats_url, namespace=namespace) as bus:
        handle = await bus.submit(told, Number(n=1))
        early = asyncio.ensure_future(all_of(handle.chunks(Token)))
        async with bus.serving(agent_of(told, handler)):
            await half.wait()
            live = handle.chunks(Token)
            assert [(await anext(live)).value for _ in range(5)] == words[
                :5
            ]  # while the handler stands still
            go_on.set()
            assert await all_of(live) == words[5:]
            assert await early == words
            await handle.result(timeout_s=SOON_S)
    async with roost.connect(nats_url, namespace=namespace) as bus:
        again = bus.handle(told, handle.id)
        assert await all_of(again.chunks(Token)) == words
        chunks = [chunk async for chunk in again.chunks(Token)]
    assert {(chunk.attempt, chunk.execution) for chunk in chunks} == {(1, 1)}
    assert [chunk.at_s for chunk in chunks] == sorted(chunk.at_s for chunk in chunks)


async def test_progress_is_not_mixed_with_chunks_that_are_text_too(nats_url: str, namespace: str) -> None:
    """Bug: both were chunks, and the words of an answer had notes between them."""

    async def handler(value: Number, ctx: roost.Context) -> Number:
        await ctx.progress("reading")
        await ctx.emit("Once")
        await ctx.progress("writing")
        await ctx.emit(" upon")
        return value

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(told, handler)):
        handle = await bus.submit(told, Number(n=1))
        assert await all_of(handle.chunks(str)) == ["Once", " upon"]
        assert await all_of(handle.progress()) == ["reading", "writing"]


async def test_chunks_of_a_second_attempt_are_told_from_those_of_the_first(
    nats_url: str, namespace: str
) -> None:
    async def handler(value: Number, ctx: roost.Context) -> Number:
        await ctx.emit("Once")
        if ctx.attempt == 1:
            raise ValueError("the model broke off")
        await ctx.emit(" upon")
        return value

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(told, handler)):
        handle = await bus.submit(told, Number(n=1))
        chunks = [(chunk.value, chunk.attempt, chunk.execution) async for chunk in handle.chunks(str)]
    assert chunks == [("Once", 1, 1), ("Once", 2, 2), (" upon", 2, 2)]


async def test_what_a_killed_worker_said_is_told_from_what_the_next_one_says(
    nats_url: str, namespace: str
) -> None:
    """Bug: a first delivery that dies leaves no note, so the next execution is attempt 1 as well; their chunks
    were one stream, with its beginning twice."""
    async with roost.connect(nats_url, namespace=namespace) as bus, children() as start:
        handle = await bus.submit(told, Number(n=3))
        chunks = handle.chunks(int)
        first = await start("speaks-and-hangs", nats_url, namespace, module="teller_process")
        seen = [await anext(chunks) for _ in range(3)]
        await first.says("said 3 1")
        first.signal(signal.SIGKILL)
        second = await start("speaks", nats_url, namespace, module="teller_process")
        async with asyncio.timeout(SOON_S):
            seen += [chunk async for chunk in chunks]
        await second.says("said 3 1")
    assert [(chunk.value, chunk.attempt, chunk.execution) for chunk in seen] == [
        *((n, 1, 1) for n in range(3)),
        *((n, 1, 2) for n in range(3)),
    ]


async def test_a_stream_ends_with_a_task_that_dies_or_is_cancelled(nats_url: str, namespace: str) -> None:
    at_work = asyncio.Event()

    async def handler(value: Number, ctx: roost.Context) -> Number:
        await ctx.emit(value.n)
        if value.n == 1:
            raise roost.Reject("no")
        at_work.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            await ctx.emit("cleaning up")  # after the outcome: no part of the answer
        return value

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(told, handler)):
        dead, cancelled = await bus.submit_many(told, [Number(n=1), Number(n=2)])
        assert await all_of(dead.chunks(int)) == [1]
        live = asyncio.ensure_future(all_of(cancelled.chunks(object)))
        await at_work.wait()
        assert await cancelled.cancel()
        assert await live == [2]
        assert isinstance(await cancelled.outcome(timeout_s=SOON_S), roost.Cancelled)
    async with roost.connect(nats_url, namespace=namespace) as bus:
        assert await all_of(bus.handle(told, cancelled.id).chunks(object)) == [2]


async def test_what_comes_after_the_outcome_is_no_part_of_it_for_anybody(
    nats_url: str, namespace: str
) -> None:
    """A paused worker goes on to speak after another has ended its task."""
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(told, counting)):
        handle = await bus.submit(told, Number(n=2))
        await handle.result(timeout_s=SOON_S)
        zombie = Emitter(bus.log, handle.ref, 1, "zombie")
        await zombie.say("chunk", 99)
        assert await all_of(handle.chunks(int)) == [0, 1]


async def test_readers_and_handlers_go_on_where_they_were_when_the_server_restarts(
    own_server: LocalServer,
) -> None:
    reached = asyncio.Event()
    down = asyncio.Event()
    task = roost.Task("long", Number, Number, ack_wait_s=10)

    async def handler(value: Number, ctx: roost.Context) -> Number:
        for n in range(3):
            await ctx.emit(n)
        reached.set()
        await down.wait()
        await asyncio.gather(*(ctx.emit(n) for n in range(3, 40)))
        return value

    async with roost.connect(own_server.url) as bus, bus.serving(agent_of(task, handler)):
        events = Events(bus)
        handle = await bus.submit(task, Number(n=1))
        chunks = handle.chunks(int)
        seen = [await anext(chunks) for _ in range(3)]
        await reached.wait()
        rest = asyncio.ensure_future(all_of(chunks))
        await asyncio.to_thread(own_server.kill)
        await events.until("connection_lost")
        down.set()
        await events.until("record_delayed")
        await asyncio.to_thread(own_server.restart)
        assert [chunk.value for chunk in seen] + await rest == list(range(40))
        assert await handle.result(timeout_s=SOON_S) == Number(n=1)


async def test_a_chunk_that_was_stored_twice_because_its_answer_was_lost_is_read_once(
    nats_url: str, namespace: str
) -> None:
    async with (
        stranger(nats_url) as nc,
        roost.connect(nats_url, namespace=namespace) as bus,
    ):
        handle = await bus.submit(told, Number(n=0))
        for n in (1, 1, 2, 1, 2, 3):
            chunk = {"at": 1.0, "by": "one", "n": n, "value": n}
            await put(nc, bus.log.subjects.said("chunk", handle.ref, 1), json.dumps(chunk).encode())
        chunks = handle.chunks(int)
        assert [(await anext(chunks)).value for _ in range(3)] == [1, 2, 3]
        assert bus.counters["chunk_repeated"] == 3


async def test_chunks_are_stored_in_the_order_of_the_calls(nats_url: str, namespace: str) -> None:
    async def handler(value: Number, ctx: roost.Context) -> Number:
        await asyncio.gather(*(ctx.emit(n) for n in range(200)))
        return value

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(told, handler)):
        handle = await bus.submit(told, Number(n=1))
        assert await all_of(handle.chunks(int)) == list(range(200))


async def test_a_chunk_may_be_as_large_as_is_said_and_no_larger(nats_url: str, namespace: str) -> None:
    """And many of that size are read in pages that the server can answer."""
    largest = "x" * (CHUNK_LIMITS.max_bytes - 2)  # but for its quotes

    async def handler(value: Number, ctx: roost.Context) -> Number:
        with pytest.raises(roost.TooLarge, match=str(CHUNK_LIMITS.max_bytes)):
            await ctx.emit(largest + "x")
        for _ in range(40):
            await ctx.emit(largest)
        return value

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(told, handler)):
        handle = await bus.submit(told, Number(n=1))
        await handle.result(timeout_s=SOON_S)
        assert [len(chunk) for chunk in await all_of(handle.chunks(str))] == [len(largest)] * 40
        assert not bus.counters["chunks_not_read:RequestTimeout"]


async def test_what_is_no_chunk_is_passed_over_and_counted(nats_url: str, namespace: str) -> None:
    """Bug: an attempt called `²` ended the reader with a ValueError."""
    rubbish: list[tuple[int | str, bytes]] = [
        (1, b""),
        (1, b"{"),
        (1, b'{"at":1,"value":"text"}'),
        (1, b'{"value":1}'),
        (1, b'{"at":1,"n":{},"value":1}'),
        ("²", b'{"at":1,"value":1}'),
        ("x", b'{"at":1,"value":1}'),
        ("9" * 3000, b'{"at":1,"value":1}'),
    ]
    async with stranger(nats_url) as nc, roost.connect(nats_url, namespace=namespace) as bus:
        handle = await bus.submit(told, Number(n=2))
        for k, data in rubbish:
            await put(nc, bus.log.subjects.said("chunk", handle.ref, k), data)
        async with bus.serving(agent_of(told, counting)):
            assert await all_of(handle.chunks(int)) == [0, 1]
        assert bus.counters["message_refused"] == len(rubbish)


async def test_a_reader_ends_when_its_bus_does(nats_url: str, namespace: str) -> None:
    """Bug: it looked again every second, for ever."""
    async with roost.connect(nats_url, namespace=namespace) as bus:
        handle = await bus.submit(told, Number(n=2))
        reader = asyncio.ensure_future(all_of(handle.chunks(int)))
        await asyncio.sleep(0)
    with pytest.raises(roost.ConnectionClosed):
        await reader


async def test_a_reader_may_say_how_long_it_waits_for_a_word(nats_url: str, namespace: str) -> None:
    async def silent(value: Number, ctx: roost.Context) -> Number:
        await ctx.emit(1)
        await asyncio.get_running_loop().create_future()
        return value

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of(told, silent), grace_s=0):
            handle = await bus.submit(told, Number(n=2))
            chunks = handle.chunks(int, idle_timeout_s=0.2)
            assert (await anext(chunks)).value == 1
            with pytest.raises(roost.RequestTimeout, match=handle.id):
                await anext(chunks)


async def test_a_reader_that_leaves_early_leaves_nothing_behind(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of(told, counting)):
            handle = await bus.submit(told, Number(n=5))
            async for chunk in handle.chunks(int):
                if chunk.value == 2:
                    break
            chunks = handle.chunks(int)
            assert (await anext(chunks)).value == 0
            reader = asyncio.ensure_future(all_of(bus.handle(told, "nobody").chunks(int)))
            await until(lambda: len(bus.desk.waiter) > 0)
            reader.cancel()
            await asyncio.gather(reader, return_exceptions=True)
            await chunks.aclose()  # type: ignore[attr-defined]
            await until(lambda: len(bus.desk.waiter) == 0)


async def test_chunks_leave_room_for_outcomes_in_a_store_that_fills(nats_url: str, namespace: str) -> None:
    async def flooding(value: Number, ctx: roost.Context) -> Number:
        for _ in range(200):
            try:
                await ctx.emit("x" * 10_000)
            except roost.StoreFull:
                return value
        raise AssertionError("it was never full")

    async with stranger(nats_url) as nc:
        await provision(nc, namespace, max_bytes=1_000_000)
        async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(told, flooding)):
            handle = await bus.submit(told, Number(n=1))
            assert await handle.result(timeout_s=SOON_S) == Number(n=1)
            info = await bus.link.jetstream.call(f"STREAM.INFO.ROOST_{namespace}")
    assert 800_000 < info["state"]["bytes"] < 910_000


async def test_only_tasks_have_a_record_to_write_to(nats_url: str, namespace: str) -> None:
    asked = roost.Endpoint("asked", Number, Number)
    agent = roost.Agent("asker")

    @agent.handles(asked)
    async def answer(value: Number, ctx: roost.Context) -> Number:
        with pytest.raises(roost.ConfigError, match="only the handler of a task"):
            await ctx.emit(1)
        with pytest.raises(roost.ConfigError, match="only the handler of a task"):
            await ctx.progress("half")
        return value

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        assert await bus.request(asked, Number(n=1)) == Number(n=1)
