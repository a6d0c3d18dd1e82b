"""Deadlines hold without workers and coordinators, as long as any process does the upkeep."""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

import pytest

import roost
from roost.server import LocalServer
from roost.tasks.deadlines import SWEEPER
from roost.tasks.marks import DEADLINE
from roost.tasks.records import Ref
from roost.upkeep import overdue
from roost.upkeep.overdue import SLACK_S, Overdue
from tasks.support import SOON_S, Events, Number, agent_of, api, children, plus_one, put, records, stranger

SHORT_S = 0.4
"""A deadline that a test waits for."""
LATE_S = 2.0
"""How long behind a deadline there is an outcome at the latest; on a busy machine a little more."""

lonely = roost.Task("lonely", Number, Number, deadline_s=SHORT_S)
child = roost.Task("child", Number, Number)
later = roost.Signal("later", Number)


@asynccontextmanager
async def sweeping(bus: roost.Bus) -> AsyncIterator[None]:
    """End what is overdue, as whoever has the lease of the upkeep does."""
    await bus.log.ensure()
    work = asyncio.get_running_loop().create_task(Overdue(bus.log).run_once())
    try:
        yield
        assert not work.done(), work
    finally:
        work.cancel()
        await asyncio.gather(work, return_exceptions=True)


def is_overdue(outcome: roost.Outcome[Number]) -> bool:
    return isinstance(outcome, roost.Dead) and outcome.letter.reason.startswith("deadline: it passed before")


async def index(bus: roost.Bus) -> list[str]:
    """The subjects of the index of deadlines."""
    return [record.subject for record in await bus.log.read_all(bus.log.subjects.all_deadlines)]


async def test_a_runtime_that_serves_another_agent_ends_a_task_without_any_worker(
    nats_url: str, namespace: str
) -> None:
    other = roost.Task("other", Number, Number)
    async with roost.connect(nats_url, namespace=namespace) as bus:
        events = Events(bus)
        await bus.log.ensure()
        async with bus.upkeep.running(start_s=0), bus.serving(agent_of(other, plus_one)):
            await events.until("upkeep_begun")
            begun = time.monotonic()
            handle = await bus.submit(lonely, Number(n=1), key="one")
            outcome = await handle.outcome(timeout_s=SOON_S)
            took_s = time.monotonic() - begun
            assert is_overdue(outcome), outcome
            assert SHORT_S <= took_s < SHORT_S + LATE_S
            assert [letter.id for letter in await bus.dead_letters(lonely)] == [handle.id]
            assert isinstance(await (await bus.submit(other, Number(n=1))).outcome(), roost.Done)


async def test_when_the_one_that_sweeps_is_killed_another_goes_on(nats_url: str, namespace: str) -> None:
    task = roost.Task("orphan", Number, Number, deadline_s=1.0)
    async with roost.connect(nats_url, namespace=namespace) as bus, children() as start:
        first = await start("any", nats_url, namespace, module="overdue_process")
        await first.says("event upkeep_begun")
        handles = await bus.submit_many(task, [Number(n=n) for n in range(20)])
        second = await start("any", nats_url, namespace, module="overdue_process")
        await second.says("ready")
        first.signal(signal.SIGSTOP)  # what is delivered to it now stays in its hands
        handles += await bus.submit_many(task, [Number(n=n) for n in range(20)])
        first.signal(signal.SIGKILL)
        outcomes = await asyncio.gather(*(handle.outcome(timeout_s=SOON_S) for handle in handles))
        await second.says("event upkeep_begun")
        assert all(map(is_overdue, outcomes)), outcomes
        assert len(await records(bus, "end")) == len(await records(bus, "dead")) == len(handles)


async def test_a_waiting_run_ends_without_its_coordinator_and_one_that_never_had_one_too(
    nats_url: str, namespace: str
) -> None:
    patient = roost.Workflow("patient", Number, Number, deadline_s=1.0)
    agent = roost.Agent("tester")
    waits = asyncio.Event()

    @agent.handles(patient)
    async def wait(value: Number, run: roost.Run) -> Number:
        await run.step("first", plus_one, value)
        waits.set()
        return await run.wait_for(later)

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent):
            begun = await bus.start(patient, Number(n=1), key="begun")
            await waits.wait()
        never = await bus.start(patient, Number(n=1), key="never")
        async with sweeping(bus):
            for handle in (begun, never):
                assert is_overdue(await handle.outcome(timeout_s=SOON_S))
        async with bus.serving(agent):  # a coordinator that comes back finds it over
            marker = roost.Task("marker", Number, Number)
            async with bus.serving(agent_of(marker, plus_one)):
                await (await bus.submit(marker, Number(n=1))).result(timeout_s=SOON_S)
        assert len(await records(bus, "end")) == 3
        state = await bus.log.last(f"{namespace}.run.patient:begun.state")
        assert state is not None
        assert b'"dead"' in state.data


async def test_a_waiting_run_is_ended_by_its_coordinator_when_it_is_due(
    nats_url: str, namespace: str
) -> None:
    patient = roost.Workflow("patient", Number, Number, deadline_s=SHORT_S)
    agent = roost.Agent("tester")

    @agent.handles(patient)
    async def wait(value: Number, run: roost.Run) -> Number:
        return await run.wait_for(later)

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        outcome = await (await bus.start(patient, Number(n=1))).outcome(timeout_s=SOON_S)
    assert isinstance(outcome, roost.Dead)
    assert outcome.letter.reason == "deadline: it passed while the handler ran"


async def test_what_a_run_calls_ends_with_it_at_any_depth(nats_url: str, namespace: str) -> None:
    """Nobody works on the children; the run below has left its task behind and is done."""
    parent = roost.Workflow("parent", Number, Number, deadline_s=1.2)
    middle = roost.Workflow("middle", Number, Number)
    agent = roost.Agent("tester")
    planned = asyncio.Event()

    @agent.handles(parent)
    async def plan(value: Number, run: roost.Run) -> Number:
        await run.call(middle, value)
        async with run.map(child, [Number(n=n) for n in range(100)]) as outcomes:
            planned.set()
            async for _ in outcomes:
                pass
        return value

    @agent.handles(middle)
    async def leave(value: Number, run: roost.Run) -> Number:
        async with run.map(child, [Number(n=n) for n in range(3)]):
            while not await bus.log.last(f"{namespace}.run.*.task.child.child:0"):  # noqa: ASYNC110
                await asyncio.sleep(0)
        return value

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent):
            handle = await bus.start(parent, Number(n=1), key="p")
            await planned.wait()
            while len(await records(bus, "task")) < 105:  # noqa: ASYNC110
                await asyncio.sleep(0)
        async with sweeping(bus):
            assert is_overdue(await handle.outcome(timeout_s=SOON_S))
            async with asyncio.timeout(SOON_S):
                while len(await records(bus, "dead")) < 104:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        tasks, ends = await records(bus, "task"), await records(bus, "end")
        assert len(tasks) == 105, "the run, the one below, its three children, a hundred children"
        assert Counter(b'"dead"' in record.data[:20] for record in ends) == {True: 104, False: 1}
        marks = {int(value) for record in tasks for name, value in record.marks if name == DEADLINE}
        # The run's own is by the submitter's idea of the server's clock, where that is the earlier one.
        assert max(marks) - min(marks) < 50, "all have the deadline of the run, in milliseconds"
        assert await index(bus) == [f"{namespace}.run.parent:p.deadline.parent.parent:p.{max(marks)}"]


async def test_what_a_run_has_left_behind_ends_although_the_run_is_done(
    nats_url: str, namespace: str
) -> None:
    hasty = roost.Workflow("hasty", Number, Number, deadline_s=1.0)
    agent = roost.Agent("tester")

    @agent.handles(hasty)
    async def leave(value: Number, run: roost.Run) -> Number:
        async with run.map(child, [Number(n=n) for n in range(3)]):
            while len(await records(bus, "task")) < 4:  # noqa: ASYNC110
                await asyncio.sleep(0)
        return value

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent), sweeping(bus):
            handle = await bus.start(hasty, Number(n=1), key="h")
            assert isinstance(await handle.outcome(timeout_s=SOON_S), roost.Done)
            async with asyncio.timeout(SOON_S):
                while len(await records(bus, "dead")) < 3:  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        assert len(await records(bus, "end")) == 4


async def test_a_worker_that_finishes_as_it_is_due_wins_or_loses(nats_url: str, namespace: str) -> None:
    """The worker's clock is slow, so it does not stop by itself; both write within the same half of a second."""
    count, deadline_s = 200, 0.8
    seed = random.randrange(10**6)
    print("seed", seed)
    dice = random.Random(seed)
    task = roost.Task("close", Number, Number, deadline_s=deadline_s)

    async def close(value: Number, ctx: roost.Context) -> Number:
        sure = {0: -0.3, count - 1: 60.0}.get(value.n)
        behind_s = sure if sure is not None else dice.uniform(-0.1, 0.5)
        await asyncio.sleep(max(0.0, due - bus.log.now_s() + behind_s))  # the work
        return value

    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        roost.connect(nats_url, namespace=namespace) as slow,
    ):
        await slow.log.ensure()
        slow.log._offset_s -= 60.0
        async with slow.serving(agent_of(task, close, concurrency=count), grace_s=0), sweeping(bus):
            await bus.log.ensure()
            due = bus.log.now_s() + deadline_s + SLACK_S
            handles = await bus.submit_many(task, [Number(n=n) for n in range(count)])
            outcomes = await asyncio.gather(*(handle.outcome(timeout_s=SOON_S) for handle in handles))
        kinds = Counter(type(one).__name__ for one in outcomes)
        print(kinds)
        assert kinds["Done"] > 0
        assert kinds["Dead"] > 0
        assert kinds.total() == count
        ends = await records(bus, "end")
        assert len(ends) == len({record.subject for record in ends}) == count
        assert len(await records(bus, "dead")) == kinds["Dead"]


async def test_all_items_of_a_fan_out_and_of_a_large_submission_have_their_deadlines(
    nats_url: str, namespace: str
) -> None:
    mapping = roost.Workflow("mapping", Number, int)
    short = roost.Task("short", Number, Number, deadline_s=1.0)
    agent = roost.Agent("tester")

    @agent.handles(mapping)
    async def fan_out(value: Number, run: roost.Run) -> int:
        found = 0
        async with run.map(short, [Number(n=n) for n in range(100)]) as outcomes:
            async for outcome in outcomes:
                found += is_overdue(outcome)
        try:
            await run.call(short, value, name="call")
        except roost.TaskDead:
            found += 1
        return found

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent), sweeping(bus):
        handles = await bus.submit_many(lonely, [Number(n=n) for n in range(300)])
        run = await bus.start(mapping, Number(n=1))
        outcomes = await asyncio.gather(*(handle.outcome(timeout_s=SOON_S) for handle in handles))
        assert all(map(is_overdue, outcomes))
        assert await run.result(timeout_s=SOON_S) == 101
        assert len(await index(bus)) == 401
        info = await bus.log.link.jetstream.call(f"CONSUMER.INFO.{bus.log.stream}.{SWEEPER}")
        assert info["num_pending"] == 0
        assert info["num_ack_pending"] <= 1, "that of the last one may be on its way"


async def test_a_repeated_submission_keeps_the_deadline_and_completes_the_index(
    nats_url: str, namespace: str
) -> None:
    long = roost.Task("long", Number, Number, deadline_s=600)
    shorter = roost.Task("long", Number, Number, deadline_s=SHORT_S)
    without = roost.Task("long", Number, Number)
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as client:
        await bus.submit(long, Number(n=1), key="one")
        before = await index(bus)
        await bus.submit(shorter, Number(n=1), key="one")
        assert await index(bus) == before
        # Its first submitter died before the record of the index was stored.
        handle = await bus.submit(shorter, Number(n=2), key="two")
        [_, second] = await index(bus)
        for repeat in (
            bus.submit(without, Number(n=2), key="two"),
            bus.submit_many(shorter, [Number(n=2)], keys=["two"]),
        ):
            await api(client, f"STREAM.PURGE.{bus.log.stream}", {"filter": second})
            assert await index(bus) == before
            await repeat
            assert await index(bus) == [*before, second]
        async with sweeping(bus):
            assert is_overdue(await handle.outcome(timeout_s=SOON_S))
        assert len(await records(bus, "end")) == 1


@pytest.mark.parametrize("wrong_by_s", [3600.0, -3600.0])
async def test_it_is_the_servers_clock_that_counts(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, wrong_by_s: float
) -> None:
    true_time = time.time
    long = roost.Task("long", Number, Number, deadline_s=600)
    monkeypatch.setattr(time, "time", lambda: true_time() + wrong_by_s)
    async with roost.connect(nats_url, namespace=namespace) as bus:
        handle = await bus.submit(long, Number(n=1))
        begun = time.monotonic()
        due = await bus.submit(lonely, Number(n=1))
        async with sweeping(bus):
            assert is_overdue(await due.outcome(timeout_s=SOON_S))
            assert SHORT_S <= time.monotonic() - begun < SHORT_S + LATE_S
        assert [record.subject for record in await records(bus, "end")] == [
            bus.log.subjects.end(Ref(due.id, "lonely", due.id))
        ]
        async with bus.serving(agent_of(long, plus_one)):
            assert isinstance(await handle.outcome(timeout_s=SOON_S), roost.Done)


async def test_a_request_in_a_task_of_a_run_has_what_is_left_of_the_run(
    nats_url: str, namespace: str
) -> None:
    parent = roost.Workflow("parent", Number, float, deadline_s=30)
    middle = roost.Task("middle", Number, float)
    left = roost.Endpoint("left", Number, float)
    agent = roost.Agent("tester")

    @agent.handles(parent)
    async def plan(value: Number, run: roost.Run) -> float:
        return await run.call(middle, value)

    @agent.handles(middle)
    async def ask(value: Number, ctx: roost.Context) -> float:
        assert ctx.remaining_s is not None
        assert ctx.remaining_s <= 30
        return await ctx.request(left, value, timeout_s=600)

    @agent.handles(left)
    async def answer(value: Number, ctx: roost.Context) -> float:
        return ctx.remaining_s or 0.0

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        assert 20 < await (await bus.start(parent, Number(n=1))).result(timeout_s=SOON_S) <= 30


async def test_a_strangers_deadline_ends_nothing(nats_url: str, namespace: str) -> None:
    long = roost.Task("long", Number, Number, deadline_s=600)
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as client:
        events = Events(bus)
        for task in (child, long):
            handle = await bus.submit(task, Number(n=1), key="k")
            await put(client, bus.log.subjects.deadline(Ref(handle.id, task.name, handle.id), 1000), b"")
        await put(client, f"{namespace}.run.a.deadline.b.c.soon", b"")
        async with sweeping(bus):
            await events.until("foreign_record", 3)
        assert await records(bus, "end") == []


async def test_a_replayed_dead_letter_has_its_time_again(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, sweeping(bus):
        handle = await bus.submit(lonely, Number(n=1), key="one")
        assert is_overdue(await handle.outcome(timeout_s=SOON_S))
        begun = time.monotonic()
        again = await bus.replay(lonely, handle.id)
        assert is_overdue(await again.outcome(timeout_s=SOON_S))
        assert time.monotonic() - begun >= SHORT_S


async def test_the_next_in_the_queue_of_a_key_has_its_turn_when_one_is_overdue(
    nats_url: str, namespace: str
) -> None:
    fast = roost.Task("queued", Number, Number, order_key=lambda v: "k", deadline_s=SHORT_S)
    slow = roost.Task("queued", Number, Number, order_key=lambda v: "k")
    async with roost.connect(nats_url, namespace=namespace) as bus:
        late = [await bus.submit(fast, Number(n=n)) for n in range(3)]
        last = await bus.submit(slow, Number(n=9))
        async with sweeping(bus):
            for handle in late:
                assert is_overdue(await handle.outcome(timeout_s=SOON_S))
        async with bus.serving(agent_of(slow, plus_one)):
            assert await last.result(timeout_s=SOON_S) == Number(n=10)


async def test_deadlines_outlast_a_crash_of_the_server(own_server: LocalServer) -> None:
    task = roost.Task("stormy", Number, Number, deadline_s=2.0)
    async with roost.connect(own_server.url) as bus, sweeping(bus):
        before = await bus.submit_many(task, [Number(n=n) for n in range(50)])
        await asyncio.to_thread(own_server.kill)
        await asyncio.to_thread(own_server.restart)
        after = [await bus.submit(task, Number(n=n)) for n in range(5)]
        outcomes = await asyncio.gather(*(one.outcome(timeout_s=SOON_S) for one in (*before, *after)))
        assert all(map(is_overdue, outcomes)), outcomes
        assert len(await records(bus, "end")) == len(await records(bus, "dead")) == 55


async def test_what_is_done_takes_no_place_among_the_deadlines_that_are_waited_for(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(overdue, "LOOK_S", 0.3)
    long = roost.Task("long", Number, Number, deadline_s=600)
    slow = roost.Task("slow", Number, Number, deadline_s=600)
    async with roost.connect(nats_url, namespace=namespace) as bus, sweeping(bus):
        await bus.submit(slow, Number(n=1))
        handles = await bus.submit_many(long, [Number(n=n) for n in range(20)])
        look = f"CONSUMER.INFO.{bus.log.stream}.{SWEEPER}"
        waiting = 0
        async with asyncio.timeout(SOON_S):
            while waiting < 21:
                with suppress(
                    roost.JetStreamError
                ):  # in a cluster the one who is asked may not have heard of it yet
                    waiting = (await bus.log.link.jetstream.call(look))["num_ack_pending"]
                await asyncio.sleep(0.02)
        async with bus.serving(agent_of(long, plus_one)):
            await asyncio.gather(*(handle.outcome(timeout_s=SOON_S) for handle in handles))
        async with asyncio.timeout(SOON_S):
            while (info := await bus.log.link.jetstream.call(look))["num_ack_pending"] > 1:  # noqa: ASYNC110
                await asyncio.sleep(0.02)
        assert info["num_pending"] == 0
        assert len(await records(bus, "end")) == 20
