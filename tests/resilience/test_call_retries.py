"""Requests to endpoints that are marked idempotent are tried again: within the caller's time, within a budget."""

from __future__ import annotations

import asyncio

import nats
import pytest
from nats.aio.msg import Msg
from resilience_kit import SOON_S, Facts, Query, Told, child

import roost
from roost import Endpoint, NoResponders, Overloaded, RemoteError, RequestTimeout
from roost.resilience.budget import BURST, PER_CALL
from roost.server import LocalServer

LOOKUP = Endpoint("lookup", Query, Facts, idempotent=True)
ONCE = Endpoint("lookup", Query, Facts)


def answers(name: str = "answers") -> roost.Agent[None]:
    agent = roost.Agent(name)

    @agent.handles(ONCE)
    async def lookup(query: Query, ctx: roost.Context) -> Facts:
        return Facts(n=query.n, by=ctx.instance)

    return agent


async def test_a_call_waits_for_an_agent_that_is_about_to_start(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        told = Told(bus)
        call = asyncio.create_task(bus.request(LOOKUP, Query(n=1), timeout_s=SOON_S))
        tries = await told.heard("request_retried", 2)
        assert tries[0].reason.startswith("try 2: NoResponders: nobody answers")
        async with bus.serving(answers()):
            assert (await call).n == 1


async def test_what_is_not_marked_is_tried_once(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        with pytest.raises(NoResponders):
            await bus.request(ONCE, Query())
        assert bus.counters["request_retried"] == 0


async def test_a_call_whose_instance_is_killed_is_answered_by_the_other(
    nats_url: str, namespace: str
) -> None:
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        child("answering_process.py", nats_url, namespace) as mute,
    ):
        calls = [asyncio.create_task(bus.request(LOOKUP, Query(n=n), timeout_s=3)) for n in range(4)]
        for _ in calls:
            await mute.says("asked")
        mute.kill()
        async with bus.serving(answers()):
            assert [one.n for one in await asyncio.gather(*calls)] == list(range(4))
        assert bus.counters["request_retried"] >= 4


async def test_a_slow_answer_is_no_error_and_the_first_one_counts(nats_url: str, namespace: str) -> None:
    agent, asked, go = roost.Agent("slow"), 0, asyncio.Event()

    @agent.handles(ONCE)
    async def lookup(query: Query) -> Facts:
        nonlocal asked
        asked += 1
        number = asked
        if number == 2:
            go.set()
            await asyncio.Event().wait()
        await go.wait()
        return Facts(n=number)

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent, grace_s=0):
        assert (await bus.request(LOOKUP, Query(), timeout_s=1)).n == 1
        assert asked == 2


async def test_what_the_handler_raised_is_its_answer(nats_url: str, namespace: str) -> None:
    agent, asked = roost.Agent("fails"), 0

    @agent.handles(ONCE)
    async def lookup(query: Query) -> Facts:
        nonlocal asked
        asked += 1
        raise ValueError("no such thing")

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        with pytest.raises(RemoteError, match="no such thing"):
            await bus.request(LOOKUP, Query())
        assert asked == 1


async def test_an_outage_of_a_thousand_calls_sends_at_most_what_the_budget_allows(
    nats_url: str, namespace: str
) -> None:
    received = 0
    async with roost.connect(nats_url, namespace=namespace) as bus:
        told = Told(bus)
        full = await nats.connect(nats_url.split(","))

        async def refuse(message: Msg) -> None:
            nonlocal received
            received += 1
            await full.publish(
                message.reply,
                headers={"Nats-Service-Error-Code": "429", "Roost-Error": "overloaded"},
            )

        await full.subscribe(f"{namespace}.endpoint.lookup", cb=refuse)
        await full.flush()
        calls = (bus.request(LOOKUP, Query(n=n), timeout_s=5) for n in range(1000))
        ends = await asyncio.gather(*calls, return_exceptions=True)
        await full.close()
        assert {type(one) for one in ends} == {Overloaded}
        assert 1000 < received <= 1000 + BURST + PER_CALL * 1000
        assert received == 1000 + bus.counters["request_retried"]
        assert bus.counters["retry_budget_spent"] == 1000
        assert {one.subject for one in told.of("retry_budget_spent")} == {"endpoint lookup"}


async def test_the_time_that_travels_shrinks_with_each_try(nats_url: str, namespace: str) -> None:
    left_ms: list[int] = []
    async with roost.connect(nats_url, namespace=namespace) as bus:
        mute = await nats.connect(nats_url.split(","))

        async def note(message: Msg) -> None:
            assert message.headers is not None
            left_ms.append(int(message.headers["Roost-Timeout-Ms"]))

        await mute.subscribe(f"{namespace}.endpoint.lookup", cb=note)
        await mute.flush()
        with pytest.raises(RequestTimeout, match=r"within 1\.2 s"):
            await bus.request(LOOKUP, Query(), timeout_s=1.2)
        await mute.close()
    assert len(left_ms) == 3
    assert 1200 >= left_ms[0] > 1150
    assert left_ms[0] - left_ms[1] >= 390
    assert left_ms[1] - left_ms[2] >= 390


async def test_a_call_under_way_survives_a_restart_of_the_server(own_server: LocalServer) -> None:
    agent, asked = roost.Agent("answers"), asyncio.Event()

    @agent.handles(ONCE)
    async def lookup(query: Query) -> Facts:
        if not asked.is_set():
            asked.set()
            await asyncio.Event().wait()
        return Facts(n=query.n)

    async with roost.connect(own_server.url) as bus, roost.connect(own_server.url) as other:
        async with other.serving(agent, grace_s=0):
            call = asyncio.create_task(bus.request(LOOKUP, Query(n=7), timeout_s=SOON_S))
            await asked.wait()
            own_server.kill()
            await asyncio.to_thread(own_server.restart)
            assert (await call).n == 7


async def test_a_call_that_is_cancelled_leaves_no_try_behind(nats_url: str, namespace: str) -> None:
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        child("answering_process.py", nats_url, namespace) as mute,
    ):
        call = asyncio.create_task(bus.request(LOOKUP, Query(), timeout_s=60))
        await mute.says("asked")
        assert len(bus.link.requests) == 1
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        assert len(bus.link.requests) == 0
