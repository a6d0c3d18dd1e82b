"""Streamed answers: chunks in order, an explicit end, a writer no faster than its reader, nobody left working."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from messaging_kit import Events, Inbox, Note, known, plain, settle
from nats.aio.msg import Msg

import roost
from roost import Agent, Bus, ConfigError, Context, InvalidMessage, NoResponders, RemoteError, RequestTimeout
from roost.contracts import StreamEndpoint
from roost.messaging import streams

COUNT = StreamEndpoint("count", Note, Note)


def counter(closed: Inbox | None = None, *, go: asyncio.Event | None = None) -> Agent[None]:
    """An agent that counts up to the number it is given; with `go` it waits in the middle."""
    agent = Agent("counter")

    @agent.handles(COUNT)
    async def count(note: Note, ctx: Context) -> AsyncIterator[Note]:
        try:
            for number in range(note.number):
                if go is not None and number == note.number // 2:
                    await go.wait()
                yield Note(number=number)
        finally:
            if closed is not None:
                closed.put("closed")

    return agent


async def numbers(
    bus: Bus, up_to: int, *, text: str = "", idle_timeout_s: float = 5, found: list[int] | None = None
) -> list[int]:
    """The whole stream; what came before an error is in `found`."""
    found = [] if found is None else found
    note = Note(number=up_to, text=text)
    async with bus.stream(COUNT, note, idle_timeout_s=idle_timeout_s) as chunks:
        async for chunk in chunks:
            found.append(chunk.number)
            await asyncio.sleep(0)
    return found


@pytest.mark.parametrize("up_to", [0, 1, streams.WINDOW, 1000])
async def test_all_chunks_come_in_order_and_then_the_end(nats_url: str, namespace: str, up_to: int) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(counter()) as [instance]:
        assert await numbers(bus, up_to) == list(range(up_to))
        assert instance.handled["stream_endpoint:count"] == bus.counters["handled:stream_endpoint:count"] == 1


async def test_many_streams_side_by_side_do_not_mix(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(counter()):
        found = await asyncio.gather(*(numbers(bus, up_to) for up_to in range(100, 120)))
        assert found == [list(range(up_to)) for up_to in range(100, 120)]


async def test_nobody_serving_is_known_at_once(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        with pytest.raises(NoResponders):
            await numbers(bus, 1)


async def test_a_slow_reader_slows_the_writer_down(nats_url: str, namespace: str) -> None:
    agent, written = Agent("eager"), 0

    @agent.handles(COUNT)
    async def count(note: Note) -> AsyncIterator[Note]:
        nonlocal written
        while True:
            written += 1
            yield Note(number=written)

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        async with bus.stream(COUNT, Note()) as chunks:
            for taken in range(1, 200):
                await anext(chunks)
                await settle(bus)
                assert written <= taken + streams.WINDOW + 1
        assert written > 199


async def test_a_reader_that_leaves_ends_the_work(nats_url: str, namespace: str) -> None:
    closed = Inbox()
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(counter(closed, go=asyncio.Event()), grace_s=0):
            async with bus.stream(COUNT, Note(number=10)) as chunks:
                assert (await anext(chunks)).number == 0
            assert await closed.get() == "closed"
            assert bus.counters["stream_left:count"] == 1
            assert bus.counters["handler_failed"] == 0


async def test_a_reader_that_leaves_before_the_first_chunk_ends_the_work(
    nats_url: str, namespace: str
) -> None:
    """It did not know yet whom to tell: the handler worked on for nobody."""
    closed = Inbox()
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(counter(closed, go=asyncio.Event()), grace_s=0):
            async with bus.stream(COUNT, Note(number=10)):
                pass
            assert await closed.get() == "closed"
            async with bus.stream(COUNT, Note(number=10)):
                await settle(bus)  # its first frame has come, and was not read
            assert await closed.get() == "closed"
            assert bus.counters["stream_left:count"] == 2


async def test_a_handler_that_fails_in_the_middle_says_so_after_its_chunks(
    nats_url: str, namespace: str
) -> None:
    agent = Agent("failing")

    @agent.handles(COUNT)
    async def count(note: Note) -> AsyncIterator[Note]:
        yield Note(number=1)
        if note.text == "exit":
            raise SystemExit(3)
        raise ValueError("no second one")

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        for text, message in (
            ("", "ValueError: no second one"),
            ("exit", "RuntimeError: the handler called"),
        ):
            found: list[int] = []
            with pytest.raises(RemoteError) as caught:
                await numbers(bus, 1, text=text, found=found)
            assert found == [1]
            assert caught.value.code == "failed"
            assert caught.value.message.startswith(message)


async def test_a_chunk_that_does_not_fit_is_refused_where_it_is_made(nats_url: str, namespace: str) -> None:
    agent = Agent("wrong")

    @agent.handles(COUNT)
    async def count(note: Note) -> AsyncIterator[Any]:
        yield Note.model_construct(number=-5)

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        with pytest.raises(RemoteError, match="a chunk does not fit: number: "):
            await numbers(bus, 1)


async def test_a_request_that_does_not_fit_is_refused_and_opens_nothing(
    nats_url: str, namespace: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        with pytest.raises(InvalidMessage):
            async with bus.stream(COUNT, Note.model_construct(number=-1)):
                raise AssertionError


async def test_silence_is_a_timeout(nats_url: str, namespace: str) -> None:
    closed = Inbox()
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(counter(closed, go=asyncio.Event()), grace_s=0):
            with pytest.raises(RequestTimeout):
                await numbers(bus, 2, idle_timeout_s=0.1)
            assert await closed.get() == "closed", "and whoever gave up has said so"


async def test_silence_names_the_option_that_was_too_short(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(counter(go=asyncio.Event()), grace_s=0):
            with pytest.raises(RequestTimeout, match=r"no chunk .* within 0.1 s, after 1 .*idle_timeout_s"):
                await numbers(bus, 2, idle_timeout_s=0.1)


async def test_a_reader_that_was_killed_is_no_failure_of_the_handler(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """It grants nothing and says no goodbye. One that was only frozen must not take what it has for all."""
    monkeypatch.setattr(streams, "SILENT_S", 0.2)
    closed = Inbox()
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        bus.serving(counter(closed)) as [instance],
    ):
        events = Events(bus)
        async with bus.stream(COUNT, Note(number=1000)) as chunks:
            [event] = await events.wait("stream_left")
            assert "no more chunks for 0.2 s" in event.reason
            assert await closed.get() == "closed"
            found = [(await anext(chunks)).number for _ in range(streams.WINDOW)]
            with pytest.raises(RemoteError, match=r"\(silent\): .* no more chunks for 0.2 s$"):
                await anext(chunks)
        assert found == list(range(streams.WINDOW))
        assert bus.counters["stream_left:count"] == 1
        assert not events.of("handler_failed")
        assert instance.handled["stream_endpoint:count"] == 0
        assert [one.errors for info in await bus.agents() for one in info.handlers] == [0]
        assert "Traceback" not in caplog.text


async def test_a_stream_that_is_not_entered_says_how_it_is_read(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        with pytest.raises(ConfigError, match=r"async with bus\.stream\(.*\) as chunks"):
            async for _ in bus.stream(COUNT, Note()):  # type: ignore[attr-defined]
                pass


async def test_a_responder_that_floods_its_reader_fills_no_memory(nats_url: str, namespace: str) -> None:
    async def flood(request: Msg) -> None:
        for number in range(5_000):
            await other.publish(request.reply, b'{"number": %d}' % number)

    async with plain(nats_url) as other, roost.connect(nats_url, namespace=namespace) as bus:
        await other.subscribe(f"{namespace}.endpoint.count", cb=flood)
        await known(other)
        with pytest.raises(RemoteError, match="more chunks than the reader had granted") as caught:
            await numbers(bus, 5_000)
        assert caught.value.code == "flood"


async def test_a_stream_in_hand_is_finished_when_its_instance_stops(nats_url: str, namespace: str) -> None:
    go = asyncio.Event()
    async with roost.connect(nats_url, namespace=namespace) as bus:
        events = Events(bus)
        serving = bus.serving(counter(go=go), grace_s=5)
        await serving.__aenter__()
        async with bus.stream(COUNT, Note(number=100)) as chunks:
            found = [(await anext(chunks)).number for _ in range(50)]
            leaving = asyncio.create_task(serving.__aexit__(None, None, None))
            await settle(bus)
            go.set()
            found += [chunk.number async for chunk in chunks]
        await leaving
        assert found == list(range(100))
        assert not events.of("request_refused")
