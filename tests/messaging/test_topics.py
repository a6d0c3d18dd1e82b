"""Topics: who gets a message, what a handler learns of it, and what is never sent."""

from __future__ import annotations

import asyncio
from contextlib import AsyncExitStack
from typing import Any

import pytest
from messaging_kit import STATUS, Events, Inbox, Note, known, plain, settle

import roost
from roost import Agent, ConfigError, Context, InvalidMessage, TooLarge, Topic, UnsafeToken
from roost.codec import Limits
from roost.messaging import topics


def listener(name: str, inbox: Inbox, **options: Any) -> Agent[None]:
    """An agent that puts each status and who it was about into `inbox`."""
    agent = Agent(name)

    @agent.handles(STATUS, **options)
    async def heard(note: Note, ctx: Context) -> None:
        inbox.put((note.number, ctx.parameters["agent"]))

    return agent


async def test_a_handler_learns_subject_and_parameters(nats_url: str, namespace: str) -> None:
    agent, inbox = Agent("reader"), Inbox()
    three = Topic("plant.{site}.line.{line}.{sensor}", Note)

    @agent.handles(three)
    async def heard(note: Note, ctx: Context) -> None:
        inbox.put((note.text, ctx.subject, dict(ctx.parameters), ctx.attempt, ctx.instance))

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent) as [instance]:
        await bus.publish(three.at(site="north", line="7", sensor="t_1"), Note(text="warm"))
        parameters = {"site": "north", "line": "7", "sensor": "t_1"}
        assert await inbox.get() == ("warm", "plant.north.line.7.t_1", parameters, 1, instance.name)


async def test_a_topic_without_parameters_is_published_as_it_is(nats_url: str, namespace: str) -> None:
    agent, inbox, news = Agent("reader"), Inbox(), Topic("all.news", Note)

    @agent.handles(news)
    async def heard(note: Note, ctx: Context) -> None:
        inbox.put((note.number, ctx.subject, dict(ctx.parameters)))

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        await bus.publish(news, Note(number=1))
        assert await inbox.get() == (1, "all.news", {})
        with pytest.raises(ConfigError, match="parameter agent is missing"):
            await bus.publish(STATUS, Note(number=1))


async def test_a_plain_subscriber_with_a_wildcard_sees_the_exact_subject(
    nats_url: str, namespace: str
) -> None:
    async with plain(nats_url) as other, roost.connect(nats_url, namespace=namespace) as bus:
        subscription = await other.subscribe("team.*.status")
        await known(other)
        await bus.publish(STATUS.at(agent="ann"), Note(number=3))
        message = await subscription.next_msg(timeout=5)
        assert message.subject == "team.ann.status"
        assert Note.model_validate_json(message.data) == Note(number=3)
        assert set(message.headers or {}) == {"traceparent"}


async def test_a_plain_publisher_reaches_the_handler(nats_url: str, namespace: str) -> None:
    inbox = Inbox()
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(listener("a", inbox)):
        async with plain(nats_url) as other:
            await other.publish("team.eve.status", b'{"number": 4}')
            assert await inbox.get() == (4, "eve")


async def test_a_subject_that_no_template_renders_is_refused_and_counted(
    nats_url: str, namespace: str
) -> None:
    inbox = Inbox()
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(listener("a", inbox)):
        events = Events(bus)
        async with plain(nats_url) as other:
            await other.publish("team.b\u00f6se.status", b'{"number": 4}')
            [event] = await events.wait("message_refused")
        assert "does not fit the template" in event.reason
        assert bus.counters["message_refused"] == 1
        assert inbox.empty


async def test_instances_of_one_agent_share_and_each_message_is_handled_once(
    nats_url: str, namespace: str
) -> None:
    inbox = Inbox()
    async with AsyncExitStack() as stack:
        instances = []
        for _ in range(3):
            bus = await stack.enter_async_context(roost.connect(nats_url, namespace=namespace))
            instances += await stack.enter_async_context(bus.serving(listener("team", inbox)))
        sender = await stack.enter_async_context(roost.connect(nats_url, namespace=namespace))
        for number in range(300):
            await sender.publish(STATUS.at(agent="ann"), Note(number=number))
        got = await inbox.take(300)
        await settle(sender, *(instance.bus for instance in instances))
        assert sorted(got, key=str) == sorted(((n, "ann") for n in range(300)), key=str)
        assert inbox.empty
        load = [instance.handled["topic:team.{agent}.status"] for instance in instances]
        assert sum(load) == 300
        assert all(load), load
        assert len({instance.name for instance in instances}) == 3


async def test_every_instance_gets_a_copy_if_the_handler_asks_for_every_message(
    nats_url: str, namespace: str
) -> None:
    inbox = Inbox()
    agent = listener("team", inbox, deliver="every")
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent, agent, agent) as instances:
            for number in range(10):
                await bus.publish(STATUS.at(agent="ann"), Note(number=number))
            got = await inbox.take(30)
            await settle(bus)
            assert inbox.empty
            assert {item: got.count(item) for item in got} == {(n, "ann"): 3 for n in range(10)}
            assert [one.handled[f"topic:{STATUS.subject}"] for one in instances] == [10, 10, 10]


async def test_two_agents_each_get_a_copy(nats_url: str, namespace: str) -> None:
    ours, theirs = Inbox(), Inbox()
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(listener("ours", ours), listener("theirs", theirs)):
            await bus.publish(STATUS.at(agent="ann"), Note(number=1))
            assert [await ours.get(), await theirs.get()] == [(1, "ann"), (1, "ann")]
            await settle(bus)
            assert ours.empty
            assert theirs.empty


async def test_agents_of_one_name_in_two_namespaces_do_not_share(nats_url: str, namespace: str) -> None:
    """A topic's subject has no namespace; were the group without one too, each system would get half."""
    ours, theirs = Inbox(), Inbox()
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        roost.connect(nats_url, namespace=namespace + "x") as other,
        bus.serving(listener("team", ours)),
        other.serving(listener("team", theirs)),
    ):
        for number in range(20):
            await bus.publish(STATUS.at(agent="ann"), Note(number=number))
        assert await ours.take(20) == await theirs.take(20)


UNSAFE = ["*", ">", "a.b", "a b", "a\tb", "a\r\nPUB x 0\r\n", "\x00", "\x7f", "", "x" * 65, "z\u00fcrich"]


async def test_an_unsafe_token_is_refused_by_name_and_nothing_is_sent(nats_url: str, namespace: str) -> None:
    async with plain(nats_url) as other, roost.connect(nats_url, namespace=namespace) as bus:
        subscription = await other.subscribe("team.>")
        await known(other)
        for token in UNSAFE:
            with pytest.raises(UnsafeToken, match=r"^agent = ") as caught:
                await bus.publish(STATUS.at(agent=token), Note())
            assert caught.value.name == "agent"
        await settle(bus)
        await known(other)
        assert subscription.pending_msgs == 0


async def test_a_misfit_is_refused_before_it_is_sent_and_counted(nats_url: str, namespace: str) -> None:
    async with plain(nats_url) as other, roost.connect(nats_url, namespace=namespace) as bus:
        events = Events(bus)
        subscription = await other.subscribe("team.>")
        await known(other)
        with pytest.raises(InvalidMessage) as caught:
            await bus.publish(STATUS.at(agent="ann"), Note.model_construct(number=-1))
        assert (caught.value.field, caught.value.subject) == ("number", "team.ann.status")
        with pytest.raises(InvalidMessage, match="expected Note, got str"):
            await bus.publish(STATUS.at(agent="ann"), "hello")  # type: ignore[misc]
        with pytest.raises(TooLarge):
            await bus.publish(STATUS.at(agent="ann"), Note(text="x" * 300_000))
        await settle(bus)
        await known(other)
        assert subscription.pending_msgs == 0
        assert bus.counters["message_refused"] == 3
        assert "number" in events.of("message_refused")[0].reason


async def test_a_handler_that_raises_is_counted_and_the_next_message_is_handled(
    nats_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    agent, inbox = Agent("reader"), Inbox()

    @agent.handles(STATUS)
    async def heard(note: Note) -> None:
        if note.number == 0:
            raise ValueError("zero is not for me")
        inbox.put(note.number)

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent) as [instance]:
        events = Events(bus)
        await bus.publish(STATUS.at(agent="ann"), Note(number=0))
        await bus.publish(STATUS.at(agent="ann"), Note(number=1))
        assert await inbox.get() == 1
        [event] = await events.wait("handler_failed")
        assert (event.subject, event.reason) == ("team.ann.status", "ValueError: zero is not for me")
        assert bus.counters["handler_failed"] == 1
        assert (
            bus.counters["handled:topic:team.{agent}.status"]
            == instance.handled["topic:team.{agent}.status"]
            == 1
        )
        [line] = [record for record in caplog.records if "handler_failed" in record.message]
        assert line.exc_info is not None, "the log of the handler's side has its traceback"


async def test_a_full_backlog_drops_the_newest_counted_logged_and_told(
    nats_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    agent, inbox, go = Agent("slow"), Inbox(), asyncio.Event()

    @agent.handles(STATUS, concurrency=2, backlog=3)
    async def heard(note: Note) -> None:
        inbox.put(note.number)
        await go.wait()

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        events = Events(bus)
        for number in range(2):
            await bus.publish(STATUS.at(agent="ann"), Note(number=number))
        assert await inbox.take(2) == [0, 1]
        for number in range(2, 10):
            await bus.publish(STATUS.at(agent="ann"), Note(number=number))
        dropped = await events.wait("dropped", 5)
        assert bus.counters["dropped"] == 5
        assert "policy: drop the newest" in dropped[0].reason
        assert dropped[0].subject == "team.ann.status"
        go.set()
        assert await inbox.take(3) == [2, 3, 4]
        assert inbox.empty
    lines = [record.message for record in caplog.records if record.message.startswith("dropped")]
    assert len(lines) == 2, "one line a second for one kind of event, and one for those that had none"
    assert lines[1] == "dropped: 4 more since the last line about them: team.ann.status"


async def test_large_messages_are_bounded_by_their_bytes(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(topics, "BACKLOG_BYTES", 1_000_000)
    agent, inbox, go = Agent("slow"), Inbox(), asyncio.Event()

    @agent.handles(STATUS, concurrency=1)
    async def heard(note: Note) -> None:
        inbox.put(note.number)
        await go.wait()

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        events = Events(bus)
        for number in range(8):
            await bus.publish(STATUS.at(agent="ann"), Note(number=number, text="x" * 200_000))
            await settle(bus)
        await events.wait("dropped", 3)
        go.set()
        assert await inbox.take(5) == [0, 1, 2, 3, 4]
        await bus.publish(STATUS.at(agent="ann"), Note(number=8, text="x" * 200_000))
        assert await inbox.get() == 8
        assert bus.counters["dropped"] == 3


async def test_a_contracts_own_limits_hold_for_what_arrives(nats_url: str, namespace: str) -> None:
    small = Topic("small.{agent}", Note, limits=Limits(max_bytes=100, max_depth=2))
    agent, inbox = Agent("reader"), Inbox()

    @agent.handles(small)
    async def heard(note: Note) -> None:
        inbox.put(note.number)

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        events = Events(bus)
        async with plain(nats_url) as other:
            await other.publish("small.ann", b'{"text": "%s"}' % (b"x" * 100))
            await other.publish("small.ann", b'{"text": [[1]]}')
            await other.publish("small.ann", b'{"number": 1}')
            assert await inbox.get() == 1
        first, second = await events.wait("message_refused", 2)
        assert "112 bytes, allowed are 100" in first.reason
        assert "deeper than 2 levels" in second.reason


async def test_messages_of_one_publisher_begin_in_their_order(nats_url: str, namespace: str) -> None:
    inbox = Inbox()
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(listener("a", inbox)):
        for number in range(1000):
            await bus.publish(STATUS.at(agent="ann"), Note(number=number))
        assert await inbox.take(1000) == [(number, "ann") for number in range(1000)]
