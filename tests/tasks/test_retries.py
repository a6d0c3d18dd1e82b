"""What follows from a handler that fails: backoff, another attempt, or a dead letter that says why."""

from __future__ import annotations

import asyncio
import contextlib
import sys
import time
from itertools import pairwise
from typing import Any

import pytest

import roost
from roost.contracts import Limits, Retry
from roost.tasks import objects
from roost.tasks.reading import read_history
from roost.tasks.records import encode_note
from tasks.support import SOON_S, Events, Number, agent_of, api, records, stranger

quick = Retry(attempts=3, base_s=0.01, cap_s=0.02)


async def outcome_of(
    url: str, namespace: str, task: roost.Task[Number, Any], handler: Any, value: int = 1
) -> roost.Outcome[Any]:
    """Serve the handler, submit one task, and wait for what it comes to."""
    async with (
        roost.connect(url, namespace=namespace) as bus,
        bus.serving(agent_of(task, handler), grace_s=0.1),
    ):
        return await (await bus.submit(task, Number(n=value))).outcome(timeout_s=SOON_S)


def letter(outcome: roost.Outcome[Any]) -> roost.DeadLetter:
    assert isinstance(outcome, roost.Dead), outcome
    return outcome.letter


async def test_a_handler_that_fails_twice_is_run_a_third_time(nats_url: str, namespace: str) -> None:
    task = roost.Task("flaky", Number, Number, retry=quick)

    async def flaky(value: Number, ctx: roost.Context) -> Number:
        if ctx.attempt < 3:
            raise ValueError(f"not yet, said {ctx.attempt}")
        return Number(n=ctx.attempt)

    outcome = await outcome_of(nats_url, namespace, task, flaky)
    assert isinstance(outcome, roost.Done)
    assert outcome.value == Number(n=3)
    assert [(one.number, one.result, one.error) for one in outcome.history] == [
        (1, "failed", "ValueError: not yet, said 1"),
        (2, "failed", "ValueError: not yet, said 2"),
        (3, "done", ""),
    ]
    assert all(one.by.startswith("tester-") and one.ended_s is not None for one in outcome.history)


async def test_attempts_come_to_an_end_with_the_last_error(nats_url: str, namespace: str) -> None:
    ran: list[int] = []

    async def never(value: Number, ctx: roost.Context) -> Number:
        ran.append(ctx.attempt)
        raise KeyError(f"missing {ctx.attempt}")

    outcome = await outcome_of(nats_url, namespace, roost.Task("never", Number, Number, retry=quick), never)
    assert ran == [1, 2, 3]
    assert letter(outcome).attempts == 3
    assert letter(outcome).error == "KeyError: 'missing 3'"
    assert "3 attempts failed" in letter(outcome).reason
    assert [one.result for one in outcome.history] == ["failed"] * 3


async def test_a_delay_is_at_least_half_of_its_doubled_base(nats_url: str, namespace: str) -> None:
    begun: list[float] = []

    async def never(value: Number) -> Number:
        begun.append(asyncio.get_running_loop().time())
        raise ValueError

    task = roost.Task("slowly", Number, Number, retry=Retry(attempts=4, base_s=0.1, cap_s=0.2))
    await outcome_of(nats_url, namespace, task, never)
    delays = [later - earlier for earlier, later in pairwise(begun)]
    assert [delay >= least for delay, least in zip(delays, (0.05, 0.1, 0.1), strict=True)] == [True] * 3
    assert max(delays) < 5.0


async def test_reject_is_final_at_once(nats_url: str, namespace: str) -> None:
    ran: list[int] = []

    async def refuse(value: Number) -> Number:
        ran.append(value.n)
        raise roost.Reject("empty page")

    outcome = await outcome_of(nats_url, namespace, roost.Task("refused", Number, Number), refuse)
    assert ran == [1]
    assert (letter(outcome).reason, letter(outcome).attempts) == ("empty page", 1)
    async with roost.connect(nats_url, namespace=namespace) as bus:
        handle = bus.handle(roost.Task("refused", Number, Number), letter(outcome).id)
        with pytest.raises(roost.TaskDead, match="empty page"):
            await handle.result(timeout_s=SOON_S)


async def test_retry_later_waits_as_long_as_it_was_told(nats_url: str, namespace: str) -> None:
    begun: list[float] = []

    async def later(value: Number) -> Number:
        begun.append(asyncio.get_running_loop().time())
        if len(begun) == 1:
            raise roost.RetryLater(after_s=0.4)
        return value

    outcome = await outcome_of(nats_url, namespace, roost.Task("later", Number, Number, retry=quick), later)
    assert isinstance(outcome, roost.Done)
    assert 0.4 <= begun[1] - begun[0] < 10.0


async def test_retry_later_counts_as_an_attempt(nats_url: str, namespace: str) -> None:
    async def later(value: Number) -> Number:
        raise roost.RetryLater(after_s=0.01, reason="no quota")

    outcome = await outcome_of(nats_url, namespace, roost.Task("quota", Number, Number, retry=quick), later)
    assert letter(outcome).attempts == 3
    assert "no quota" in letter(outcome).error


@pytest.mark.parametrize(
    "policy",
    [
        Retry(attempts=3, base_s=0.01, never_on=(KeyError,)),
        Retry(attempts=3, base_s=0.01, retry_on=(OSError,)),
    ],
    ids=["never_on", "retry_on"],
)
async def test_an_exception_that_is_not_to_be_retried_is_final(
    nats_url: str, namespace: str, policy: Retry
) -> None:
    ran: list[int] = []

    async def once(value: Number) -> Number:
        ran.append(value.n)
        raise KeyError("k")

    outcome = await outcome_of(nats_url, namespace, roost.Task("once", Number, Number, retry=policy), once)
    assert ran == [1]
    assert "not to be tried again" in letter(outcome).reason


@pytest.mark.parametrize("sync", [False, True], ids=["async", "sync"])
async def test_an_attempt_over_its_time_is_ended_and_tried_again(
    nats_url: str, namespace: str, sync: bool
) -> None:
    release = asyncio.Event()
    ran: list[int] = []

    async def hang(value: Number, ctx: roost.Context) -> Number:
        ran.append(ctx.attempt)
        if ctx.attempt == 1:
            await release.wait()
        return value

    def block(value: Number, ctx: roost.Context) -> Number:
        ran.append(ctx.attempt)
        if ctx.attempt == 1:
            time.sleep(0.6)  # the handler that is slow
        return value

    task = roost.Task("hanging", Number, Number, retry=quick, attempt_timeout_s=0.2)
    outcome = await outcome_of(nats_url, namespace, task, block if sync else hang)
    assert isinstance(outcome, roost.Done)
    assert ran == [1, 2]
    assert outcome.history[0].error.startswith("AttemptTimeout: no result within 0.2 s")


@pytest.mark.parametrize(
    ("returned", "said"),
    [
        ({"n": "many"}, "should be a valid string"),
        ("x" * 1001, "1003 bytes, allowed are 1000; give the contract limits=Limits(max_bytes=…)"),
    ],
)
async def test_a_result_that_does_not_fit_the_contract_is_a_dead_letter_at_once(
    nats_url: str, namespace: str, returned: Any, said: str
) -> None:
    """Bug: its handler ran as often as it had attempts, with all its effects."""

    async def wrong(value: Number) -> Any:
        return returned

    task = roost.Task("misfit", Number, str, retry=quick, limits=Limits(max_bytes=1000))
    outcome = await outcome_of(nats_url, namespace, task, wrong)
    assert letter(outcome).attempts == 1
    assert letter(outcome).reason.startswith("its result cannot be stored: the handler of 'misfit' ran, ")
    assert said in letter(outcome).reason
    assert "UnfitResult" in letter(outcome).error


async def test_a_handler_that_leaves_in_odd_ways_is_a_failure_like_any_other(
    nats_url: str, namespace: str
) -> None:
    async def leave(value: Number, ctx: roost.Context) -> Number:
        if ctx.attempt == 1:
            raise asyncio.CancelledError
        if ctx.attempt == 2:
            sys.exit(3)
        return value

    outcome = await outcome_of(nats_url, namespace, roost.Task("odd", Number, Number, retry=quick), leave)
    assert isinstance(outcome, roost.Done)
    assert ["CancelledError" in outcome.history[0].error, "sys.exit(3)" in outcome.history[1].error] == [
        True
    ] * 2


async def test_an_exception_without_a_text_is_a_failure_at_once(nats_url: str, namespace: str) -> None:
    """Bug: what `str(error)` raised left the delivery unanswered for the whole ack wait, and its error unknown."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    async def fail(value: Number) -> Number:
        raise Mute

    outcome = await outcome_of(nats_url, namespace, roost.Task("mute", Number, Number, retry=quick), fail)
    assert letter(outcome).error == "Mute: its text cannot be had (RuntimeError)"


async def test_a_result_too_large_for_the_server_is_a_dead_letter(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: the outcome was offered to the server for ever, and the task never ended."""

    async def large(value: Number) -> str:
        return "x" * 1_500_000

    task = roost.Task("large", Number, str, limits=Limits(max_bytes=4_000_000))
    monkeypatch.setattr(objects, "MOST_BYTES", 1_000_000)
    outcome = await outcome_of(nats_url, namespace, task, large)
    assert "its result cannot be stored: 15" in letter(outcome).reason
    assert letter(outcome).attempts == 1


async def test_a_result_too_large_for_the_stream_is_a_dead_letter(nats_url: str, namespace: str) -> None:
    """Bug: as above, with a limit that an administrator set after the worker had started."""

    async def large(value: Number) -> str:
        async with stranger(nats_url) as nc:
            config = (await api(nc, f"STREAM.INFO.ROOST_{namespace}"))["config"] | {"max_msg_size": 1000}
            await api(nc, f"STREAM.UPDATE.ROOST_{namespace}", config)
        return "x" * 2000

    outcome = await outcome_of(nats_url, namespace, roost.Task("wide", Number, str), large)
    assert "max_msg_size" in letter(outcome).reason


async def test_many_attempts_with_long_errors_leave_a_readable_outcome(nats_url: str, namespace: str) -> None:
    """Bug: the history outgrew what a reader takes, and `outcome` raised InvalidMessage for ever."""
    task = roost.Task("patient", Number, Number, retry=Retry(attempts=700, base_s=0.001, cap_s=0.001))

    async def fail(value: Number) -> Number:
        raise ValueError("€" * 1000)

    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as nc:
        handle = await bus.submit(task, Number(n=1), key="1")
        error = {"type": "ValueError", "message": "€" * 1000}
        for k in range(1, 700):
            note: Any = {"k": k, "event": "failed", "by": "other", "at": 1.0, "s": 1.0, "error": error}
            await nc.publish(f"{namespace}.run.{handle.id}.note.patient.{handle.id}.{k}", encode_note(note))
        await nc.flush()
        async with bus.serving(agent_of(task, fail)):
            outcome = await handle.outcome(timeout_s=SOON_S)
    assert letter(outcome).attempts == 700
    assert 20 <= len(letter(outcome).history) < 100
    assert letter(outcome).history[-1].number == 700


async def test_a_task_with_more_than_1000_notes_comes_to_its_end(nats_url: str, namespace: str) -> None:
    """Bug: a batched read of so many notes is refused (413), and the task was handed back for ever."""
    task = roost.Task("dogged", Number, Number, retry=Retry(attempts=1101, base_s=0.001, cap_s=0.001))
    attempts: list[int] = []

    async def fail(value: Number, ctx: roost.Context) -> Number:
        attempts.append(ctx.attempt)
        raise ValueError

    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as nc:
        handle = await bus.submit(task, Number(n=1), key="1")
        for k in range(1, 1101):
            note: Any = {"k": k, "event": "failed", "by": "other", "at": 1.0}
            await nc.publish(f"{namespace}.run.{handle.id}.note.dogged.{handle.id}.{k}", encode_note(note))
        await nc.flush()
        async with bus.serving(agent_of(task, fail)):
            outcome = await handle.outcome(timeout_s=SOON_S)
    assert attempts == [1101]
    assert letter(outcome).attempts == 1101


async def test_a_worker_told_to_stop_hands_back_and_burns_no_attempt(nats_url: str, namespace: str) -> None:
    """Bug: an attempt that was handed back counted as lost; two restarts made a dead letter of a healthy task."""
    task = roost.Task("long", Number, Number, retry=Retry(attempts=1), ack_wait_s=30)
    begun: list[int] = []
    again, release = asyncio.Event(), asyncio.Event()

    async def wait(value: Number, ctx: roost.Context) -> Number:
        begun.append(ctx.attempt)
        again.set()
        await release.wait()
        return value

    async with roost.connect(nats_url, namespace=namespace) as bus:
        handle = await bus.submit(task, Number(n=1))
        events = Events(bus)
        for restart in range(1, 4):
            async with bus.serving(agent_of(task, wait), grace_s=0):
                while len(begun) < restart:
                    await again.wait()
                    again.clear()
            await events.until("task_handed_back", restart)
        release.set()
        async with bus.serving(agent_of(task, wait)):
            outcome = await handle.outcome(timeout_s=SOON_S)
    assert isinstance(outcome, roost.Done), outcome
    assert begun == [1, 1, 1, 1]
    assert len(outcome.history) == 1


async def test_handlers_finish_within_the_grace(nats_url: str, namespace: str) -> None:
    task = roost.Task("short", Number, Number)
    begun, release = asyncio.Event(), asyncio.Event()

    async def wait(value: Number) -> Number:
        begun.set()
        await release.wait()
        return value

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with contextlib.AsyncExitStack() as stack:
            await stack.enter_async_context(bus.serving(agent_of(task, wait), grace_s=SOON_S))
            handle = await bus.submit(task, Number(n=1))
            await begun.wait()
            asyncio.get_running_loop().call_later(0.05, release.set)
        assert len(await records(bus, "end")) == 1
        assert await handle.result(timeout_s=SOON_S) == Number(n=1)


async def test_a_result_that_does_not_fit_says_whose_fault_it_is(nats_url: str, namespace: str) -> None:
    """Bug: the dead letter told the sender to correct a message that "reached no handler"."""

    async def forgets(value: Number) -> Any:
        return None

    task = roost.Task("forgets", Number, Number, retry=Retry(attempts=1))
    found = letter(await outcome_of(nats_url, namespace, task, forgets))
    assert "the handler of 'forgets' ran, but what it returned is no output of that contract" in found.reason
    assert "got NoneType" in found.reason
    assert "reached no handler" not in found.reason


async def test_a_long_first_attempt_is_noted_while_it_runs(nats_url: str, namespace: str) -> None:
    """Otherwise it is not to be seen for minutes, and its death would not count."""
    task = roost.Task("long", Number, Number, ack_wait_s=1)
    gate = asyncio.Event()

    async def long(value: Number) -> Number:
        await gate.wait()
        return value

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(task, long)):
        handle = await bus.submit(task, Number(n=1))
        note = f"{namespace}.live.run.{handle.id}.note.long.{handle.id}.1"
        noted = asyncio.Event()
        bus.link.client.listen(note, lambda _: noted.set())
        await asyncio.wait_for(noted.wait(), SOON_S)
        history = await read_history(bus.log, handle.ref)
        assert history is not None
        assert [(one.number, one.result) for one in history.attempts] == [(1, "running")]
        gate.set()
        outcome = await handle.outcome(timeout_s=SOON_S)
        assert [one.result for one in outcome.history] == ["done"]
