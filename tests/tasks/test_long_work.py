"""Handlers that take longer than the ack wait: heartbeats keep their delivery, threads keep the loop free."""

from __future__ import annotations

import asyncio
import time

import pytest

import roost
from tasks.conftest import LongWork
from tasks.support import SOON_S, Number, agent_of


async def test_handlers_nine_times_as_long_as_the_ack_wait_run_once(nats_url: str, namespace: str) -> None:
    ran: list[tuple[str, int]] = []
    awaited = roost.Task("awaited", Number, Number, ack_wait_s=0.8)
    threaded = roost.Task("threaded", Number, Number, ack_wait_s=0.8)

    async def wait(value: Number, ctx: roost.Context) -> Number:
        ran.append(("awaited", value.n))
        await asyncio.sleep(7.2)  # the handler that is slow
        return value

    def block(value: Number, ctx: roost.Context) -> Number:
        ran.append(("threaded", value.n))
        time.sleep(7.2)  # the same, on a thread
        return value

    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        roost.connect(nats_url, namespace=namespace) as other,
        bus.serving(agent_of(awaited, wait), agent_of(threaded, block)),
        other.serving(agent_of(awaited, wait), agent_of(threaded, block)),
    ):
        handles = [await bus.submit(task, Number(n=n)) for n in range(3) for task in (awaited, threaded)]
        await asyncio.gather(*(handle.result(timeout_s=SOON_S) for handle in handles))
    assert sorted(ran) == [(name, n) for name in ("awaited", "threaded") for n in range(3)]


async def test_sync_handlers_run_side_by_side_and_leave_the_loop_free(nats_url: str, namespace: str) -> None:
    task = roost.Task("blocking", Number, Number)
    turns = 0

    def block(value: Number) -> Number:
        time.sleep(0.5)  # the handler that is slow
        return value

    async def count_turns() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        bus.serving(agent_of(task, block, concurrency=8)),
    ):
        handles = await bus.submit_many(task, [Number(n=n) for n in range(16)])
        counting = asyncio.ensure_future(count_turns())
        begun = time.monotonic()
        await asyncio.gather(*(handle.result(timeout_s=SOON_S) for handle in handles))
        took_s = time.monotonic() - begun
        counting.cancel()
    assert took_s < 16 * 0.5 / 2, "eight at a time"
    assert turns > 1000, "a loop that is held up by handlers turns a few times for each"


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
