"""Submission: a task is stored once, whoever repeats it, and it is known whether it was."""

from __future__ import annotations

import asyncio

import pytest

import roost
from roost.server import LocalServer
from tasks.support import SOON_S, Events, Number, agent_of, plus_one, records

add = roost.Task("add", Number, Number)


async def test_a_task_comes_to_the_result_of_its_handler(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(add, plus_one)):
        handle = await bus.submit(add, Number(n=1))
        assert await handle.result(timeout_s=SOON_S) == Number(n=2)
        assert isinstance(await handle.outcome(), roost.Done)


async def test_a_task_waits_for_its_first_worker(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        handle = await bus.submit(add, Number(n=1))
        async with bus.serving(agent_of(add, plus_one)):
            assert await handle.result(timeout_s=SOON_S) == Number(n=2)


async def test_the_same_key_and_payload_are_one_task_before_and_after_its_end(
    nats_url: str, namespace: str
) -> None:
    ran: list[int] = []

    async def count(value: Number) -> Number:
        ran.append(value.n)
        return await plus_one(value)

    async with roost.connect(nats_url, namespace=namespace) as bus:
        first = await bus.submit(add, Number(n=1), key="once")
        second = await bus.submit(add, Number(n=1), key="once")
        assert (first.created, second.created) == (True, False)
        assert first.id == second.id
        async with bus.serving(agent_of(add, count)):
            assert await second.result(timeout_s=SOON_S) == Number(n=2)
            third = await bus.submit(add, Number(n=1), key="once")
            assert not third.created
            assert await third.result(timeout_s=SOON_S) == Number(n=2)
        assert ran == [1]
        assert len(await records(bus, "task")) == 1


async def test_another_payload_under_the_same_key_is_a_conflict_before_and_after_its_end(
    nats_url: str, namespace: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        first = await bus.submit(add, Number(n=1), key="once")
        with pytest.raises(roost.Conflict):
            await bus.submit(add, Number(n=2), key="once")
        async with bus.serving(agent_of(add, plus_one)):
            await first.result(timeout_s=SOON_S)
        with pytest.raises(roost.Conflict):
            await bus.submit(add, Number(n=2), key="once")
        with pytest.raises(roost.Conflict):
            await bus.submit_many(add, [Number(n=9), Number(n=2)], keys=["other", "once"])


async def test_a_key_holds_across_a_crash_of_the_server(own_server: LocalServer) -> None:
    async with roost.connect(own_server.url) as bus, bus.serving(agent_of(add, plus_one)):
        events = Events(bus)
        ended = await bus.submit(add, Number(n=1), key="ended")
        await ended.result(timeout_s=SOON_S)
        await asyncio.to_thread(own_server.kill)
        await asyncio.to_thread(own_server.restart)
        await events.until("reconnected")
        again = await bus.submit(add, Number(n=1), key="ended")
        assert not again.created
        assert await again.result(timeout_s=SOON_S) == Number(n=2)
        with pytest.raises(roost.Conflict):
            await bus.submit(add, Number(n=5), key="ended")
        assert len(await records(bus, "task")) == len(await records(bus, "end")) == 1


async def test_a_key_counts_within_its_contract(nats_url: str, namespace: str) -> None:
    other = roost.Task("other", Number, Number)
    async with roost.connect(nats_url, namespace=namespace) as bus:
        one = await bus.submit(add, Number(n=1), key="k")
        two = await bus.submit(other, Number(n=2), key="k")
        assert two.created
        assert one.id != two.id


async def test_a_race_of_several_for_one_key_has_one_winner(nats_url: str, namespace: str) -> None:
    async def submit(n: int) -> bool | None:
        async with roost.connect(nats_url, namespace=namespace) as bus:
            try:
                return (await bus.submit(add, Number(n=n % 2), key="raced")).created
            except roost.Conflict:
                return None

    made = await asyncio.gather(*(submit(n) for n in range(12)))
    assert sorted(map(str, made)) == ["False"] * 5 + ["None"] * 6 + ["True"]


async def test_a_submission_survives_a_restart_of_the_server_in_between(own_server: LocalServer) -> None:
    async with roost.connect(own_server.url) as bus:
        await bus.submit(add, Number(n=0), key="0")
        await asyncio.to_thread(own_server.kill)
        waiting = asyncio.ensure_future(bus.submit(add, Number(n=1), key="1", timeout_s=SOON_S))
        await asyncio.to_thread(own_server.restart)
        assert (await waiting).key == "1"
        assert len(await records(bus, "task")) == 2


async def test_the_first_submission_of_all_waits_for_a_server_as_well(own_server: LocalServer) -> None:
    """What it asks before it stores anything may meet an outage too."""
    async with roost.connect(own_server.url) as bus:
        events = Events(bus)
        for number in range(2):
            await asyncio.to_thread(own_server.kill)
            await events.until("connection_lost", number + 1)
            if not number:
                with pytest.raises(roost.NotConnected):
                    await bus.submit_many(add, [Number(n=n) for n in range(3)], timeout_s=0.3)
                await asyncio.to_thread(own_server.restart)
                await events.until("reconnected")
        waiting = asyncio.ensure_future(bus.submit(add, Number(n=1), key="1", timeout_s=SOON_S))
        await asyncio.to_thread(own_server.restart)
        assert (await waiting).key == "1"


async def test_a_submission_without_a_server_says_that_nothing_was_sent(own_server: LocalServer) -> None:
    async with roost.connect(own_server.url) as bus:
        await bus.submit(add, Number(n=0))
        events = Events(bus)
        await asyncio.to_thread(own_server.kill)
        await events.until("connection_lost")
        with pytest.raises(roost.NotConnected):
            await bus.submit(add, Number(n=1), timeout_s=0.3)


async def test_a_frozen_server_leaves_a_submission_unknown_and_repeating_it_is_safe(
    own_server: LocalServer,
) -> None:
    async with roost.connect(own_server.url) as bus:
        await bus.submit(add, Number(n=0))
        await asyncio.to_thread(own_server.pause)
        with pytest.raises(roost.SubmissionUnknown) as unknown:
            await bus.submit(add, Number(n=1), key="1", timeout_s=0.3)
        assert unknown.value.ids == ("add:1",)
        await asyncio.to_thread(own_server.resume)
        handle = await bus.submit(add, Number(n=1), key="1")
        assert handle.id == "add:1"
        assert len(await records(bus, "task")) == 2


@pytest.mark.parametrize("id", ["*", ">", "a.b", "run/add/*", "a b", "run/add", "", "é"])
async def test_a_text_that_is_no_id_gets_no_handle(nats_url: str, namespace: str, id: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        with pytest.raises(roost.ConfigError):
            bus.handle(add, id)
