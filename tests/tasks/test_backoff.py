"""Work that waits for its next attempt is in nobody's way."""

from __future__ import annotations

import time

import roost
from roost.contracts import Retry
from tasks.support import Events, Number, agent_of

WAITING = 2000
FRESH = 100
task = roost.Task("mixed", Number, Number, retry=Retry(attempts=3, base_s=30, cap_s=30))


async def fails_if_negative(value: Number) -> Number:
    if value.n < 0:
        raise ConnectionError("the other side is down")
    return value


async def latencies(bus: roost.Bus) -> list[float]:
    """Milliseconds from submission to outcome of fresh tasks, one after the other, in order of size."""
    taken = []
    for n in range(FRESH):
        begun = time.perf_counter()
        handle = await bus.submit(task, Number(n=n))
        await handle.result(timeout_s=20)
        taken.append((time.perf_counter() - begun) * 1000)
    return sorted(taken)


async def test_2000_tasks_in_a_backoff_of_30_s_delay_a_fresh_one_by_less_than_100_ms(
    nats_url: str, namespace: str
) -> None:
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        bus.serving(agent_of(task, fails_if_negative)),
    ):
        events = Events(bus)
        before = await latencies(bus)
        await bus.submit_many(task, [Number(n=-1)] * WAITING)
        await events.until("task_retried", WAITING)
        begun = time.monotonic()
        during = await latencies(bus)
        assert time.monotonic() - begun < 10, "some of them may be back already, and the figures say nothing"
        assert bus.counters["task_retried"] == WAITING
    for name, figures in (("alone", before), (f"beside {WAITING} in backoff", during)):
        print(f"{name}: p50 {figures[FRESH // 2]:.2f}, p95 {figures[95]:.2f}, max {figures[-1]:.2f} ms")
    assert during[FRESH // 2] - before[FRESH // 2] < 100
    assert during[95] - before[95] < 100
