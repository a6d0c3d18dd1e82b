"""`Endpoint(..., breaker=...)`: one breaker for each bus and endpoint, around each try."""

from __future__ import annotations

import asyncio

import pytest
from resilience_kit import Facts, Query, Told

import roost
from roost import BreakerOpen, BreakerPolicy, Endpoint, NoResponders, RemoteError, RequestTimeout

POLICY = BreakerPolicy(minimum_calls=4, open_s=0.1)
LONG = BreakerPolicy(minimum_calls=4, open_s=30)


class Handler:
    """Answers or fails, as it is told, and counts."""

    def __init__(self, endpoint: Endpoint[Query, Facts]) -> None:
        self.asked = 0
        self.broken = True
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.agent = roost.Agent("shop")
        self.agent.handles(endpoint)(self.lookup)

    async def lookup(self, query: Query) -> Facts:
        self.asked += 1
        await self.goes_on.wait()
        if query.n < 0:
            raise roost.Reject("below zero")
        if self.broken:
            raise OSError("the database is gone")
        return Facts(n=query.n)


async def fails(bus: roost.Bus, endpoint: Endpoint[Query, Facts], times: int = 4) -> None:
    for _ in range(times):
        with pytest.raises(RemoteError, match="the database is gone"):
            await bus.request(endpoint, Query())


async def test_an_endpoint_that_fails_is_left_alone_and_tried_by_one_call(
    nats_url: str, namespace: str
) -> None:
    endpoint = Endpoint("lookup", Query, Facts, breaker=POLICY)
    handler = Handler(endpoint)
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(handler.agent):
        told = Told(bus)
        await fails(bus, endpoint)
        assert handler.asked == 4
        with pytest.raises(BreakerOpen, match="endpoint lookup is open") as refused:
            await bus.request(endpoint, Query())
        assert handler.asked == 4
        await asyncio.sleep(refused.value.retry_after_s)
        handler.goes_on.clear()
        handler.broken = False
        calls = [asyncio.create_task(bus.request(endpoint, Query(n=n))) for n in range(10)]
        await told.heard("breaker_half_open")
        await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        handler.goes_on.set()
        ends = await asyncio.gather(*calls, return_exceptions=True)
        assert sum(isinstance(one, BreakerOpen) for one in ends) == 9
        assert handler.asked == 5
        assert (await bus.request(endpoint, Query(n=3))).n == 3
        kinds = [one.kind for one in told.events if one.subject == "endpoint lookup"]
        assert kinds == ["breaker_opened", "breaker_half_open", "breaker_closed"]


async def test_the_callers_mistakes_do_not_count(nats_url: str, namespace: str) -> None:
    endpoint = Endpoint("lookup", Query, Facts, breaker=LONG)
    handler = Handler(endpoint)
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(handler.agent):
        for _ in range(6):
            with pytest.raises(RemoteError, match="below zero"):
                await bus.request(endpoint, Query(n=-1))
            with pytest.raises(roost.InvalidMessage):
                await bus.request(endpoint, Query.model_construct(n="none"))
        handler.broken = False
        assert (await bus.request(endpoint, Query(n=1))).n == 1


async def test_late_answers_and_nobody_there_count(nats_url: str, namespace: str) -> None:
    endpoint = Endpoint("lookup", Query, Facts, breaker=LONG)
    handler = Handler(endpoint)
    async with roost.connect(nats_url, namespace=namespace) as bus:
        for _ in range(2):
            with pytest.raises(NoResponders):
                await bus.request(endpoint, Query())
        handler.goes_on.clear()
        async with bus.serving(handler.agent, grace_s=0):
            for _ in range(2):
                with pytest.raises(RequestTimeout):
                    await bus.request(endpoint, Query(), timeout_s=0.05)
            with pytest.raises(
                BreakerOpen, match="4 of 4 calls within 10 s failed, the last: RequestTimeout"
            ):
                await bus.request(endpoint, Query())


async def test_handlers_and_programs_of_one_bus_share_the_breaker_and_two_buses_do_not(
    nats_url: str, namespace: str
) -> None:
    endpoint = Endpoint("lookup", Query, Facts, breaker=LONG)
    front = Endpoint("front", Query, Facts)
    handler = Handler(endpoint)

    @handler.agent.handles(front)
    async def ask(query: Query, ctx: roost.Context) -> Facts:
        return await ctx.request(endpoint, query)

    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        roost.connect(nats_url, namespace=namespace) as other,
        bus.serving(handler.agent),
    ):
        await fails(bus, endpoint)
        with pytest.raises(RemoteError, match="the circuit breaker of endpoint lookup is open"):
            await other.request(front, Query())
        await fails(other, endpoint, 1)


async def test_each_try_of_an_idempotent_call_is_behind_the_breaker(nats_url: str, namespace: str) -> None:
    endpoint = Endpoint("lookup", Query, Facts, idempotent=True, breaker=LONG)
    async with roost.connect(nats_url, namespace=namespace) as bus:
        with pytest.raises(BreakerOpen, match="4 of 4 calls within 10 s failed, the last: NoResponders"):
            await bus.request(endpoint, Query())
        assert bus.counters["request_retried"] == 4  # the fifth was refused here


async def test_one_instance_and_all_instances_are_asked_past_the_breaker(
    nats_url: str, namespace: str
) -> None:
    endpoint = Endpoint("lookup", Query, Facts, breaker=LONG)
    handler = Handler(endpoint)
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(handler.agent) as (one,):
        await fails(bus, endpoint)
        handler.broken = False
        assert (await bus.request(endpoint, Query(n=1), instance=one.name)).n == 1
        assert [answer.value.n async for answer in bus.ask_all(endpoint, Query(n=2), quiet_s=0.05)] == [2]


def test_a_wrong_option_is_told_at_once() -> None:
    with pytest.raises(roost.ConfigError, match="breaker = True"):
        Endpoint("lookup", Query, Facts, breaker=True)  # type: ignore[arg-type]
    with pytest.raises(roost.ConfigError, match="idempotent = 1"):
        Endpoint("lookup", Query, Facts, idempotent=1)  # type: ignore[arg-type]
