"""The deadline of a task, from submission to outcome, by the server's clock."""

from __future__ import annotations

import asyncio
import time

import pytest

import roost
from roost.contracts import Retry
from tasks.support import SOON_S, Number, agent_of, plus_one


async def test_a_deadline_that_passes_while_the_task_waits_ends_it_unrun(
    nats_url: str, namespace: str
) -> None:
    task = roost.Task("queued", Number, Number, deadline_s=0.3)
    ran: list[int] = []

    async def note(value: Number) -> Number:
        ran.append(value.n)
        return value

    blocker = roost.Task("blocker", Number, Number)

    async def block(value: Number) -> Number:
        await asyncio.sleep(0.5)  # the handler that is slow
        return value

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of(blocker, block)):
            late = await bus.submit(task, Number(n=2))
            await (await bus.submit(blocker, Number(n=0))).result(timeout_s=SOON_S)
        async with bus.serving(agent_of(task, note)):
            outcome = await late.outcome(timeout_s=SOON_S)
    assert isinstance(outcome, roost.Dead)
    assert outcome.letter.reason.startswith("deadline: it passed before")
    assert ran == []


async def test_a_deadline_that_passes_in_the_handler_ends_it_for_good(nats_url: str, namespace: str) -> None:
    task = roost.Task("late", Number, Number, deadline_s=1.0, attempt_timeout_s=15)
    ran: list[int] = []

    async def hang(value: Number, ctx: roost.Context) -> Number:
        ran.append(ctx.attempt)
        assert ctx.remaining_s is not None
        assert ctx.remaining_s <= 1.05
        await asyncio.Event().wait()
        return value

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(task, hang)):
        outcome = await (await bus.submit(task, Number(n=1))).outcome(timeout_s=SOON_S)
    assert isinstance(outcome, roost.Dead)
    assert "deadline: it passed while the handler ran" in outcome.letter.reason
    assert ran == [1]


async def test_a_retry_that_would_come_after_the_deadline_is_not_waited_for(
    nats_url: str, namespace: str
) -> None:
    task = roost.Task("soon", Number, Number, deadline_s=5, retry=Retry(attempts=5, base_s=30))

    async def fail(value: Number) -> Number:
        raise ValueError("no luck")

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(task, fail)):
        outcome = await (await bus.submit(task, Number(n=1))).outcome(timeout_s=SOON_S)
    assert isinstance(outcome, roost.Dead)
    assert (
        outcome.letter.reason
        == "deadline: it would pass before the next attempt; the last one: ValueError: no luck"
    )


@pytest.mark.parametrize("wrong_by_s", [3600.0, -3600.0])
async def test_a_deadline_holds_although_this_machines_clock_is_wrong(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, wrong_by_s: float
) -> None:
    true_time = time.time
    task = roost.Task("skewed", Number, Number, deadline_s=20)
    monkeypatch.setattr(time, "time", lambda: true_time() + wrong_by_s)
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(task, plus_one)):
        outcome = await (await bus.submit(task, Number(n=1))).outcome(timeout_s=SOON_S)
    assert isinstance(outcome, roost.Done), outcome
    assert abs(outcome.history[0].started_s - true_time()) < 5, "times in the log are the server's"


@pytest.mark.parametrize("set_by_s", [3600.0, -3600.0])
async def test_a_deadline_holds_although_this_machines_clock_is_set_meanwhile(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, set_by_s: float
) -> None:
    """Bug: a clock set forward under a running worker made dead letters of all tasks with a deadline."""
    true_time = time.time
    task = roost.Task("stepped", Number, Number, deadline_s=1.5, attempt_timeout_s=15)

    async def hang(value: Number) -> Number:
        if value.n:
            await asyncio.Event().wait()
        return value

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(task, hang)):
        monkeypatch.setattr(time, "time", lambda: true_time() + set_by_s)
        in_time = await (await bus.submit(task, Number(n=0))).outcome(timeout_s=SOON_S)
        late = await (await bus.submit(task, Number(n=1))).outcome(timeout_s=10)
    assert isinstance(in_time, roost.Done), in_time
    assert isinstance(late, roost.Dead), "the deadline is kept all the same"
