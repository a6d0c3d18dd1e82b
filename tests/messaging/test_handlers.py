"""Handlers: every shape that may be registered, what runs side by side, and what none of them can end."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any, NoReturn

import pytest
from messaging_kit import HELLO, PATIENCE_S, STATUS, Answer, Events, Inbox, Note, settle

import roost
from roost import Agent, ConfigError, Context, RemoteError, RequestTimeout, Retry, Task
from roost.contracts import Signal

who: contextvars.ContextVar[str] = contextvars.ContextVar("who", default="nobody")


def only_message(note: Note) -> Answer:
    return Answer(text="sync")


def with_context(note: Note, ctx: Context) -> Answer:
    return Answer(text=f"sync {ctx.parameters} {ctx.subject.count('.')}")


async def async_only_message(note: Note) -> Answer:
    return Answer(text="async")


async def async_with_context(note: Note, ctx: Context) -> Answer:
    return Answer(text=f"async {ctx.attempt}")


async def async_with_optional_context(note: Note, ctx: Context | None = None) -> Answer:
    return Answer(text="none" if ctx is None else "context")


async def async_with_another_default(note: Note, times: int = 3) -> Answer:
    return Answer(text=f"times {times}")


async def three(first: str, note: Note, ctx: Context) -> Answer:
    return Answer(text=first + ctx.instance[:3])


class Object:
    async def __call__(self, note: Note, ctx: Context) -> Answer:
        return Answer(text="object")

    def sync(self, note: Note) -> Answer:
        return Answer(text=f"method {type(self).__name__}")

    async def method(self, note: Note, ctx: Context) -> Answer:
        return Answer(text=f"async method {type(self).__name__}")

    @staticmethod
    async def static(note: Note) -> Answer:
        return Answer(text="static")


def logged(function: Callable[[Note], Any]) -> Callable[[Note], Any]:
    @functools.wraps(function)
    def wrapper(note: Note) -> Any:
        return function(note)

    return wrapper


def made_async(function: Callable[[Note], Answer]) -> Callable[[Note], Any]:
    @functools.wraps(function)
    async def wrapper(note: Note) -> Answer:
        return function(note)

    return wrapper


async def anything(*arguments: Any) -> Answer:
    return Answer(text=f"{len(arguments)} arguments")


SHAPES: list[tuple[Callable[..., Any], str]] = [
    (only_message, "sync"),
    (with_context, "sync {} 2"),
    (async_only_message, "async"),
    (async_with_context, "async 1"),
    (async_with_optional_context, "context"),
    (async_with_another_default, "times 3"),
    (lambda note, i=5: Answer(text=f"bound {i}"), "bound 5"),
    (Object(), "object"),
    (Object().sync, "method Object"),
    (Object().method, "async method Object"),
    (Object.static, "static"),
    (functools.partial(three, "partial "), "partial sha"),
    (functools.partial(async_with_another_default, times=7), "times 7"),
    (functools.partial(Object()), "object"),
    (logged(async_only_message), "async"),
    (logged(only_message), "sync"),
    (made_async(only_message), "sync"),
    (anything, "2 arguments"),
]


async def test_a_handler_may_have_any_of_these_shapes(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        for function, text in SHAPES:
            agent = Agent("shapes")
            assert agent.handles(HELLO)(function) is function, "it stays what it was"
            async with bus.serving(agent):
                assert (await bus.request(HELLO, Note(), timeout_s=2)).text == text, function


def no_argument() -> Answer:
    return Answer()


def three_arguments(a: Note, b: Context, c: int) -> Answer:
    return Answer()


def needs_keyword(note: Note, *, level: int) -> Answer:
    return Answer()


async def yields(note: Note) -> AsyncIterator[Answer]:
    yield Answer()


def generates(note: Note) -> Iterator[Answer]:
    yield Answer()


@pytest.mark.parametrize(
    ("function", "complaint"),
    [
        (no_argument, "handler no_argument takes 0 arguments"),
        (three_arguments, "handler three_arguments takes 3 arguments"),
        (needs_keyword, "needs keyword argument level"),
        (yields, "handler yields yields; it must return its one answer"),
        (generates, "yields; it must return"),
        (Object, "handler Object is a class"),
        (Object.method, "Object.method is a method without its object"),
        (5, "handler 5 cannot be called"),
        (None, "handler None cannot be called"),
    ],
)
def test_a_handler_of_another_shape_is_refused_where_it_is_registered(function: Any, complaint: str) -> None:
    agent = Agent("wrong")
    with pytest.raises(ConfigError, match=complaint):
        agent.handles(HELLO)(function)
    assert not agent.handlers


@pytest.mark.parametrize(
    ("contract", "options", "complaint"),
    [
        ("hello", {}, "an agent handles .* a Topic, not 'hello'"),
        (Signal("s", Note), {}, "an agent handles .* a Topic, not Signal"),
        (HELLO, {"concurrency": 0}, "concurrency = 0"),
        (HELLO, {"concurrency": True}, "concurrency = True"),
        (HELLO, {"backlog": -1}, "backlog = -1: must be an int >= 0"),
        (Task("t", Note, retry=Retry()), {"backlog": 5}, "for a topic or an endpoint only"),
        (STATUS, {"deliver": "some"}, "deliver = 'some'"),
        (HELLO, {"deliver": "every"}, "is for topics"),
    ],
)
def test_options_that_cannot_be_are_refused(contract: Any, options: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        Agent("wrong").handles(contract, **options)


def test_a_contract_is_handled_once_per_agent() -> None:
    agent = Agent("twice")
    handles = agent.handles(HELLO)
    handles(only_message)
    for again in (agent.handles(HELLO), handles):
        with pytest.raises(ConfigError, match="handles Endpoint 'hello' already"):
            again(with_context)
    agent.handles(Task("hello", Note, Answer))(only_message)  # another kind of contract
    assert len(agent.handlers) == 2


async def test_handlers_run_side_by_side_up_to_the_stated_number_and_never_above(
    nats_url: str, namespace: str
) -> None:
    agent, running, most = Agent("busy"), 0, 0
    full, go = asyncio.Event(), asyncio.Event()

    @agent.handles(HELLO, concurrency=7)
    async def greet(note: Note) -> Answer:
        nonlocal running, most
        running += 1
        most = max(most, running)
        if running == 7:
            full.set()
        await go.wait()
        running -= 1
        return Answer()

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        calls = [asyncio.create_task(bus.request(HELLO, Note())) for _ in range(30)]
        await asyncio.wait_for(full.wait(), PATIENCE_S)
        await settle(bus)
        go.set()
        await asyncio.gather(*calls)
        assert most == 7


async def test_a_slow_handler_does_not_hold_up_the_others(nats_url: str, namespace: str) -> None:
    agent, go, inbox = Agent("mixed"), asyncio.Event(), Inbox()

    @agent.handles(HELLO, concurrency=2)
    async def greet(note: Note) -> Answer:
        if note.number == 0:
            inbox.put("slow one runs")
            await go.wait()
        return Answer(number=note.number)

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        slow = asyncio.create_task(bus.request(HELLO, Note(number=0)))
        await inbox.get()
        for number in range(1, 200):
            assert (await bus.request(HELLO, Note(number=number))).number == number
        assert not slow.done()
        go.set()
        assert (await slow).number == 0


async def test_a_handler_that_never_waits_does_not_starve_the_loop(nats_url: str, namespace: str) -> None:
    agent, all_seen, turns, seen = Agent("quick"), asyncio.Event(), 0, list[int]()

    @agent.handles(STATUS, concurrency=4)
    async def heard(note: Note) -> None:
        seen.append(turns)
        if len(seen) == 5_000:
            all_seen.set()

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        counting = asyncio.create_task(count())
        address = STATUS.at(agent="ann")
        for number in range(5_000):
            await bus.publish(address, Note(number=number))
        await asyncio.wait_for(all_seen.wait(), PATIENCE_S)
        counting.cancel()
        in_one_turn = max(seen.count(turn) for turn in set(seen))
        assert in_one_turn <= 4 * 100, "the loop has its turn after a hundred messages of each worker"


async def test_sync_handlers_run_on_threads_and_leave_the_loop_free(nats_url: str, namespace: str) -> None:
    agent, go = Agent("threads"), threading.Event()
    names: list[str] = []

    @agent.handles(HELLO, concurrency=3)
    def greet(note: Note) -> Answer:
        names.append(threading.current_thread().name)
        if note.number:
            assert go.wait(PATIENCE_S)
        return Answer(number=note.number)

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        slow = [asyncio.create_task(bus.request(HELLO, Note(number=1))) for _ in range(2)]
        for _ in range(20):
            assert (await bus.request(HELLO, Note())).number == 0
        assert not any(call.done() for call in slow)
        go.set()
        await asyncio.gather(*slow)
    assert all(name.startswith("roost-") for name in names)
    assert len(set(names)) <= 3
    for thread in threading.enumerate():
        if thread.name in names:
            await asyncio.to_thread(thread.join, 2)
            assert not thread.is_alive(), "threads end with the service"


async def test_context_variables_of_the_server_reach_every_handler(nats_url: str, namespace: str) -> None:
    agent = Agent("vars")
    two = roost.Endpoint("two", Note, Answer)

    @agent.handles(HELLO)
    def on_thread(note: Note) -> Answer:
        return Answer(text=who.get())

    @agent.handles(two)
    async def on_loop(note: Note) -> Answer:
        return Answer(text=who.get())

    async with roost.connect(nats_url, namespace=namespace) as bus:
        who.set("the server")
        async with bus.serving(agent):
            who.set("the caller")
            assert (await bus.request(HELLO, Note())).text == "the server"
            assert (await bus.request(two, Note())).text == "the server"


async def test_what_one_message_leaves_in_the_context_is_not_seen_by_the_next(
    nats_url: str, namespace: str
) -> None:
    agent = Agent("vars")

    @agent.handles(HELLO, concurrency=1)
    async def greet(note: Note) -> Answer:
        before = who.get()
        who.set(note.text)
        return Answer(text=before)

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        for name in ("ann", "bob", "eve"):
            assert (await bus.request(HELLO, Note(text=name))).text == "nobody"
        answers = await asyncio.gather(*(bus.request(HELLO, Note(text=str(n))) for n in range(50)))
        assert {answer.text for answer in answers} == {"nobody"}


def stops(note: Note) -> NoReturn:
    raise StopIteration(5)


async def cancels_itself(note: Note) -> NoReturn:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    await asyncio.Event().wait()
    raise AssertionError


async def says_cancelled(note: Note) -> NoReturn:
    raise asyncio.CancelledError


async def exits(note: Note) -> NoReturn:
    raise SystemExit(1)


def exits_on_a_thread(note: Note) -> NoReturn:
    raise SystemExit(1)


async def fails(note: Note) -> NoReturn:
    raise ValueError


@pytest.mark.parametrize("fault", [stops, cancels_itself, says_cancelled, exits, exits_on_a_thread, fails])
async def test_nothing_a_handler_raises_ends_the_service(
    nats_url: str, namespace: str, fault: Callable[[Note], Any]
) -> None:
    """One worker, a queue behind it: were the worker lost, the rest would wait for ever."""
    agent, inbox = Agent("faulty"), Inbox()

    def handler(note: Note) -> Any:
        if note.number == 0:
            return fault(note)
        inbox.put(note.number)
        return None

    async def async_handler(note: Note) -> None:
        result = handler(note)
        if result is not None:
            await result

    agent.handles(STATUS, concurrency=1)(
        async_handler if asyncio.iscoroutinefunction(fault) else handler,
    )
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        events = Events(bus)
        for number in (0, 1, 2, 0, 3, 0):
            await bus.publish(STATUS.at(agent="ann"), Note(number=number))
        assert await inbox.take(3) == [1, 2, 3]
        if fault is not cancels_itself:
            await events.wait("handler_failed", 3)
            assert bus.counters["handler_failed"] == 3


@pytest.mark.parametrize("fault", [stops, cancels_itself, exits_on_a_thread])
async def test_a_caller_hears_at_once_of_such_a_fault(
    nats_url: str, namespace: str, fault: Callable[[Note], Any]
) -> None:
    agent = Agent("faulty")
    agent.handles(HELLO, concurrency=1)(fault)
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        for _ in range(3):
            with pytest.raises(RemoteError) as caught:
                await bus.request(HELLO, Note(), timeout_s=2)
            assert caught.value.code == "failed"


def test_a_keyboard_interrupt_ends_the_program(nats_url: str, namespace: str) -> None:
    agent, left = Agent("interrupted"), []

    @agent.handles(HELLO)
    async def greet(note: Note) -> Answer:
        raise KeyboardInterrupt

    async def main() -> None:
        async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
            try:
                await bus.request(HELLO, Note(), timeout_s=5)
            finally:
                left.append("cleaned up")

    with pytest.raises(KeyboardInterrupt):
        asyncio.run(main())
    assert left == ["cleaned up"]


async def test_a_sync_handler_past_its_deadline_keeps_its_thread_but_not_its_caller(
    nats_url: str, namespace: str
) -> None:
    agent, go, inbox = Agent("threads"), threading.Event(), Inbox()
    loop = asyncio.get_running_loop()

    @agent.handles(HELLO, concurrency=1)
    def greet(note: Note) -> Answer:
        loop.call_soon_threadsafe(inbox.put, note.number)
        if note.number == 0:
            assert go.wait(PATIENCE_S)
        return Answer(number=note.number)

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        with pytest.raises(RequestTimeout):
            await bus.request(HELLO, Note(number=0), timeout_s=0.1)
        assert await inbox.get() == 0
        second = asyncio.create_task(bus.request(HELLO, Note(number=1)))
        await settle(bus)
        assert inbox.empty, "one thread is what concurrency=1 allows"
        go.set()
        assert (await second).number == 1
