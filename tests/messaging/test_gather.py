"""One question to every instance: all of their answers, until it is quiet; and a question to one alone."""

from __future__ import annotations

import asyncio
import time
from contextlib import AsyncExitStack

import pytest
from messaging_kit import HELLO, PATIENCE_S, Answer, Note, plain

import roost
from roost import Agent, Bus, NoResponders, Reject, RemoteError
from roost.messaging import gather


def greeter(*, slow_s: float = 0.0, fails: bool = False) -> Agent[None]:
    agent = Agent("greeter")

    @agent.handles(HELLO)
    async def hello(note: Note, ctx: roost.Context) -> Answer:
        if fails:
            raise Reject("not today")
        await asyncio.sleep(slow_s)
        return Answer(text=ctx.instance, number=note.number)

    return agent


async def all_of(
    bus: Bus, *, timeout_s: float = PATIENCE_S, quiet_s: float = 0.3
) -> list[roost.Answer[Answer]]:
    return [one async for one in bus.ask_all(HELLO, Note(number=7), timeout_s=timeout_s, quiet_s=quiet_s)]


async def test_every_instance_answers_once_and_says_who_it_is(nats_url: str, namespace: str) -> None:
    async with AsyncExitStack() as stack:
        names = []
        for _ in range(5):
            bus = await stack.enter_async_context(roost.connect(nats_url, namespace=namespace))
            [instance] = await stack.enter_async_context(bus.serving(greeter()))
            names.append(instance.name)
        answers = await all_of(bus)
        assert sorted(one.by for one in answers) == sorted(names)
        assert all(one.value == Answer(text=one.by, number=7) for one in answers)


async def test_an_error_of_one_harms_no_other(nats_url: str, namespace: str) -> None:
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        bus.serving(greeter(), greeter(fails=True)) as [good, bad],
    ):
        answers = {one.by: one for one in await all_of(bus)}
        assert answers[good.name].error is None
        error = answers[bad.name].error
        assert isinstance(error, RemoteError)
        assert (error.code, error.message) == ("rejected", "not today")
        with pytest.raises(RemoteError, match="not today"):
            _ = answers[bad.name].value


async def test_nobody_there_is_known_at_once(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        began = time.monotonic()
        with pytest.raises(NoResponders):
            await all_of(bus, quiet_s=5)
        assert time.monotonic() - began < 2


async def test_it_ends_when_it_is_quiet_and_a_late_answer_is_not_waited_for(
    nats_url: str, namespace: str
) -> None:
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        bus.serving(greeter(), greeter(slow_s=5), grace_s=0) as [quick, _],
    ):
        assert [one.by for one in await all_of(bus, quiet_s=0.2)] == [quick.name]


async def test_the_first_answer_is_waited_for_as_long_as_there_is_time(nats_url: str, namespace: str) -> None:
    """Agents that all took longer than `quiet_s` were all lost, without a word."""
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        bus.serving(greeter(slow_s=0.5), greeter(slow_s=0.5)) as both,
    ):
        answers = await all_of(bus, quiet_s=0.2)
        assert sorted(one.by for one in answers) == sorted(one.name for one in both)


async def test_the_deadline_ends_it_and_travels(nats_url: str, namespace: str) -> None:
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        bus.serving(greeter(slow_s=30), grace_s=0),
    ):
        began = time.monotonic()
        assert await all_of(bus, timeout_s=0.4, quiet_s=9) == []
        assert time.monotonic() - began < 3


async def test_answers_that_nobody_reads_are_bounded_and_counted(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "UNREAD", 3)
    async with roost.connect(nats_url, namespace=namespace) as bus, plain(nats_url) as nc:

        async def flood(message: object) -> None:
            for _ in range(20):
                await nc.publish(message.reply, b'{"text": "x"}')  # type: ignore[attr-defined]
            await nc.publish(message.reply, b'{"text": "last"}')  # type: ignore[attr-defined]
            await nc.flush()
            flooded.set()

        flooded = asyncio.Event()
        await nc.subscribe(f"{namespace}.every.hello", cb=flood)
        await nc.flush()
        found = 0
        async for _ in bus.ask_all(HELLO, Note(), timeout_s=5, quiet_s=0.3):
            found += 1
            if found == 1:
                await flooded.wait()
                await bus.link.client.flush()
        assert found < 20
        assert bus.counters["answers_dropped"] == 21 - found


async def test_leaving_early_ends_the_interest(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(greeter(), greeter()):
        before = len(bus.link.client._listeners)
        answers = bus.ask_all(HELLO, Note())
        await anext(aiter(answers))
        await answers.aclose()  # type: ignore[attr-defined]
        assert len(bus.link.client._listeners) == before


async def test_a_request_to_one_instance_reaches_that_one_alone(nats_url: str, namespace: str) -> None:
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        bus.serving(*(greeter() for _ in range(4))) as instances,
    ):
        for instance in instances:
            for _ in range(3):
                answer = await bus.request(HELLO, Note(), instance=instance.name)
                assert answer.text == instance.name
        with pytest.raises(NoResponders):
            await bus.request(HELLO, Note(), instance="greeter-gone")
        with pytest.raises(roost.UnsafeToken):
            await bus.request(HELLO, Note(), instance="greeter.*")
