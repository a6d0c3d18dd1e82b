"""Workers that die, or stand still: real processes, real signals."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter

import roost
from roost.server import LocalServer
from tasks.support import (
    SOON_S,
    Events,
    Number,
    agent_of,
    api,
    children,
    plus_one,
    records,
    stranger,
)
from tasks.worker_process import fatal, patient, paused, single


async def test_a_worker_killed_before_any_handler_ran_burns_no_attempt(nats_url: str, namespace: str) -> None:
    """Three deliveries come to nothing; the contract allows a single attempt."""
    async with roost.connect(nats_url, namespace=namespace) as bus, children() as start:
        handle = await bus.submit(patient, Number(n=1))
        for _ in range(3):
            worker = await start("dies-at-delivery", nats_url, namespace)
            await worker.says("delivered")
            assert await worker.ended() == -signal.SIGKILL
        worker = await start("plain", nats_url, namespace)
        assert await worker.says("started") == "started 1 1"
        outcome = await handle.outcome(timeout_s=SOON_S)
    assert isinstance(outcome, roost.Done), outcome
    assert outcome.value == Number(n=2)
    assert [(one.number, one.result) for one in outcome.history] == [(1, "done")]


async def test_a_handler_that_kills_its_process_runs_at_most_one_time_more_than_it_may(
    nats_url: str, namespace: str
) -> None:
    runs = 0
    async with roost.connect(nats_url, namespace=namespace) as bus, children() as start:
        handle = await bus.submit(fatal, Number(n=1))
        outcome = asyncio.ensure_future(handle.outcome(timeout_s=SOON_S))
        while not outcome.done():
            worker = await start("fatal", nats_url, namespace)
            await worker.says("ready")
            ended = asyncio.ensure_future(worker.ended())
            await asyncio.wait([outcome, ended], return_when=asyncio.FIRST_COMPLETED)
            ended.cancel()
            runs += any(line.startswith("started") for line in worker.said) or worker.process.returncode == 7
        assert runs == fatal.retry.attempts + 1
        dead = await outcome
    assert isinstance(dead, roost.Dead)
    assert dead.letter.reason.startswith("attempts exhausted (2); the last one: its process died")
    assert [one.result for one in dead.history] == ["lost", "lost"]


async def test_one_attempt_is_one_although_its_process_dies(nats_url: str, namespace: str) -> None:
    """With ``attempts=1`` a note comes before even the very first run."""
    async with roost.connect(nats_url, namespace=namespace) as bus, children() as start:
        handle = await bus.submit(single, Number(n=1))
        worker = await start("single", nats_url, namespace)
        assert await worker.ended() == 7
        second = await start("single", nats_url, namespace)
        outcome = await handle.outcome(timeout_s=SOON_S)
        second.signal(signal.SIGKILL)
        await second.ended()
    assert isinstance(outcome, roost.Dead)
    assert [one.result for one in outcome.history] == ["lost"]
    assert second.process.returncode == -signal.SIGKILL, "it did not run there again"


async def test_a_fatal_task_does_not_take_others_with_it(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, children() as start:
        await bus.submit(fatal, Number(n=1))
        doomed = await start("fatal", nats_url, namespace)
        assert await doomed.ended() == 7
        async with bus.serving(agent_of(fatal, plus_one)):
            healthy = await bus.submit(fatal, Number(n=5))
            assert await healthy.result(timeout_s=2) == Number(n=6)


async def test_the_late_result_of_a_paused_worker_loses(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, children() as start:
        handle = await bus.submit(paused, Number(n=3))
        first = await start("slow", nats_url, namespace)
        await first.says("started 3 1")
        first.signal(signal.SIGSTOP)
        second = await start("slow", nats_url, namespace)
        await second.says("started 3 1")
        outcome = await handle.outcome(timeout_s=SOON_S)
        first.signal(signal.SIGCONT)
        await first.says("event outcome_lost_race")
        assert isinstance(outcome, roost.Done)
        assert outcome.value == f"by {second.process.pid}"
        assert len(await records(bus, "end")) == 1
        again = await bus.handle(paused, handle.id).outcome(timeout_s=SOON_S)
        assert isinstance(again, roost.Done)
        assert again.value == outcome.value


async def test_work_of_a_killed_worker_is_done_by_another_within_the_ack_wait(
    nats_url: str, namespace: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, children() as start:
        handle = await bus.submit(paused, Number(n=5))
        first = await start("slow", nats_url, namespace)
        second = await start("slow", nats_url, namespace)
        begun = [asyncio.ensure_future(worker.says("started")) for worker in (first, second)]
        await asyncio.wait(begun, return_when=asyncio.FIRST_COMPLETED)
        killed, other = (first, second) if begun[0].done() else (second, first)
        killed.signal(signal.SIGKILL)
        loop = asyncio.get_running_loop()
        dead_at = loop.time()
        await asyncio.wait(begun)
        assert loop.time() - dead_at < paused.ack_wait_s + 3
        outcome = await handle.outcome(timeout_s=SOON_S)
    assert isinstance(outcome, roost.Done)
    assert outcome.value == f"by {other.process.pid}"


async def test_what_was_done_just_before_the_server_crashed_is_not_done_again(
    own_server: LocalServer,
) -> None:
    """Bug: a crash forgets the acks of the last moments, and what is delivered again looks like a first delivery."""
    task = roost.Task("brief", Number, Number, ack_wait_s=0.5)
    ran: list[int] = []

    async def count(value: Number) -> Number:
        ran.append(value.n)
        return value

    async with roost.connect(own_server.url) as bus, bus.serving(agent_of(task, count)):
        events = Events(bus)
        for crash in range(1, 4):
            handles = await bus.submit_many(task, [Number(n=crash)] * 200)
            await asyncio.gather(*(handle.outcome(timeout_s=SOON_S) for handle in handles))
            await asyncio.to_thread(own_server.kill)
            await asyncio.to_thread(own_server.restart)
            await events.until("reconnected", crash)
        async with stranger(own_server.url) as nc, asyncio.timeout(SOON_S):
            info = await api(nc, "CONSUMER.INFO.ROOST_roost.task_brief")
            while info["num_pending"] or info["num_ack_pending"]:
                info = await api(nc, "CONSUMER.INFO.ROOST_roost.task_brief")
        assert Counter(ran) == {1: 200, 2: 200, 3: 200}
        print(f"looked up and not done again: {bus.counters['redelivered_after_end']}")
