"""The caller's time travels with a request: what may still be spent on it, and who stops when it is over."""

from __future__ import annotations

import asyncio

import pytest
from messaging_kit import HELLO, SECOND, STATUS, Answer, Events, Inbox, Note, known, plain, raw

import roost
from roost import Agent, Context, DeadlineExceeded, RemoteError, RequestTimeout
from roost.messaging import endpoints


async def test_a_nested_request_has_at_most_the_time_that_is_left(nats_url: str, namespace: str) -> None:
    agent, left_s = Agent("two"), Inbox()

    @agent.handles(HELLO)
    async def outer(note: Note, ctx: Context) -> Answer:
        left_s.put(ctx.remaining_s)
        return await ctx.request(SECOND, note, timeout_s=60)

    @agent.handles(SECOND)
    async def inner(note: Note, ctx: Context) -> Answer:
        left_s.put(ctx.remaining_s)
        return Answer()

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        await bus.request(HELLO, Note(), timeout_s=3)
        outer_s, inner_s = await left_s.take(2)
        assert isinstance(outer_s, float)
        assert isinstance(inner_s, float)
        assert 3 >= outer_s >= inner_s > 1


async def test_a_nested_request_keeps_its_own_shorter_time(nats_url: str, namespace: str) -> None:
    agent, left_s = Agent("two"), Inbox()

    @agent.handles(HELLO)
    async def outer(note: Note, ctx: Context) -> Answer:
        return await ctx.request(SECOND, note, timeout_s=2)

    @agent.handles(SECOND)
    async def inner(note: Note, ctx: Context) -> Answer:
        left_s.put(ctx.remaining_s)
        return Answer()

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        await bus.request(HELLO, Note(), timeout_s=60)
        inner_s = await left_s.get()
        assert isinstance(inner_s, float)
        assert 1 < inner_s <= 2


async def test_without_time_left_a_nested_request_is_not_sent(nats_url: str, namespace: str) -> None:
    agent, inbox = Agent("one"), Inbox()

    @agent.handles(HELLO)
    async def greet(note: Note, ctx: Context) -> Answer:
        inbox.put(note.number)
        return Answer()

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent) as [instance]:
        late: Context = Context(
            bus,
            deps=None,
            subject="s",
            instance=instance.name,
            trace=roost.observe.Trace.new(),
            deadline=bus.clock() - 1,
        )
        assert late.remaining_s == 0
        with pytest.raises(DeadlineExceeded, match="a request to hello"):
            await late.request(HELLO, Note(number=1))
        await bus.request(HELLO, Note(number=2))
        assert await inbox.get() == 2


async def test_a_handler_that_runs_out_of_the_callers_time_says_deadline(
    nats_url: str, namespace: str
) -> None:
    agent = Agent("one")

    @agent.handles(HELLO)
    async def greet(note: Note) -> Answer:
        raise DeadlineExceeded("the second half")

    async with plain(nats_url) as other, roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent):
            answer = await other.request(f"{namespace}.endpoint.hello", b"{}")
            assert answer.headers is not None
            assert (answer.headers["Roost-Error"], answer.headers["Nats-Service-Error-Code"]) == (
                "deadline",
                "504",
            )
            with pytest.raises(RequestTimeout):
                await bus.request(HELLO, Note())


async def test_the_handler_is_stopped_when_the_callers_time_is_over(nats_url: str, namespace: str) -> None:
    agent, inbox = Agent("slow"), Inbox()

    @agent.handles(HELLO)
    async def greet(note: Note) -> Answer:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            inbox.put("stopped")
            raise
        return Answer()

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        events = Events(bus)
        with pytest.raises(RequestTimeout):
            await bus.request(HELLO, Note(), timeout_s=0.1)
        assert await inbox.get() == "stopped"
        [event] = await events.wait("handler_failed")
        assert event.reason == "the caller's time was over"


async def test_a_handler_that_turns_its_cancellation_into_another_error_is_still_answered(
    nats_url: str, namespace: str
) -> None:
    agent = Agent("slow")

    @agent.handles(HELLO, concurrency=1)
    async def greet(note: Note) -> Answer:
        if note.number:
            return Answer()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            raise KeyError("lost my place") from None
        return Answer()

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        events = Events(bus)
        with pytest.raises((RequestTimeout, RemoteError)):
            await bus.request(HELLO, Note(), timeout_s=0.1)
        await events.wait("handler_failed")
        assert await bus.request(HELLO, Note(number=1)) == Answer()


async def test_a_request_whose_time_is_over_before_its_turn_reaches_no_handler(
    nats_url: str, namespace: str
) -> None:
    agent, inbox, go = Agent("slow"), Inbox(), asyncio.Event()

    @agent.handles(HELLO, concurrency=1)
    async def greet(note: Note) -> Answer:
        inbox.put(note.number)
        await go.wait()
        return Answer()

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        events = Events(bus)
        first = asyncio.create_task(bus.request(HELLO, Note(number=1)))
        assert await inbox.get() == 1
        for number in (2, 3):  # when the time of the later one is over here, that of the earlier one is there
            with pytest.raises(RequestTimeout):
                await bus.request(HELLO, Note(number=number), timeout_s=0.05)
        go.set()
        await first
        [event] = await events.wait("request_expired")
        assert event.subject == f"{namespace}.endpoint.hello"
        await bus.request(HELLO, Note(number=4))
        seen: object = None
        while seen != 4:
            seen = await inbox.get()
            assert seen != 2


async def test_a_request_that_expired_in_the_queue_is_answered_with_its_reason(
    nats_url: str, namespace: str
) -> None:
    agent, inbox, go = Agent("slow"), Inbox(), asyncio.Event()

    @agent.handles(HELLO, concurrency=1)
    async def greet(note: Note) -> Answer:
        inbox.put(note.number)
        await go.wait()
        return Answer()

    subject = f"{namespace}.endpoint.hello"
    async with plain(nats_url) as other, roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent):
            events = Events(bus)
            first = asyncio.create_task(bus.request(HELLO, Note(number=1)))
            await inbox.get()
            second = asyncio.create_task(
                other.request(subject, b"{}", timeout=5, headers={"Roost-Timeout-Ms": "0"})
            )
            await known(other)
            go.set()
            await first
            answer = await second
            assert answer.headers is not None
            assert answer.headers["Roost-Error"] == "deadline"
            assert events.of("request_expired")


async def test_a_time_that_cannot_be_read_is_a_day(nats_url: str, namespace: str) -> None:
    agent, inbox = Agent("one"), Inbox()

    @agent.handles(HELLO)
    async def greet(note: Note, ctx: Context) -> Answer:
        inbox.put(ctx.remaining_s)
        return Answer()

    url = nats_url.split(",")[0]  # one server of a cluster: it knows whom the raw connection can reach
    async with raw(url) as other, roost.connect(url, namespace=namespace) as bus:
        async with bus.serving(agent):
            for text in ("", "soon", "-1", "1.5", "9" * 20, "\u0663", " ", "0x10"):
                head = f"NATS/1.0\r\nRoost-Timeout-Ms: {text}\r\n\r\n".encode()
                await other.publish(f"{namespace}.endpoint.hello", b"{}", reply="_INBOX.x.1", head=head)
                left_s = await inbox.get()
                assert isinstance(left_s, float)
                assert 86_000 < left_s <= endpoints.MAX_TIMEOUT_S, text


async def test_a_sync_handler_can_ask_what_time_is_left(nats_url: str, namespace: str) -> None:
    agent = Agent("sync")

    @agent.handles(HELLO)
    def greet(note: Note, ctx: Context) -> Answer:
        assert ctx.remaining_s is not None
        return Answer(number=int(ctx.remaining_s * 1000))

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        assert 1000 < (await bus.request(HELLO, Note(), timeout_s=2)).number <= 2000


async def test_a_topics_handler_has_no_deadline(nats_url: str, namespace: str) -> None:
    agent, inbox = Agent("reader"), Inbox()

    @agent.handles(STATUS)
    async def heard(note: Note, ctx: Context) -> None:
        inbox.put(ctx.remaining_s)

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        await bus.publish(STATUS.at(agent="ann"), Note())
        assert await inbox.get() is None


async def test_calls_of_a_handler_belong_to_the_trace_of_its_message(nats_url: str, namespace: str) -> None:
    agent, inbox = Agent("two"), Inbox()

    @agent.handles(HELLO)
    async def outer(note: Note, ctx: Context) -> Answer:
        inbox.put(ctx.trace)
        await ctx.publish(STATUS.at(agent="ann"), note)
        return await ctx.request(SECOND, note)

    @agent.handles(SECOND)
    async def inner(note: Note, ctx: Context) -> Answer:
        inbox.put(ctx.trace)
        return Answer()

    @agent.handles(STATUS)
    async def heard(note: Note, ctx: Context) -> None:
        inbox.put(ctx.trace)

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        await bus.request(HELLO, Note())
        traces = await inbox.take(3)
        assert len({trace.trace_id for trace in traces if isinstance(trace, roost.observe.Trace)}) == 1
        assert len({trace.span_id for trace in traces if isinstance(trace, roost.observe.Trace)}) == 3
