"""`@agent.handles(task, breaker=...)`: tasks wait, on the server, while what their handler needs is broken."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from typing import Any

import pytest
from resilience_kit import SOON_S, Facts, Query, Told, child

import roost
from roost import BreakerPolicy, Dead, Done, Retry, Task
from roost.permissions import serving
from roost.tasks.pausing import pause
from roost.tasks.provision import consumer_name

SOON = BreakerPolicy(minimum_calls=10, open_s=0.2, open_cap_s=1)
LATER = BreakerPolicy(minimum_calls=4, open_s=30, open_cap_s=30)


class Shop:
    """A handler of tasks that fails or hangs as it is told, and counts."""

    def __init__(self, task: Task[Query, Facts], policy: BreakerPolicy | None, concurrency: int = 32) -> None:
        self.asked = 0
        self.at_once = 0
        self.most_at_once = 0
        self.broken = True
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.agent = roost.Agent("shop")
        self.agent.handles(task, breaker=policy, concurrency=concurrency)(self.sell)

    async def sell(self, query: Query) -> Facts:
        self.asked += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        try:
            await self.goes_on.wait()
            if self.broken:
                raise OSError("the database is gone")
            return Facts(n=query.n)
        finally:
            self.at_once -= 1


async def consumer(bus: roost.Bus, name: str) -> Any:
    return await bus.log.link.jetstream.call(f"CONSUMER.INFO.{bus.log.stream}.{consumer_name(name)}")


async def test_of_two_thousand_tasks_only_some_die_while_the_database_is_gone_and_the_rest_is_done(
    nats_url: str, namespace: str
) -> None:
    sale = Task("sale", Query, Facts, retry=Retry(attempts=2, base_s=0.02, cap_s=0.02))
    shop = Shop(sale, SOON)
    async with roost.connect(nats_url, namespace=namespace) as bus:
        told = Told(bus)
        handles = await bus.submit_many(sale, [Query(n=n) for n in range(2000)])
        async with bus.serving(shop.agent):
            await told.heard("breaker_opened", 4)  # three probes have failed
            asked_meanwhile = shop.asked
            shop.broken = False
            async with asyncio.timeout(SOON_S):
                ends = await asyncio.gather(*(one.outcome() for one in handles))
        assert asked_meanwhile <= 60
        kinds = Counter(type(one) for one in ends)
        assert kinds[Dead] + kinds[Done] == 2000
        assert kinds[Dead] <= 40
        states = [one.kind for one in told.events if one.subject == "task sale"]
        assert states[0] == "breaker_opened"
        assert states[-1] == "breaker_closed"
        # Every run of the handler is an attempt on record, and there is no attempt without one.
        ended = await bus.log.read_all(f"{namespace}.run.*.end.sale.*")
        assert sum(len(json.loads(one.data)["attempts"]) for one in ended) == shop.asked


async def test_half_open_one_task_runs_and_its_success_lets_the_others_run(
    nats_url: str, namespace: str
) -> None:
    sale = Task("sale", Query, Facts, retry=Retry(attempts=9, base_s=0.02, cap_s=0.02))
    shop = Shop(sale, BreakerPolicy(open_s=0.6, open_cap_s=1), concurrency=8)
    async with roost.connect(nats_url, namespace=namespace) as bus:
        told = Told(bus)
        handles = await bus.submit_many(sale, [Query(n=n) for n in range(10)])
        async with bus.serving(shop.agent):
            await told.heard("breaker_opened")
            shop.goes_on.clear()
            handles += await bus.submit_many(sale, [Query(n=n) for n in range(50)])  # for pulls that are out
            shop.most_at_once = shop.at_once
            for _ in range(5):  # what was on its way has come, was looked up, and has gone back
                await consumer(bus, "sale")
            back = len(told.of("task_handed_back"))
            await told.heard("breaker_half_open")
            # Half of the time for which it was open: more would have come by now.
            await asyncio.sleep(0.3)
            assert (shop.at_once, shop.most_at_once) == (1, 1)
            assert len(told.of("breaker_half_open")) == 1
            assert len(told.of("task_handed_back")) == back  # and no other had to be sent away
            shop.broken = False
            shop.goes_on.set()
            async with asyncio.timeout(SOON_S):
                ends = await asyncio.gather(*(one.outcome() for one in handles))
            assert all(isinstance(one, Done) for one in ends)
            assert told.of("breaker_closed")


async def test_while_it_is_open_no_instance_gets_a_task_and_a_stop_lifts_the_pause(
    nats_url: str, namespace: str
) -> None:
    sale = Task("sale", Query, Facts, retry=Retry(attempts=9, base_s=0.02, cap_s=0.02))
    failing, other = Shop(sale, LATER, concurrency=4), Shop(sale, None)
    other.broken = False
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        roost.connect(nats_url, namespace=namespace) as second,
    ):
        told = Told(bus)
        async with bus.serving(failing.agent) as (failing_one,):
            handles = await bus.submit_many(sale, [Query(n=n) for n in range(20)])
            await told.heard("breaker_opened")
            while not (await consumer(bus, "sale")).get("paused"):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            left_s = (await consumer(bus, "sale"))["pause_remaining"] / 1e9
            assert 14 < left_s <= 30  # it ends by itself, whatever becomes of this process
            async with second.serving(other.agent):
                await bus.submit(sale, Query(n=99))
                await second.link.client.flush()
                await asyncio.sleep(0.2)
                assert other.asked == 0
                assert failing.asked <= 8
                await failing_one.stop(0)
                async with asyncio.timeout(SOON_S):
                    ends = await asyncio.gather(*(one.outcome() for one in handles))
                assert all(isinstance(one, Done) for one in ends)


async def test_a_worker_that_is_killed_while_its_breaker_is_open_leaves_nothing_paused(
    nats_url: str, namespace: str
) -> None:
    sale = Task("sale", Query, Facts, retry=Retry(attempts=9, base_s=0.02, cap_s=0.02))
    other = Shop(sale, None)
    other.broken = False
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with child("pausing_process.py", nats_url, namespace) as failing:
            handles = await bus.submit_many(sale, [Query(n=n) for n in range(20)])
            await failing.says("paused")
            failing.kill()
            async with bus.serving(other.agent), asyncio.timeout(SOON_S):
                ends = await asyncio.gather(*(one.outcome() for one in handles))
    assert all(isinstance(one, Done) for one in ends)


async def test_a_pause_of_an_operator_is_not_lifted(nats_url: str, namespace: str) -> None:
    sale = Task("sale", Query, Facts, retry=Retry(attempts=9, base_s=5))
    shop = Shop(sale, LATER, concurrency=4)
    async with roost.connect(nats_url, namespace=namespace) as bus:
        told = Told(bus)
        async with bus.serving(shop.agent):
            shop.goes_on.clear()
            await bus.submit_many(sale, [Query(n=n) for n in range(4)])
            while shop.at_once < 4:  # noqa: ASYNC110
                await asyncio.sleep(0)
            until = await pause(bus.log, "sale", 3600)
            shop.goes_on.set()
            await told.heard("breaker_opened")
        assert (await consumer(bus, "sale"))["config"]["pause_until"] == until


async def test_what_was_taken_in_but_had_not_begun_goes_back(nats_url: str, namespace: str) -> None:
    """Redeliveries are looked up before they run; the breaker opens meanwhile."""
    sale = Task("sale", Query, Facts, retry=Retry(attempts=3, base_s=0.05, cap_s=0.05))
    shop = Shop(sale, BreakerPolicy(minimum_calls=8, open_s=0.2, open_cap_s=0.4), concurrency=64)
    async with roost.connect(nats_url, namespace=namespace) as bus:
        told = Told(bus)
        async with bus.serving(shop.agent):
            handles = await bus.submit_many(sale, [Query(n=n) for n in range(200)])
            await told.heard("breaker_opened", 2)
            shop.broken = False
            async with asyncio.timeout(SOON_S):
                ends = await asyncio.gather(*(one.outcome() for one in handles))
        assert all(isinstance(one, Done) for one in ends)
        back = [one for one in told.of("task_handed_back") if one.reason == "its circuit breaker is open"]
        ended = await bus.log.read_all(f"{namespace}.run.*.end.sale.*")
        assert back
        assert sum(len(json.loads(one.data)["attempts"]) for one in ended) == shop.asked


async def test_slow_tasks_open_it_and_rejected_ones_do_not(nats_url: str, namespace: str) -> None:
    sale = Task("sale", Query, Facts)
    agent = roost.Agent("shop")
    policy = BreakerPolicy(minimum_calls=4, slow_call_s=0.05, open_s=30)

    @agent.handles(sale, breaker=policy, concurrency=4)
    async def sell(query: Query) -> Facts:
        if query.n < 0:
            raise roost.Reject("below zero")
        await asyncio.sleep(0.06)
        return Facts(n=query.n)

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        told = Told(bus)
        rejected = await bus.submit_many(sale, [Query(n=-1 - n) for n in range(12)])
        ends = await asyncio.gather(*(one.outcome() for one in rejected))
        assert all(isinstance(one, Dead) for one in ends)
        assert not told.of("breaker_opened")
        await bus.submit_many(sale, [Query(n=n) for n in range(4)])
        opened = await told.heard("breaker_opened")
        assert opened[0].reason.startswith("4 of 4 calls within 10 s took 0.05 s or longer")


def test_only_a_worker_with_a_breaker_may_pause() -> None:
    sale, other = Task("sale", Query, Facts), Task("other", Query, Facts)
    agent = roost.Agent("shop")
    agent.handles(sale, breaker=LATER)(lambda query: Facts())
    agent.handles(other)(lambda query: Facts())
    assert agent.job.pauses == ("sale",)
    assert "$JS.API.CONSUMER.PAUSE.ROOST_shop.task_sale" in serving(agent.job, "shop", "_INBOX_shop").publish


def test_only_a_task_has_a_breaker_at_its_handler() -> None:
    with pytest.raises(roost.ConfigError, match="breaker = "):
        roost.Agent("shop").handles(roost.Endpoint("lookup", Query, Facts), breaker=LATER)  # type: ignore[call-overload]
