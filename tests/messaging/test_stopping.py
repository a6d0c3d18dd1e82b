"""The end of serving: what is in hand is finished, what cannot be is said to whoever waits, nothing is lost unseen."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import pytest
from messaging_kit import HELLO, SECOND, STATUS, Answer, Events, Inbox, Note, settle

import roost
from roost import Agent, Bus, ConfigError, Context, NoResponders, Overloaded, RemoteError
from roost.instance import Instance
from roost.messaging import pool


class Slow:
    """An agent whose handlers wait until they are let go."""

    def __init__(self, **options: Any) -> None:
        self.agent = Agent("slow")
        self.go = asyncio.Event()
        self.began, self.ended = Inbox(), Inbox()
        self.agent.handles(HELLO, **options)(self.greet)
        self.agent.handles(STATUS, **options)(self.heard)

    async def greet(self, note: Note) -> Answer:
        self.began.put(note.number)
        await self.go.wait()
        self.ended.put(note.number)
        return Answer(number=note.number)

    async def heard(self, note: Note) -> None:
        await self.greet(note)


async def served(bus: Bus, agent: Agent[None], grace_s: float) -> tuple[AsyncExitStack, Instance]:
    stack = AsyncExitStack()
    [instance] = await stack.enter_async_context(bus.serving(agent, grace_s=grace_s))
    return stack, instance


async def test_a_request_in_hand_is_answered_and_new_ones_are_not_taken(
    nats_url: str, namespace: str
) -> None:
    slow = Slow()
    async with roost.connect(nats_url, namespace=namespace) as bus:
        stack, _ = await served(bus, slow.agent, 5)
        call = asyncio.create_task(bus.request(HELLO, Note(number=1)))
        await slow.began.get()
        leaving = asyncio.create_task(stack.aclose())
        await settle(bus)
        with pytest.raises(NoResponders):
            await bus.request(HELLO, Note(number=2))
        assert not leaving.done()
        slow.go.set()
        assert (await call).number == 1
        await leaving
        assert bus.counters["request_refused"] == 0


async def test_requests_that_wait_in_the_queue_are_still_handled(nats_url: str, namespace: str) -> None:
    slow = Slow(concurrency=1)
    async with roost.connect(nats_url, namespace=namespace) as bus:
        stack, instance = await served(bus, slow.agent, 5)
        calls = [asyncio.create_task(bus.request(HELLO, Note(number=n))) for n in range(50)]
        await slow.began.get()
        leaving = asyncio.create_task(stack.aclose())
        await settle(bus)
        slow.go.set()
        assert [answer.number for answer in await asyncio.gather(*calls)] == list(range(50))
        await leaving
        assert instance.handled["endpoint:hello"] == 50


async def test_after_the_grace_period_callers_are_told(nats_url: str, namespace: str) -> None:
    slow = Slow(concurrency=2)
    async with roost.connect(nats_url, namespace=namespace) as bus:
        events = Events(bus)
        stack, _ = await served(bus, slow.agent, 0.1)
        calls = [asyncio.create_task(bus.request(HELLO, Note(number=n), timeout_s=8)) for n in range(5)]
        await slow.began.take(2)
        await settle(bus)
        loop = asyncio.get_running_loop()
        begun = loop.time()
        await stack.aclose()
        outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert loop.time() - begun < 2
        for outcome in outcomes[:2]:
            assert isinstance(outcome, RemoteError)
            assert (outcome.code, outcome.message) == ("failed", "the instance is shutting down")
        for outcome in outcomes[2:]:
            assert isinstance(outcome, Overloaded), "it was not begun, so it may be sent again"
            assert outcome.message == "the instance is shutting down"
        [event] = events.of("request_refused")
        assert event.reason == "5 unfinished at shutdown"
        assert bus.counters["request_refused"] == 5


async def test_messages_of_a_topic_in_the_queue_are_worked_off(nats_url: str, namespace: str) -> None:
    slow = Slow(concurrency=1)
    async with roost.connect(nats_url, namespace=namespace) as bus:
        stack, instance = await served(bus, slow.agent, 5)
        for number in range(200):
            await bus.publish(STATUS.at(agent="ann"), Note(number=number))
        await slow.began.get()
        slow.go.set()
        await stack.aclose()
        assert await slow.ended.take(200) == list(range(200))
        assert instance.handled[f"topic:{STATUS.subject}"] == 200
        assert bus.counters["dropped"] == 0


async def test_messages_published_just_before_the_stop_are_handled(nats_url: str, namespace: str) -> None:
    slow = Slow()
    slow.go.set()
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(slow.agent):
            for number in range(500):
                await bus.publish(STATUS.at(agent="ann"), Note(number=number))
        assert await slow.ended.take(500) == list(range(500))


async def test_messages_that_cannot_be_finished_are_counted_one_by_one(nats_url: str, namespace: str) -> None:
    slow = Slow(concurrency=3)
    async with roost.connect(nats_url, namespace=namespace) as bus:
        events = Events(bus)
        stack, _ = await served(bus, slow.agent, 0.05)
        for number in range(10):
            await bus.publish(STATUS.at(agent="ann"), Note(number=number))
        await slow.began.take(3)
        await settle(bus)
        await stack.aclose()
        assert bus.counters["dropped"] == 10
        assert [event.reason for event in events.of("dropped")] == ["10 unfinished at shutdown"]
        assert slow.ended.empty


async def test_no_request_is_lost_when_one_of_two_instances_leaves(nats_url: str, namespace: str) -> None:
    """Twenty callers ask without pause while instances come and go; each request is answered."""
    agent = Agent("greeter")

    @agent.handles(HELLO)
    async def greet(note: Note) -> Answer:
        await asyncio.sleep(0)
        return Answer(number=note.number)

    async with AsyncExitStack() as stack:
        caller = await stack.enter_async_context(roost.connect(nats_url, namespace=namespace))
        steady = await stack.enter_async_context(roost.connect(nats_url, namespace=namespace))
        await stack.enter_async_context(steady.serving(agent))
        answered, done = 0, False

        async def ask(number: int) -> None:
            nonlocal answered
            while not done:
                assert (await caller.request(HELLO, Note(number=number))).number == number
                answered += 1

        callers = [asyncio.create_task(ask(number)) for number in range(20)]
        for _ in range(10):
            async with roost.connect(nats_url, namespace=namespace) as bus:
                async with bus.serving(agent) as [leaving]:
                    while leaving.handled["endpoint:hello"] < 50:
                        await caller.request(HELLO, Note())
        done = True
        await asyncio.gather(*callers)
        assert answered >= 10 * 50


async def test_a_handler_that_stops_may_still_ask_others(nats_url: str, namespace: str) -> None:
    front, back, go, began = Agent("front"), Agent("back"), asyncio.Event(), Inbox()

    @front.handles(HELLO)
    async def greet(note: Note, ctx: Context) -> Answer:
        began.put(note.number)
        await go.wait()
        return await ctx.request(SECOND, note)

    @back.handles(SECOND)
    async def second(note: Note) -> Answer:
        return Answer(text="from the back")

    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        roost.connect(nats_url, namespace=namespace) as other,
        other.serving(back),
    ):
        stack, _ = await served(bus, front, 5)
        call = asyncio.create_task(other.request(HELLO, Note()))
        await began.get()
        leaving = asyncio.create_task(stack.aclose())
        await settle(bus, other)
        go.set()
        assert (await call).text == "from the back"
        await leaving


async def test_several_agents_stop_at_once_not_one_after_another(nats_url: str, namespace: str) -> None:
    began = Inbox()

    def stuck(name: str, contract: roost.Endpoint[Note, Answer]) -> Agent[None]:
        agent = Agent(name)

        @agent.handles(contract)
        async def never(note: Note) -> Answer:
            began.put(name)
            await asyncio.Event().wait()
            return Answer()

        return agent

    async with roost.connect(nats_url, namespace=namespace) as bus:
        stack = AsyncExitStack()
        agents = (stuck("a", HELLO), stuck("b", SECOND))
        await stack.enter_async_context(bus.serving(*agents, grace_s=0.5))
        calls = [asyncio.create_task(bus.request(contract, Note())) for contract in (HELLO, SECOND)]
        await began.take(2)
        begun = bus.clock()
        await stack.aclose()
        assert 0.5 <= bus.clock() - begun < 0.9
        assert all(
            isinstance(error, RemoteError) for error in await asyncio.gather(*calls, return_exceptions=True)
        )


async def test_a_second_stop_with_less_grace_hurries_the_first(nats_url: str, namespace: str) -> None:
    slow = Slow()
    async with roost.connect(nats_url, namespace=namespace) as bus:
        stack, instance = await served(bus, slow.agent, 60)
        call = asyncio.create_task(bus.request(HELLO, Note()))
        await slow.began.get()
        first = asyncio.create_task(instance.stop(60))
        await settle(bus)
        assert not first.done()
        await instance.stop(0)
        await asyncio.wait_for(first, 2)
        await stack.aclose()
        with pytest.raises(RemoteError, match="shutting down"):
            await call


async def test_a_handler_that_ignores_its_cancellation_is_left_behind_and_said_so(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(pool, "CANCEL_S", 0.1)
    agent, began, go = Agent("stubborn"), Inbox(), asyncio.Event()

    @agent.handles(STATUS)
    async def heard(note: Note) -> None:
        began.put(note.number)
        while not go.is_set():
            try:
                await go.wait()
            except asyncio.CancelledError:
                continue

    async with roost.connect(nats_url, namespace=namespace) as bus:
        stack, _ = await served(bus, agent, 0.05)
        await bus.publish(STATUS.at(agent="ann"), Note())
        await began.get()
        await asyncio.wait_for(stack.aclose(), 2)
        assert "ignores its cancellation" in caplog.text
        assert bus.counters["dropped"] == 1
        go.set()


async def test_a_program_that_is_cancelled_leaves_no_handler_behind(nats_url: str, namespace: str) -> None:
    slow, cancelled, buses = Slow(), Inbox(), list[Bus]()

    @slow.agent.handles(SECOND)
    async def second(note: Note) -> Answer:
        slow.began.put("second")
        try:
            await asyncio.Event().wait()
        finally:
            cancelled.put("second")
        return Answer()

    async def program() -> None:
        async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(slow.agent):
            buses.append(bus)
            await asyncio.gather(bus.request(HELLO, Note()), bus.request(SECOND, Note()))

    running = asyncio.create_task(program())
    await slow.began.take(2)
    running.cancel()  # the polite end begins, with its ten seconds of grace
    await settle(*buses)
    assert not running.done()
    running.cancel()  # and is cut short
    with pytest.raises(asyncio.CancelledError):
        async with asyncio.timeout(5):
            await running
    assert await cancelled.get() == "second"


async def test_a_program_that_is_cancelled_at_every_turn_leaves_no_handler_behind(
    nats_url: str, namespace: str
) -> None:
    slow = Slow()

    async def program() -> None:
        async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(slow.agent):
            await bus.request(HELLO, Note())

    running = asyncio.create_task(program())
    await slow.began.get()
    while not running.done():
        running.cancel()
        await asyncio.sleep(0)
    assert running.cancelled()


# Lifespans ------------------------------------------------------------------------------------------


async def test_a_lifespan_is_entered_before_the_first_message_and_left_after_the_last(
    nats_url: str, namespace: str
) -> None:
    story: list[str] = []
    go, began = asyncio.Event(), Inbox()

    @asynccontextmanager
    async def resource() -> AsyncIterator[str]:
        story.append("opened")
        yield "resource"
        story.append("closed")

    agent = Agent("keeper", lifespan=resource)

    @agent.handles(HELLO)
    async def greet(note: Note, ctx: Context[str]) -> Answer:
        began.put(1)
        await go.wait()
        story.append(f"used {ctx.deps}")
        return Answer(text=ctx.deps)

    async with roost.connect(nats_url, namespace=namespace) as bus:
        stack = AsyncExitStack()
        await stack.enter_async_context(bus.serving(agent))
        assert story == ["opened"]
        call = asyncio.create_task(bus.request(HELLO, Note()))
        await began.get()
        leaving = asyncio.create_task(stack.aclose())
        await settle(bus)
        go.set()
        assert (await call).text == "resource"
        await leaving
    assert story == ["opened", "used resource", "closed"]


async def test_each_instance_has_a_lifespan_of_its_own(nats_url: str, namespace: str) -> None:
    opened: list[int] = []

    @asynccontextmanager
    async def numbered() -> AsyncIterator[int]:
        opened.append(len(opened))
        yield opened[-1]

    agent = Agent("keeper", lifespan=numbered)

    @agent.handles(HELLO)
    async def greet(note: Note, ctx: Context[int]) -> Answer:
        return Answer(text=ctx.instance, number=ctx.deps)

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent, agent) as instances:
            answers = await asyncio.gather(*(bus.request(HELLO, Note()) for _ in range(100)))
        pairs = {(answer.text, answer.number) for answer in answers}
        assert pairs == {(instances[0].name, 0), (instances[1].name, 1)}


async def test_a_lifespan_that_fails_at_its_start_says_whose_it_is_and_nothing_is_served(
    nats_url: str, namespace: str
) -> None:
    story: list[str] = []

    @asynccontextmanager
    async def good() -> AsyncIterator[None]:
        story.append("opened")
        try:
            yield
        finally:
            story.append("closed")

    @asynccontextmanager
    async def broken() -> AsyncIterator[None]:
        raise OSError("no such database")
        yield

    first, second = Agent("first", lifespan=good), Agent("second", lifespan=broken)
    for agent, contract in ((first, HELLO), (second, SECOND)):

        @agent.handles(contract)
        async def greet(note: Note) -> Answer:
            return Answer()

    async with roost.connect(nats_url, namespace=namespace) as bus:
        with pytest.raises(OSError, match="no such database") as caught:
            async with bus.serving(first, second):
                raise AssertionError
        assert "lifespan of agent 'second'" in caught.value.__notes__[0]
        assert story == ["opened", "closed"]
        for contract in (HELLO, SECOND):
            with pytest.raises(NoResponders):
                await bus.request(contract, Note())


async def test_a_lifespan_that_fails_at_its_end_is_raised_after_all_have_stopped(
    nats_url: str, namespace: str
) -> None:
    story: list[str] = []

    @asynccontextmanager
    async def broken() -> AsyncIterator[None]:
        yield
        raise OSError("cannot be closed")

    @asynccontextmanager
    async def good() -> AsyncIterator[None]:
        try:
            yield
        finally:
            story.append("closed")

    first, second = Agent("first", lifespan=good), Agent("second", lifespan=broken)
    for agent, contract in ((first, HELLO), (second, SECOND)):

        @agent.handles(contract)
        async def greet(note: Note) -> Answer:
            return Answer()

    async with roost.connect(nats_url, namespace=namespace) as bus:
        with pytest.raises(OSError, match="cannot be closed"):
            async with bus.serving(first, second):
                pass
        assert story == ["closed"]
        with pytest.raises(NoResponders):
            await bus.request(HELLO, Note())


async def test_what_the_block_raises_comes_out_of_it_unchanged(nats_url: str, namespace: str) -> None:
    slow = Slow()
    async with roost.connect(nats_url, namespace=namespace) as bus:
        with pytest.raises(ValueError, match="mine") as caught:
            async with bus.serving(slow.agent):
                raise ValueError("mine")
        assert not getattr(caught.value, "__notes__", [])
        with pytest.raises(NoResponders):
            await bus.request(HELLO, Note())


@pytest.mark.parametrize("lifespan", ["a file", 5])
def test_a_lifespan_that_is_none_is_refused(lifespan: Any) -> None:
    with pytest.raises(ConfigError, match=r"lifespan = .*asynccontextmanager"):
        Agent("keeper", lifespan=lifespan)


def test_a_lifespan_without_its_decorator_is_refused() -> None:
    async def forgotten() -> AsyncIterator[None]:
        yield

    with pytest.raises(ConfigError, match="decorated with"):
        Agent("keeper", lifespan=forgotten)  # type: ignore[arg-type]


async def test_an_agent_without_handlers_is_refused(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        with pytest.raises(ConfigError, match="agent idle has no handlers"):
            async with bus.serving(Agent("idle")):
                raise AssertionError


async def test_an_unusable_model_is_known_before_work_arrives(nats_url: str, namespace: str) -> None:
    class Odd:
        pass

    agent = Agent("odd")

    @agent.handles(roost.Endpoint("odd", Odd, Answer))
    async def greet(odd: Odd) -> Answer:
        return Answer()

    async with roost.connect(nats_url, namespace=namespace) as bus:
        with pytest.raises(ConfigError, match="Endpoint 'odd': input"):
            async with bus.serving(agent):
                raise AssertionError
