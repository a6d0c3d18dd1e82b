"""A limit of a contract over all processes: never more of its tasks at once, and as many as that."""

from __future__ import annotations

import asyncio
import json
import signal
from itertools import accumulate

import pytest

import roost
from roost.tasks.administer import provision as administer
from tasks.limit_process import LIMIT, limited
from tasks.support import SOON_S, Number, agent_of, children, plus_one, records

BLUR_S = 0.005
"""Clocks of two processes, each set by the server's, may differ by a round trip; handlers take 30 ms."""


async def most_at_once(bus: roost.Bus) -> int:
    """Recounted from the attempts in the log's outcomes."""
    changes: list[tuple[float, int]] = []
    for record in await records(bus, "end"):
        for one in json.loads(record.data)["attempts"]:
            if "s" in one:
                changes += [(one["at"] + BLUR_S, 1), (one["at"] + one["s"] - BLUR_S, -1)]
    return max(accumulate(change for _, change in sorted(changes)))


async def test_never_more_than_the_limit_run_in_all_processes_also_when_one_is_killed(
    nats_url: str, namespace: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, children() as start:
        workers = await asyncio.gather(
            *(start("-", nats_url, namespace, module="limit_process") for _ in "abc")
        )
        await asyncio.gather(*(one.says("ready") for one in workers))
        handles = await bus.submit_many(limited, [Number(n=n) for n in range(60)])
        await handles[15].result(timeout_s=SOON_S)
        workers[0].signal(signal.SIGKILL)
        await asyncio.gather(*(handle.result(timeout_s=SOON_S) for handle in handles))
        assert await most_at_once(bus) == LIMIT
        by = {json.loads(one.data)["attempts"][-1]["by"] for one in await records(bus, "end")}
        assert len(by) >= 2, "nothing to be counted if one process did it all"


async def test_instances_of_one_process_share_the_limit(nats_url: str, namespace: str) -> None:
    running = most = 0

    async def count(value: Number) -> Number:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.01)
        running -= 1
        return value

    agents = [agent_of(limited, count) for _ in range(2)]
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(*agents):
        handles = await bus.submit_many(limited, [Number(n=n) for n in range(30)])
        await asyncio.gather(*(handle.result(timeout_s=SOON_S) for handle in handles))
    assert most == LIMIT


async def test_a_task_in_backoff_holds_its_place(nats_url: str, namespace: str) -> None:
    one = roost.Task("one", Number, Number, max_running=1, retry=roost.Retry(base_s=0.3, cap_s=0.3))
    order: list[int] = []

    async def fails_once(value: Number, ctx: roost.Context) -> Number:
        order.append(value.n)
        if ctx.attempt == 1 and value.n == 0:
            raise ValueError
        return value

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(one, fails_once)):
        handles = await bus.submit_many(one, [Number(n=0), Number(n=1)])
        await asyncio.gather(*(handle.result(timeout_s=SOON_S) for handle in handles))
    assert order == [0, 0, 1]


async def test_tasks_that_are_lined_up_for_their_key_hold_no_place(nats_url: str, namespace: str) -> None:
    """Else the first of a long queue would wait for those behind it."""
    lined = roost.Task("lined", Number, Number, max_running=2, order_key=lambda value: str(value.n % 3))
    done: list[int] = []

    async def note(value: Number) -> Number:
        done.append(value.n)
        return value

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(lined, note)):
        handles = await bus.submit_many(lined, [Number(n=n) for n in range(30)])
        await asyncio.gather(*(handle.result(timeout_s=SOON_S) for handle in handles))
    assert all([n for n in done if n % 3 == key] == list(range(key, 30, 3)) for key in range(3))


async def test_another_limit_in_the_code_is_a_difference_that_an_administrator_applies(
    nats_url: str, namespace: str
) -> None:
    before = roost.Task("add", Number, Number)
    after = roost.Task("add", Number, Number, max_running=2)
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of(before, plus_one)):
            with pytest.raises(roost.ConfigMismatch, match="max_ack_pending"):
                async with bus.serving(agent_of(after, plus_one)):
                    pass
        await administer(bus.log, [after])
        async with bus.serving(agent_of(after, plus_one)):
            assert await (await bus.submit(after, Number(n=1))).result(timeout_s=SOON_S) == Number(n=2)
        with pytest.raises(roost.ConfigMismatch, match="is 2, wanted 20000"):
            async with bus.serving(agent_of(before, plus_one)):
                pass


@pytest.mark.parametrize("wrong", [0, -1, 2.0, True, 20_001])
def test_a_limit_is_a_number_of_tasks(wrong: object) -> None:
    with pytest.raises(roost.ConfigError, match="max_running"):
        roost.Task("t", Number, Number, max_running=wrong)  # type: ignore[call-overload]
