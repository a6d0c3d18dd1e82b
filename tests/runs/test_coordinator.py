"""How workflows are executed: slots, retries, deadlines, stopping, and what their code may do wrong."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

import pytest

import roost
from roost.runs import coordinator, epoch
from roost.runs import core as core_module
from roost.runs.coordinator import Coordinator
from roost.runs.feed import Feed
from roost.runs.records import RunSubjects
from roost.transport.jetstream import stored_sequence
from runs.support import (
    SOON_S,
    Calls,
    Events,
    Gate,
    Number,
    Report,
    agent_of,
    double,
    go,
    numbers,
    plan,
    put,
    records,
    stored,
    stranger,
)

once_only = roost.Workflow("once", Number, Report, retry=roost.Retry(attempts=1), ack_wait_s=0.5)
brief = roost.Workflow("brief", Number, Report, deadline_s=0.7, ack_wait_s=0.5)


async def test_starting_twice_attaches_and_another_value_is_a_conflict(nats_url: str, namespace: str) -> None:
    calls = Calls()

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        await run.step("once", calls.note, "ran")
        return Report(numbers=[(await run.wait_for(go)).n])

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of((plan, workflow))):
        first = await bus.start(plan, Number(n=1), key="k")
        again = await bus.start(plan, Number(n=1), key="k")
        assert (first.created, again.created) == (True, False)
        assert first.id == again.id
        with pytest.raises(roost.Conflict):
            await bus.start(plan, Number(n=2), key="k")
        await bus.signal(first.id, go, Number(n=4))
        assert await again.result(timeout_s=SOON_S) == await first.result(timeout_s=SOON_S)
        late = await bus.start(plan, Number(n=1), key="k")
        assert (await late.result(timeout_s=SOON_S)).numbers == [4]
    assert calls.made == ["ran"]


async def test_exceptions_follow_the_retry_and_reject_is_terminal(nats_url: str, namespace: str) -> None:
    calls = Calls()

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        await run.step("once", calls.note, f"step {value.n}")
        attempt = await calls.note(f"try {value.n}")
        if value.n == 1 and calls.made.count("try 1") < 3:
            raise ValueError(f"at {attempt}")
        if value.n == 2:
            raise ValueError("always")
        if value.n == 3:
            raise roost.Reject("never")
        return Report(numbers=[value.n])

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of((plan, workflow))):
        handles = [await bus.start(plan, Number(n=n)) for n in (1, 2, 3)]
        done, exhausted, rejected = [await handle.outcome(timeout_s=SOON_S) for handle in handles]
        letters = await bus.dead_letters()
    assert isinstance(done, roost.Done)
    assert [one.result for one in done.history] == ["failed", "failed", "done"]
    assert isinstance(exhausted, roost.Dead)
    assert exhausted.letter.reason.startswith("3 attempts failed, the last with ValueError: always")
    assert isinstance(rejected, roost.Dead)
    assert rejected.letter.reason == "never"
    assert {letter.id for letter in letters} == {handles[1].id, handles[2].id}
    assert calls.made.count("step 1") == 1, "another attempt reads what an earlier one has recorded"


async def test_a_result_of_the_wrong_type_is_a_failure(nats_url: str, namespace: str) -> None:
    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        return Number(n=1)  # type: ignore[return-value]

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((once_only, workflow))):
            outcome = await (await bus.start(once_only, Number(n=1))).outcome(timeout_s=SOON_S)
    assert isinstance(outcome, roost.Dead)
    assert "expected Report, got Number" in outcome.letter.reason


@pytest.mark.parametrize("how", ["exit", "cancel", "subtask"])
async def test_code_that_exits_or_cancels_itself_is_a_failure_of_its_run_only(
    nats_url: str, namespace: str, how: str
) -> None:
    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        if value.n == 2:
            return Report(numbers=[2])
        if how == "exit":
            sys.exit(3)
        if how == "cancel":
            raise asyncio.CancelledError
        forever = asyncio.ensure_future(asyncio.get_running_loop().create_future())
        asyncio.get_running_loop().call_soon(forever.cancel)
        await forever
        raise AssertionError

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((once_only, workflow))):
            outcome = await (await bus.start(once_only, Number(n=1))).outcome(timeout_s=SOON_S)
            fine = await (await bus.start(once_only, Number(n=2))).outcome(timeout_s=SOON_S)
    assert isinstance(outcome, roost.Dead)
    assert (
        "sys.exit(3)" if how == "exit" else "CancelledError although nobody cancelled it"
    ) in outcome.letter.reason
    assert isinstance(fine, roost.Done)


async def test_a_deadline_ends_a_run_that_is_at_work_and_one_that_waits(
    nats_url: str, namespace: str
) -> None:
    cleaned: list[int] = []

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        try:
            if value.n:
                await run.wait_for(go)
            else:
                await run.step("long", long)
        finally:
            cleaned.append(value.n)
        return Report(numbers=[])

    async def long() -> None:
        await asyncio.get_running_loop().create_future()

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of((brief, workflow))):
        handles = [await bus.start(brief, Number(n=n)) for n in (0, 1)]
        for handle in handles:
            outcome = await handle.outcome(timeout_s=SOON_S)
            assert isinstance(outcome, roost.Dead)
            assert "deadline" in outcome.letter.reason
    assert sorted(cleaned) == [0, 1]


async def test_a_run_that_ends_before_it_began_is_taken_over_first(nats_url: str, namespace: str) -> None:
    """Its deadline has passed, or its input cannot be read: a coordinator of it may be paused all the same."""

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        raise AssertionError("it must not begin")

    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as client:
        late = await bus.start(brief, Number(n=1), key="late")
        await put(client, f"{namespace}.run.brief:junk.task.brief.brief:junk", b"{")
        junk = bus.handle(brief, "brief:junk")
        paused = RunSubjects(namespace, late.id)
        await bus.link.jetstream.publish(paused.epoch, b'{"token":"paused"}')
        (task,) = await records(bus, late.id, "task")
        await asyncio.sleep(max(0.0, task.stored_s + 0.75 - bus.log.now_s()))  # until its deadline has passed
        async with bus.serving(agent_of((brief, workflow))):
            outcomes = [await one.outcome(timeout_s=SOON_S) for one in (late, junk)]
        for one, outcome in zip((late, junk), outcomes, strict=True):
            assert isinstance(outcome, roost.Dead)
            subjects = RunSubjects(namespace, one.id)
            state = await bus.log.last(subjects.state)
            assert state is not None
            assert b'"dead"' in state.data
        assert len(await bus.log.read_all(paused.epoch)) == 2


async def test_runs_that_wait_hold_no_slot_and_steps_need_one(nats_url: str, namespace: str) -> None:
    """At concurrency 1 fifty runs wait side by side, and never do two steps run at once."""
    at_work, most, begun = 0, 0, 0

    async def busy() -> None:
        nonlocal at_work, most
        at_work += 1
        most = max(most, at_work)
        for _ in range(3):
            await asyncio.sleep(0)
        at_work -= 1

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        nonlocal begun
        begun += 1
        await run.step("first", busy)
        found = await run.wait_for(go)
        await run.call(double, value)
        await run.step("second", busy)
        await run.step("third", busy)
        return Report(numbers=[found.n])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow), concurrency=1)):
            handles = [await bus.start(plan, Number(n=n)) for n in range(50)]
            await stored(bus, f"{namespace}.run.*.step.first", 50)
            await asyncio.gather(
                *(bus.signal(handle.id, go, Number(n=n)) for n, handle in enumerate(handles))
            )
            for n, handle in enumerate(handles):
                assert (await handle.result(timeout_s=SOON_S)).numbers == [n]
    assert begun == 50
    assert most == 1


async def test_runs_beyond_those_that_fit_into_memory_go_back_and_come_again(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "MOST_WAITING", 5)
    monkeypatch.setattr(coordinator, "AWAY_S", 0.1)

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        return Report(numbers=[(await run.wait_for(go)).n])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow))) as (one,):
            (found,) = [w for w in one._workers if isinstance(w, Coordinator)]
            handles = [await bus.start(plan, Number(n=n)) for n in range(20)]
            await stored(bus, f"{namespace}.run.*.epoch", 25)
            assert found.running <= 6
            await asyncio.gather(
                *(bus.signal(handle.id, go, Number(n=n)) for n, handle in enumerate(handles))
            )
            for n, handle in enumerate(handles):
                assert (await handle.result(timeout_s=SOON_S)).numbers == [n]


async def test_stopping_hands_runs_that_wait_back_at_once(nats_url: str, namespace: str) -> None:
    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        return Report(numbers=[(await run.wait_for(go)).n])

    loop = asyncio.get_running_loop()
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow)), grace_s=30):
            handle = await bus.start(plan, Number(n=1))
            await stored(bus, f"{namespace}.run.{handle.id}.epoch", 1)
            began = loop.time()
        assert loop.time() - began < 5
        async with bus.serving(agent_of((plan, workflow))):
            await stored(bus, f"{namespace}.run.{handle.id}.epoch", 2, within_s=3)
            await bus.signal(handle.id, go, Number(n=2))
            assert (await handle.result(timeout_s=SOON_S)).numbers == [2]


async def test_stopping_lets_a_step_finish_and_records_it(nats_url: str, namespace: str) -> None:
    calls = Calls()
    started, let = asyncio.Event(), asyncio.Event()

    async def slow() -> int:
        calls.made.append("slow")
        started.set()
        await let.wait()
        return 5

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        found = await run.step("slow", slow)
        await run.wait_for(go)
        return Report(numbers=[found])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow))):
            handle = await bus.start(plan, Number(n=1))
            await started.wait()
            asyncio.get_running_loop().call_later(0.1, let.set)
        async with bus.serving(agent_of((plan, workflow))):
            await bus.signal(handle.id, go, Number(n=2))
            assert (await handle.result(timeout_s=SOON_S)).numbers == [5]
    assert calls.made == ["slow"]


async def test_a_full_store_sends_a_run_back_instead_of_failing_it(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """New work stops at the reserve; the run is no worse for it, and goes on when there is room."""
    monkeypatch.setattr(core_module, "FULL_DELAY_S", 0.1)

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        await run.wait_for(go)
        try:
            await run.call(double, value)
        except Exception as error:
            raise AssertionError("the workflow must not see it") from error
        return Report(numbers=[1])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        events = Events(bus)
        async with bus.serving(agent_of((once_only, workflow))):
            handle = await bus.start(once_only, Number(n=1))
            await stored(bus, f"{namespace}.run.{handle.id}.epoch", 1)
            room = bus.log.room
            room.limit, room.used = 1000, 900
            room._looked_at = asyncio.get_running_loop().time() + 3600  # as the server said just now
            await bus.signal(handle.id, go, Number(n=1))
            (event,) = await events.until("task_handed_back")
            assert "80 %" in event.reason or "full" in event.reason or "room" in event.reason
            assert await bus.log.last(bus.log.subjects.end(handle.ref)) is None
            assert await records(bus, handle.id, "note") == []
            room.limit = -1
        async with bus.serving(agent_of((once_only, workflow))):
            assert (await handle.result(timeout_s=SOON_S)).numbers == [1]


async def test_a_workflow_that_kills_its_process_each_time_is_given_up(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "MOST_CRASHES", 4)

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        raise AssertionError("it must not run again")

    async with roost.connect(nats_url, namespace=namespace) as bus:
        handle = await bus.start(plan, Number(n=1))
        subjects = RunSubjects(namespace, handle.id)
        for deaths in range(5):
            await bus.link.jetstream.publish(subjects.epoch, b'{"token":"t","deaths":%d}' % deaths)
        async with bus.serving(agent_of((plan, workflow))):
            outcome = await handle.outcome(timeout_s=SOON_S)
    assert isinstance(outcome, roost.Dead)
    assert "died 5 times in a row" in outcome.letter.reason


async def test_a_run_that_waits_in_a_process_that_others_kill_is_not_given_up(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It leaves a trace once it has come through to a wait, if several before it have died."""
    monkeypatch.setattr(core_module, "SUSPICIOUS", 2)

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        return Report(numbers=[(await run.wait_for(go)).n])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        handle = await bus.start(plan, Number(n=1))
        subjects = RunSubjects(namespace, handle.id)
        await bus.link.jetstream.publish(subjects.epoch, b'{"token":"t","deaths":1}')
        async with bus.serving(agent_of((plan, workflow))):
            (state,) = await stored(bus, subjects.state, 1)
            assert b'"waiting"' in state.data
        async with bus.serving(agent_of((plan, workflow))):
            await bus.signal(handle.id, go, Number(n=1))
            await handle.result(timeout_s=SOON_S)


async def test_a_run_goes_on_although_no_hint_arrives(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change of the stream's leader loses what the live feed would have told."""
    monkeypatch.setattr(Feed, "_heard", lambda self, message: None)

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        found = [(await run.call(double, value)).n]
        async with run.map(double, numbers(3), name="several") as outcomes:
            found += sorted([o.value.n async for o in outcomes if isinstance(o, roost.Done)])
        found.append((await run.wait_for(go)).n)
        return Report(numbers=found)

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of((plan, workflow))):
        handle = await bus.start(plan, Number(n=4))
        await bus.signal(handle.id, go, Number(n=6))
        assert (await handle.result(timeout_s=SOON_S)).numbers == [8, 0, 2, 4, 6]


async def test_a_replica_that_lags_behind_hides_no_step(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On three servers a read may miss the newest records: the step would have been done and recorded twice."""
    calls = Calls()

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        found = [await run.step(f"step {n}", calls.note, str(n)) for n in range(4)]
        return Report(numbers=[*found, (await run.wait_for(go)).n])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow))):
            handle = await bus.start(plan, Number(n=4))
            known = (await stored(bus, f"{namespace}.run.{handle.id}.step.*", 4))[:2]
        original = bus.link.jetstream.read

        async def behind(stream: str, query: dict[str, Any], **options: Any) -> Any:
            """As a replica answers that has no step after the second."""
            found = await original(stream, query, **options)
            late = ".step." in query.get("next_by_subj", "")
            return [one for one in found if not late or stored_sequence(one) <= known[-1].seq]

        monkeypatch.setattr(bus.link.jetstream, "read", behind)
        async with bus.serving(agent_of((plan, workflow))):
            await bus.signal(handle.id, go, Number(n=6))
            assert (await handle.result(timeout_s=SOON_S)).numbers == [1, 2, 3, 4, 6]
    assert calls.made == ["0", "1", "2", "3"]


async def test_a_process_that_stood_still_looks_before_it_runs_a_step(nats_url: str, namespace: str) -> None:
    """An effect is worse than a look: its record would be refused, but it would have happened."""
    gate = Gate()
    calls = Calls()

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        await run.call(double, value)
        run._core.fence.confirmed -= plan.ack_wait_s  # so long ago
        return Report(numbers=[await run.step("effect", calls.note, "effect")])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        events = Events(bus)
        async with bus.serving(agent_of((plan, workflow), (double, gate)), grace_s=0):
            handle = await bus.start(plan, Number(n=4))
            await gate.until()
            taken = RunSubjects(namespace, handle.id).epoch
            await bus.link.jetstream.publish(taken, b'{"token":"somebody else"}')
            gate.open()
            await events.until("task_handed_back")
    assert calls.made == []


async def test_a_run_that_cannot_begin_just_now_has_not_failed(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server did not answer in time as the run was taken over: that was counted as an attempt of its code."""
    monkeypatch.setattr(coordinator, "HAND_BACK_S", 0.05)
    original = epoch.take_over
    tries = 0

    async def fragile(*given: Any, **options: Any) -> Any:
        nonlocal tries
        tries += 1
        if tries < 4:
            raise roost.RequestTimeout("the epoch", 5)
        return await original(*given, **options)

    monkeypatch.setattr(core_module, "take_over", fragile)

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        return Report(numbers=[value.n])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((once_only, workflow))):
            handle = await bus.start(once_only, Number(n=4))
            assert (await handle.result(timeout_s=SOON_S)).numbers == [4]
    assert tries == 4
