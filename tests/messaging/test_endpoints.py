"""Endpoints: who answers, how fast it fails when nobody does, and which error reaches the caller."""

from __future__ import annotations

import asyncio
import math
import time
import traceback
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from typing import Any

import pytest
from messaging_kit import HELLO, SECOND, Answer, Events, Inbox, Note, known, plain

import roost
from roost import (
    Agent,
    ConfigError,
    Context,
    InvalidMessage,
    NoResponders,
    Overloaded,
    Reject,
    RemoteError,
    RequestTimeout,
    RetryLater,
)
from roost.contracts import Endpoint
from roost.messaging import endpoints


def serving(handler: Callable[..., Any], name: str = "greeter", **options: Any) -> Agent[None]:
    agent = Agent(name)
    agent.handles(HELLO, **options)(handler)
    return agent


async def test_a_request_is_answered(nats_url: str, namespace: str) -> None:
    async def greet(note: Note, ctx: Context) -> Answer:
        return Answer(text=f"{note.text} on {ctx.subject}", number=note.number + 1)

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(serving(greet)) as [instance]:
        answer = await bus.request(HELLO, Note(text="hello", number=1))
        assert answer == Answer(text=f"hello on {namespace}.endpoint.hello", number=2)
        assert instance.handled["endpoint:hello"] == bus.counters["handled:endpoint:hello"] == 1


async def test_many_requests_at_once_get_each_its_own_answer(nats_url: str, namespace: str) -> None:
    async def greet(note: Note) -> Answer:
        await asyncio.sleep(0)
        return Answer(number=note.number)

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(serving(greet)):
        answers = await asyncio.gather(*(bus.request(HELLO, Note(number=n)) for n in range(500)))
        assert [answer.number for answer in answers] == list(range(500))


async def test_nobody_serving_is_known_at_once(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        begun = time.perf_counter()
        with pytest.raises(NoResponders, match="Start the agent that handles it") as caught:
            await bus.request(HELLO, Note())
        assert time.perf_counter() - begun < 0.1
        assert caught.value.subject == f"{namespace}.endpoint.hello"


async def test_namespaces_are_apart(nats_url: str, namespace: str) -> None:
    async def greet(note: Note) -> Answer:
        return Answer()

    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        roost.connect(nats_url, namespace=namespace + "x") as other,
        bus.serving(serving(greet)),
    ):
        with pytest.raises(NoResponders):
            await other.request(HELLO, Note())


async def test_an_answer_that_is_late_is_a_timeout(nats_url: str, namespace: str) -> None:
    async with plain(nats_url) as other, roost.connect(nats_url, namespace=namespace) as bus:
        await other.subscribe(f"{namespace}.endpoint.hello")
        await known(other)
        begun = time.perf_counter()
        with pytest.raises(RequestTimeout, match=r"within 0\.1 s") as caught:
            await bus.request(HELLO, Note(), timeout_s=0.1)
        assert 0.09 < time.perf_counter() - begun < 0.5
        assert isinstance(caught.value, TimeoutError)
        assert caught.value.timeout_s == 0.1


@pytest.mark.parametrize("timeout_s", [math.nan, math.inf, 1e9])
async def test_a_timeout_that_is_no_time_is_refused(nats_url: str, namespace: str, timeout_s: float) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        with pytest.raises(ConfigError, match="timeout_s = "):
            await bus.request(HELLO, Note(), timeout_s=timeout_s)


@pytest.mark.parametrize("timeout_s", [0, -1, -math.inf])
async def test_a_time_that_is_over_is_a_timeout_at_once(
    nats_url: str, namespace: str, timeout_s: float
) -> None:
    inbox = Inbox()

    async def greet(note: Note) -> Answer:
        inbox.put(note)
        return Answer()

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(serving(greet)):
        with pytest.raises(RequestTimeout):
            await bus.request(HELLO, Note(), timeout_s=timeout_s)
        await bus.request(HELLO, Note(number=1))
        assert await inbox.get() == Note(number=1), "nothing was sent for the first"


async def say_boom(note: Note) -> Answer:
    raise ValueError("boom\x1b[31m\r\nforged: line")


async def say_no(note: Note) -> Answer:
    raise Reject("no such page")


async def say_later(note: Note) -> Answer:
    raise RetryLater(after_s=5, reason="quota")


async def say_nothing_printable(note: Note) -> Answer:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    raise Mute


async def say_cancelled(note: Note) -> Answer:
    raise asyncio.CancelledError


async def say_exit(note: Note) -> Answer:
    raise SystemExit(3)


async def say_generator_exit(note: Note) -> Answer:
    raise GeneratorExit


async def say_timeout(note: Note) -> Answer:
    async with asyncio.timeout(0.01):
        await asyncio.Event().wait()
    return Answer()


async def say_wrong(note: Note) -> Any:
    return {"text": 5}


async def say_wrong_field(note: Note) -> Answer:
    return Answer.model_construct(text="x", number="many")


async def say_too_much(note: Note) -> Answer:
    return Answer(text="x" * 300_000)


async def say_a_megabyte(note: Note) -> Answer:
    raise ValueError("x" * 1_000_000)


async def say_surrogate(note: Note) -> Answer:
    raise ValueError("a lone \ud800 surrogate, \u202e and z\u00fcrich")


@pytest.mark.parametrize(
    ("handler", "code", "text"),
    [
        (say_boom, "failed", r"ValueError: boom\x1b[31m\r\nforged: line"),
        (say_no, "rejected", "no such page"),
        (say_later, "failed", "RetryLater: retry in 5 s: quota"),
        (say_nothing_printable, "failed", "Mute: its text cannot be had (RuntimeError)"),
        (say_cancelled, "failed", "the handler was cancelled"),
        (say_exit, "failed", "SystemExit: 3"),
        (say_generator_exit, "failed", "GeneratorExit"),
        (say_timeout, "failed", "TimeoutError"),
        (say_wrong, "failed", "the answer does not fit: payload: expected Answer, got dict"),
        (say_wrong_field, "failed", "the answer does not fit: number: "),
        (say_too_much, "failed", "the answer does not fit: payload: 300022 bytes"),
        (say_a_megabyte, "failed", "ValueError: xxxxx"),
        (say_surrogate, "failed", r"ValueError: a lone \ud800 surrogate, \u202e and zürich"),
    ],
)
async def test_what_a_handler_raises_reaches_the_caller_as_a_code_and_a_message(
    nats_url: str, namespace: str, handler: Callable[[Note], Awaitable[Answer]], code: str, text: str
) -> None:
    agent = serving(handler, concurrency=1)

    @agent.handles(SECOND)
    async def second(note: Note) -> Answer:
        return Answer(number=2)

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        for _ in range(2):  # it does not end the service either
            with pytest.raises(RemoteError) as caught:
                await bus.request(HELLO, Note(), timeout_s=2)
            error = caught.value
            assert (error.code, error.message[: len(text)]) == (code, text)
            assert error.subject == f"{namespace}.endpoint.hello"
            assert len(str(error)) < 1000
            assert error.__cause__ is None
            assert error.__context__ is None
            shown = "".join(traceback.format_exception(error))
            assert handler.__name__ not in shown, "no frame of the other side"
        assert (await bus.request(SECOND, Note())).number == 2
        assert bus.counters["handled:endpoint:hello"] == 0


async def test_the_log_of_the_handlers_side_has_the_traceback(
    nats_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(serving(say_boom)):
        with pytest.raises(RemoteError, match="Its own log has the traceback"):
            await bus.request(HELLO, Note())
        assert "in say_boom" in caplog.text


async def test_a_rejection_is_no_fault_and_has_no_traceback(
    nats_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(serving(say_no)):
        with pytest.raises(RemoteError):
            await bus.request(HELLO, Note())
        assert "no such page" in caplog.text
        assert "Traceback" not in caplog.text


async def test_a_request_that_does_not_fit_is_refused_before_it_is_sent(
    nats_url: str, namespace: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        with pytest.raises(InvalidMessage) as caught:
            await bus.request(HELLO, Note.model_construct(number=-1))
        assert (caught.value.field, caught.value.subject) == ("number", f"{namespace}.endpoint.hello")
        assert bus.counters["message_refused"] == 1


async def test_a_request_that_does_not_fit_the_handlers_model_reaches_no_handler(
    nats_url: str, namespace: str
) -> None:
    inbox = Inbox()

    async def greet(note: Note) -> Answer:
        inbox.put(note)
        return Answer()

    theirs = Endpoint("hello", Answer, Answer)  # an older model: it has no lower bound
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(serving(greet)):
        events = Events(bus)
        with pytest.raises(RemoteError, match=r"number: .* greater than or equal to 0") as caught:
            await bus.request(theirs, Answer(number=-1))
        assert caught.value.code == "invalid"
        [event] = events.of("message_refused")
        assert event.subject == f"{namespace}.endpoint.hello"
        assert "field 'number'" in event.reason
        assert inbox.empty


async def test_an_answer_that_does_not_fit_the_callers_model_is_refused_and_counted(
    nats_url: str, namespace: str
) -> None:
    class Strict(Answer):
        more: int

    async def greet(note: Note) -> Answer:
        return Answer()

    newer = Endpoint("hello", Note, Strict)
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(serving(greet)):
        with pytest.raises(InvalidMessage) as caught:
            await bus.request(newer, Note())
        assert (caught.value.field, caught.value.reason) == ("more", "Field required")
        assert bus.counters["message_refused"] == 1


async def test_an_answer_that_does_not_fit_is_counted_where_it_was_made(
    nats_url: str, namespace: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(serving(say_wrong)):
        events = Events(bus)
        with pytest.raises(RemoteError):
            await bus.request(HELLO, Note())
        [event] = events.of("message_refused")
        assert event.reason.startswith("an answer: ")


async def test_at_the_limit_a_request_is_answered_as_overloaded(nats_url: str, namespace: str) -> None:
    inbox, go = Inbox(), asyncio.Event()

    async def slow(note: Note) -> Answer:
        inbox.put(note.number)
        await go.wait()
        return Answer(number=note.number)

    agent = serving(slow, concurrency=2, backlog=3)
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        events = Events(bus)
        waiting = [asyncio.create_task(bus.request(HELLO, Note(number=n))) for n in range(5)]
        await inbox.take(2)
        with pytest.raises(
            Overloaded, match=r"3 requests with .* wait already.*start more instances"
        ) as caught:
            await bus.request(HELLO, Note(number=9))
        assert caught.value.retryable
        [event] = await events.wait("request_refused")
        assert event.reason.startswith("overloaded: ")
        assert bus.counters["request_refused"] == 1
        go.set()
        assert [answer.number for answer in await asyncio.gather(*waiting)] == [0, 1, 2, 3, 4]
        assert await inbox.take(3) == [2, 3, 4]
        assert inbox.empty


async def test_the_usual_backlog_is_1024_requests(nats_url: str, namespace: str) -> None:
    go = asyncio.Event()

    async def slow(note: Note) -> Answer:
        await go.wait()
        return Answer()

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(serving(slow, concurrency=1)):
            calls = [asyncio.create_task(bus.request(HELLO, Note())) for _ in range(1 + 1024 + 10)]
            done, rest = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
            while len(done) < 10:
                more, rest = await asyncio.wait(rest, return_when=asyncio.FIRST_COMPLETED)
                done |= more
            assert all(isinstance(call.exception(), Overloaded) for call in done)
            go.set()
            assert len(await asyncio.gather(*rest)) == 1025


async def test_large_requests_are_bounded_by_their_bytes(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(endpoints, "BACKLOG_BYTES", 1_000_000)
    inbox, go = Inbox(), asyncio.Event()

    async def slow(note: Note) -> Answer:
        inbox.put(note.number)
        await go.wait()
        return Answer(number=note.number)

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(serving(slow, concurrency=1)):
            first = asyncio.create_task(bus.request(HELLO, Note(text="x" * 200_000)))
            await inbox.get()
            rest = [bus.request(HELLO, Note(number=n, text="x" * 200_000)) for n in range(1, 8)]
            calls = [first, *map(asyncio.create_task, rest)]
            await Events(bus).wait("request_refused", 3)
            go.set()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
            assert [type(outcome) for outcome in outcomes] == [Answer] * 5 + [Overloaded] * 3
            assert (await bus.request(HELLO, Note(text="x" * 200_000))).number == 0


async def test_instances_of_two_agents_that_serve_one_endpoint_share_its_requests(
    nats_url: str, namespace: str
) -> None:
    async with AsyncExitStack() as stack:
        instances = []
        for name in ("greeter", "greeter", "other"):

            async def greet(note: Note, ctx: Context) -> Answer:
                return Answer(text=ctx.instance, number=note.number)

            bus = await stack.enter_async_context(roost.connect(nats_url, namespace=namespace))
            instances += await stack.enter_async_context(bus.serving(serving(greet, name)))
        caller = await stack.enter_async_context(roost.connect(nats_url, namespace=namespace))
        answers = await asyncio.gather(*(caller.request(HELLO, Note(number=n)) for n in range(300)))
        assert [answer.number for answer in answers] == list(range(300))
        load = {instance.name: instance.handled["endpoint:hello"] for instance in instances}
        assert sum(load.values()) == 300
        assert all(load.values()), load
        assert {answer.text for answer in answers} == set(load)


async def test_a_subclass_of_the_answer_is_sent_as_what_the_contract_says(
    nats_url: str, namespace: str
) -> None:
    class More(Answer):
        secret: str = "for nobody"

    async def greet(note: Note) -> Answer:
        return More(number=1)

    async with plain(nats_url) as other, roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(serving(greet)):
            answer = await other.request(f"{namespace}.endpoint.hello", b"{}")
            assert answer.data == b'{"text":"","number":1}'
            assert not answer.headers
