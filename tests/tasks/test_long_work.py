"""Handlers that take longer than the ack wait: heartbeats keep their delivery, threads keep the loop free."""

from __future__ import annotations

import asyncio
import time

import pytest

import roost
from tasks.conftest import LongWork
from tasks.support import SOON_S, Number, agent_of


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
async def test_a_handler_nine_times_as_long_as_the_ack_wait_runs_once(
    nats_url: str, namespace: str, sync: bool
) -> None:
    ran: list[int] = []
    task = roost.Task("long", Number, Number, ack_wait_s=0.5)

    async def slow(value: Number, ctx: roost.Context) -> Number:
        ran.append(ctx.attempt)
        await asyncio.sleep(4.5)  # the handler that is slow
        return value

    def blocking(value: Number, ctx: roost.Context) -> Number:
        ran.append(ctx.attempt)
        time.sleep(4.5)  # the same, on a thread
        return value

    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        roost.connect(nats_url, namespace=namespace) as other,
        bus.serving(agent_of(task, blocking if sync else slow)),
        other.serving(agent_of(task, blocking if sync else slow)),
    ):
        handles = [await bus.submit(task, Number(n=n)) for n in range(6)]
        await asyncio.gather(*(handle.result(timeout_s=SOON_S) for handle in handles))
    assert ran == [1] * 6


async def test_sync_handlers_run_side_by_side_and_leave_the_loop_free(nats_url: str, namespace: str) -> None:
    task = roost.Task("blocking", Number, Number)
    longest_s = 0.0

    def block(value: Number) -> Number:
        time.sleep(0.3)  # the handler that is slow
        return value

    async def ticks() -> None:
        nonlocal longest_s
        loop = asyncio.get_running_loop()
        while True:
            begun = loop.time()
            await asyncio.sleep(0)
            longest_s = max(longest_s, loop.time() - begun)

    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        bus.serving(agent_of(task, block, concurrency=8)),
    ):
        handles = await bus.submit_many(task, [Number(n=n) for n in range(16)])
        ticking = asyncio.ensure_future(ticks())
        begun = time.monotonic()
        await asyncio.gather(*(handle.result(timeout_s=SOON_S) for handle in handles))
        took_s = time.monotonic() - begun
        ticking.cancel()
    assert took_s < 16 * 0.3 / 2, "eight at a time"
    assert longest_s < 0.25


async def test_no_more_than_concurrency_handlers_run_at_once(nats_url: str, namespace: str) -> None:
    task = roost.Task("narrow", Number, Number)
    running = most = 0

    async def count(value: Number) -> Number:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1
        return value

    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        bus.serving(agent_of(task, count, concurrency=5)),
    ):
        handles = await bus.submit_many(task, [Number(n=n) for n in range(500)])
        await asyncio.gather(*(handle.result(timeout_s=SOON_S) for handle in handles))
    assert most == 5


@pytest.mark.slow_limit(90)
async def test_a_handler_of_45_s_on_an_ack_wait_of_5_s_runs_once(long_work: LongWork) -> None:
    """It runs in a process of its own beside the other tests, and is awaited last."""
    assert await long_work.report() == {"runs": [1, 1], "outcomes": ["done", "done"], "seconds": 45}
