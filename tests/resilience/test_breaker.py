"""`CircuitBreaker` around any call: what it lets through, what it counts, what it says."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import pytest

import roost
from roost import BreakerOpen, BreakerPolicy, CircuitBreaker, Event
from roost.errors import ConfigError

POLICY = BreakerPolicy(minimum_calls=4, open_s=10)


class Shop:
    """What is called: broken or not, at once or when it is told to."""

    def __init__(self) -> None:
        self.broken = True
        self.asked = 0
        self.goes_on = asyncio.Event()
        self.goes_on.set()
        self.now = 0.0

    async def sell(self, what: str) -> str:
        self.asked += 1
        await self.goes_on.wait()
        if self.broken:
            raise OSError(f"no {what} today")
        return what

    def clock(self) -> float:
        return self.now


def now(breaker: CircuitBreaker) -> str:
    """Its state, which a checker believes to stay what it was."""
    return breaker.state


async def broken(breaker: CircuitBreaker, shop: Shop, times: int = 4) -> None:
    for _ in range(times):
        with pytest.raises(OSError, match="no eggs today"):
            await breaker.call(shop.sell, "eggs")


async def test_an_open_breaker_says_why_and_calls_nothing() -> None:
    shop = Shop()
    breaker = CircuitBreaker("shop", POLICY, clock=shop.clock)
    await broken(breaker, shop)
    assert now(breaker) == "open"
    with pytest.raises(BreakerOpen) as refused:
        await breaker.call(shop.sell, "eggs")
    assert shop.asked == 4
    error = refused.value
    assert (error.name, error.reason) == (
        "shop",
        "4 of 4 calls within 10 s failed, the last: OSError: no eggs today",
    )
    assert 5 <= error.retry_after_s <= 10
    assert "the next probe is due in" in str(error)


async def test_of_ten_callers_at_once_one_is_the_probe_and_its_success_lets_all_through() -> None:
    shop = Shop()
    breaker = CircuitBreaker("shop", POLICY, clock=shop.clock)
    await broken(breaker, shop)
    shop.now, shop.broken, shop.asked = 10.0, False, 0
    shop.goes_on.clear()
    calls = [asyncio.create_task(breaker.call(shop.sell, "eggs")) for _ in range(10)]
    await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
    await asyncio.sleep(0)
    assert shop.asked == 1
    assert now(breaker) == "half_open"
    shop.goes_on.set()
    ends = await asyncio.gather(*calls, return_exceptions=True)
    assert [one for one in ends if not isinstance(one, BreakerOpen)] == ["eggs"]
    assert now(breaker) == "closed"
    assert await asyncio.gather(*(breaker.call(shop.sell, "eggs") for _ in range(10))) == ["eggs"] * 10


@pytest.mark.parametrize("way", ["call", "block"])
async def test_a_probe_that_is_cancelled_counts_neither_way_and_leaves_its_place(way: str) -> None:
    shop = Shop()
    breaker = CircuitBreaker("shop", POLICY, clock=shop.clock)
    await broken(breaker, shop)
    shop.now, shop.broken, shop.asked = 10.0, False, 0
    shop.goes_on.clear()

    async def block() -> str:
        async with breaker:
            return await shop.sell("eggs")

    probe = asyncio.create_task(breaker.call(shop.sell, "eggs") if way == "call" else block())
    await asyncio.sleep(0)
    assert (now(breaker), shop.asked) == ("half_open", 1)
    probe.cancel()
    with pytest.raises(asyncio.CancelledError):
        await probe
    assert now(breaker) == "half_open"
    shop.goes_on.set()
    assert await breaker.call(shop.sell, "eggs") == "eggs"
    assert now(breaker) == "closed"


async def test_a_probe_that_hangs_is_followed_by_another() -> None:
    shop = Shop()
    breaker = CircuitBreaker("shop", POLICY, clock=shop.clock)
    await broken(breaker, shop)
    shop.now = 10.0
    shop.goes_on.clear()
    hangs = asyncio.create_task(breaker.call(shop.sell, "eggs"))
    await asyncio.sleep(0)
    shop.now += POLICY.open_cap_s - 1
    with pytest.raises(BreakerOpen, match="the next probe is under way"):
        await breaker.call(shop.sell, "eggs")
    shop.now += 1
    shop.goes_on.set()
    shop.broken = False
    assert await breaker.call(shop.sell, "eggs") == "eggs"
    assert now(breaker) == "closed"
    assert await hangs == "eggs"


async def test_blocks_in_many_tasks_and_within_each_other_are_told_apart() -> None:
    shop = Shop()
    shop.broken = False
    breaker = CircuitBreaker("shop", POLICY, clock=shop.clock)

    async def nested(fails: bool) -> None:
        async with breaker:
            await asyncio.sleep(0)
            async with breaker:
                await asyncio.sleep(0)
                if fails:
                    raise OSError("broken")

    ends = await asyncio.gather(nested(True), nested(False), return_exceptions=True)
    assert [type(one) for one in ends] == [OSError, type(None)]
    assert now(breaker) == "open"  # two of four


async def test_a_block_that_is_left_in_another_task_counts_neither_way() -> None:
    breaker = CircuitBreaker("shop", BreakerPolicy(minimum_calls=1))

    async def pages() -> AsyncIterator[int]:
        async with breaker:
            yield 1

    source = pages()
    assert await anext(source) == 1
    await asyncio.create_task(source.aclose())  # type: ignore[attr-defined]
    assert now(breaker) == "closed"


async def test_changes_are_events_of_the_bus_and_of_the_breaker(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        shop = Shop()
        breaker = CircuitBreaker("shop", POLICY, bus=bus, clock=shop.clock)
        heard: list[Event] = []
        told: list[Event] = []
        bus.watch(told.append)
        end = breaker.watch(heard.append)
        await broken(breaker, shop)
        shop.now, shop.broken = 10.0, False
        await breaker.call(shop.sell, "eggs")
        bus.journal.record("something_else", subject="shop", level=logging.DEBUG)
        kinds = ["breaker_opened", "breaker_half_open", "breaker_closed"]
        assert [one.kind for one in heard] == kinds
        assert [one.kind for one in told] == [*kinds, "something_else"]
        assert {one.subject for one in heard} == {"shop"}
        assert heard[0].reason.startswith(
            "4 of 4 calls within 10 s failed, the last: OSError: no eggs today; the"
        )
        assert bus.counters["breaker_opened"] == 1
        end()
        shop.broken = True
        await broken(breaker, shop)
        assert len(heard) == 3


def test_a_wrong_name_or_policy_is_told_at_once() -> None:
    with pytest.raises(ConfigError, match="name = "):
        CircuitBreaker("")
    with pytest.raises(ConfigError, match="policy = 5"):
        CircuitBreaker("shop", 5)  # type: ignore[arg-type]
