"""What a run did is told by the log alone: who, what, which attempt, how long it waited, how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
from typing import Any

import pytest

import roost
from roost.errors import ConfigError, StreamMissing
from roost.runs import reading
from roost.runs.fork import fork_run
from roost.runs.reading import find_run, list_runs, read_run, run_histories
from roost.runs.records import RunSubjects, inner_run
from roost.tasks import Ref, TaskHistory
from runs.support import (
    SOON_S,
    Calls,
    Gate,
    Number,
    Report,
    agent_of,
    below,
    double,
    doubled,
    go,
    numbers,
    plan,
    stored,
)


async def step(name: str) -> str:
    return name


def of(histories: list[TaskHistory], id: str) -> TaskHistory:
    (found,) = [one for one in histories if one.id == id]
    return found


def told(one: TaskHistory) -> list[tuple[int, str, str]]:
    """The attempts: number, result, error."""
    return [(attempt.number, attempt.result, attempt.error) for attempt in one.attempts]


class Flaky:
    """Fails once for 1, always for 2; rejects 3."""

    def __init__(self) -> None:
        self.failed: set[int] = set()

    async def __call__(self, value: Number) -> Number:
        if value.n == 3:
            raise roost.Reject("three is not wanted")
        if value.n == 2 or (value.n == 1 and value.n not in self.failed):
            self.failed.add(value.n)
            raise OSError(f"no {value.n}")
        return await doubled(value)


async def nested(value: Number, run: roost.Run[Any]) -> Number:
    await run.step("deep", step, "x")
    return await run.call(double, value, name="inner")


async def workflow(value: Number, run: roost.Run[Any]) -> Report:
    await run.step("look around", step, "x")
    async with run.map(double, numbers(5)) as outcomes:
        found = [o.index async for o in outcomes]
    await run.call(below, Number(n=10), name="lower")
    with contextlib.suppress(roost.RequestTimeout):
        await run.wait_for(go, timeout_s=0.01)
    return Report(numbers=sorted(found))


async def test_a_run_that_is_done_tells_of_its_tasks_operations_and_levels(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOST_INSTANCE", "tester-7")
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow), (below, nested), (double, Flaky()))):
            handle = await bus.start(plan, Number(n=0), key="all")
            await handle.result(timeout_s=SOON_S)
        histories = await run_histories(bus.log, handle.id)
        assert [one.kind for one in histories].count("run") == 2
        assert {(one.name, one.id, one.status) for one in histories if one.kind == "task"} == {
            *(("double", f"double:{n}", "done") for n in (0, 1, 4)),
            ("double", "double:2", "dead"),
            ("double", "double:3", "dead"),
            ("double", "inner", "done"),
        }
        assert told(of(histories, "double:1")) == [(1, "failed", "OSError: no 1"), (2, "done", "")]
        assert told(of(histories, "double:2")) == [(n, "failed", "OSError: no 2") for n in (1, 2, 3)]
        assert of(histories, "double:3").reason == "three is not wanted"
        assert {attempt.by for one in histories for attempt in one.attempts} == {"tester-7"}
        retried = of(histories, "double:1")
        # The worker reckons the server's time, to a millisecond or two.
        assert retried.submitted_s <= retried.attempts[0].started_s + 0.1
        assert (retried.attempts[0].ended_s or 0) < retried.attempts[1].started_s, "the backoff lies between"
        top, lower = of(histories, handle.id), of(histories, "lower")
        assert told(top) == told(lower) == [(1, "done", "")]
        assert top.submitted_s < lower.submitted_s < (lower.ended_s or 0) < (top.ended_s or 0)
        only = await run_histories(bus.log, handle.id, below=False)
        assert of(only, "lower").kind == "task"
        assert "inner" not in {one.id for one in only}
        steps = [one for one in await run_histories(bus.log, handle.id, steps=True) if one.kind == "step"]
        assert [(one.name, one.status, len(one.attempts)) for one in steps] == [
            ("look around", "done", 1),
            ("deep", "done", 1),
        ]

        report = await read_run(bus.log, handle.id)
        assert [
            (one.name, one.kind, one.contract, one.complete, one.detail) for one in report.operations
        ] == [
            ("look around", "step", "", True, ""),
            ("double", "map", "double", True, "5 items"),
            ("lower", "call", "below", True, "done"),
            ("go", "signal", "go", True, "timed out"),
        ]
        assert report.counts == {"done": 4, "dead": 2}
        assert [(one.by, one.kind) for one in report.takeovers] == [("tester-7", "coordinator")]
        assert (report.info.status, report.info.workflow) == ("done", "plan")


async def test_runs_are_listed_newest_first_with_how_they_stand(nats_url: str, namespace: str) -> None:
    gate = Gate()

    async def stands(value: Number, run: roost.Run[Any]) -> Report:
        if value.n == 1:
            raise roost.Reject("no reason")
        if value.n == 2:
            await run.call(double, value)
        return Report(numbers=[])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, stands), (double, gate))):
            for n, key in enumerate(("done", "dead", "open")):
                handle = await bus.start(plan, Number(n=n), key=key)
                if key != "open":
                    await handle.outcome(timeout_s=SOON_S)
            await gate.until()
            found = await list_runs(bus.log)
            assert [(one.id, one.status, one.reason) for one in found] == [
                ("plan:open", "open", ""),
                ("plan:dead", "dead", "no reason"),
                ("plan:done", "done", ""),
            ]
            assert [one.id for one in await list_runs(bus.log, limit=1)] == ["plan:open"]
            assert await list_runs(bus.log, "below") == []
            (top, task) = await run_histories(bus.log, "plan:open")
            assert (told(top), top.ended_s) == ([(1, "running", "")], None)
            assert (task.status, task.attempts) == ("open", ()), "a first attempt leaves no note"
            (dead,) = await run_histories(bus.log, "plan:dead")
            assert (dead.status, told(dead)) == ("dead", [(1, "failed", "Reject: no reason")])
            gate.open()


async def test_a_resumption_is_one_more_attempt_and_a_repeated_epoch_is_none(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def waits(value: Number, run: roost.Run[Any]) -> Report:
        await run.step("ready", step, "x")
        return Report(numbers=[(await run.wait_for(go)).n])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        monkeypatch.setenv("ROOST_INSTANCE", "first")
        async with bus.serving(agent_of((plan, waits))):
            handle = await bus.start(plan, Number(n=0), key="r")
            (epoch,) = await stored(bus, RunSubjects(namespace, handle.id).epoch, 1)
            await stored(bus, f"{namespace}.run.{handle.id}.step.ready", 1)
        # An execution that is not certain of a write takes over from itself.
        await bus.link.jetstream.publish(epoch.subject, epoch.data)
        monkeypatch.setenv("ROOST_INSTANCE", "second")
        async with bus.serving(agent_of((plan, waits))):
            await bus.signal(handle.id, go, Number(n=1))
            await handle.result(timeout_s=SOON_S)
        (top,) = await run_histories(bus.log, handle.id)
        assert told(top) == [(1, "lost", "taken over"), (2, "done", "")]
        assert [attempt.by for attempt in top.attempts] == ["first", "second"]
        assert top.attempts[0].ended_s == top.attempts[1].started_s
        assert "resumed once" in (await roost.timeline(bus, handle)).summary()


async def test_a_workflow_that_failed_and_was_tried_again_did_not_lose_its_coordinator(
    nats_url: str, namespace: str
) -> None:
    tries = Calls()

    async def fails(value: Number, run: roost.Run[Any]) -> Report:
        if await tries.note("try") == 1:
            raise OSError("not yet")
        return Report(numbers=[])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, fails))):
            handle = await bus.start(plan, Number(n=0))
            await handle.result(timeout_s=SOON_S)
        (top,) = await run_histories(bus.log, handle.id)
        assert told(top) == [(1, "failed", "OSError: not yet"), (2, "done", "")]


async def test_a_parked_run_says_why_and_is_not_shown_as_running(nats_url: str, namespace: str) -> None:
    async def before(value: Number, run: roost.Run[Any]) -> Report:
        await run.step("ready", step, "x")
        return Report(numbers=[(await run.wait_for(go)).n])

    async def after(value: Number, run: roost.Run[Any]) -> Report:
        await run.step("ready", step, "another input")
        return Report(numbers=[])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, before))):
            handle = await bus.start(plan, Number(n=0), key="p")
            await stored(bus, f"{namespace}.run.{handle.id}.step.ready", 1)
        async with bus.serving(agent_of((plan, after))):
            await stored(bus, RunSubjects(namespace, handle.id).state, 1)
        info = await find_run(bus.log, handle.id)
        assert info.status == "parked"
        assert "'ready'" in info.reason
        (top,) = await run_histories(bus.log, handle.id)
        assert (top.status, [attempt.result for attempt in top.attempts]) == ("open", ["lost", "failed"])
        assert top.attempts[-1].error.startswith("parked: ")
        assert top.attempts[-1].ended_s is not None


async def test_a_cancelled_run_shows_what_was_cancelled_below_it_and_who_did_it(
    nats_url: str, namespace: str
) -> None:
    gate = Gate()

    async def fans_out(value: Number, run: roost.Run[Any]) -> Report:
        async with run.map(double, numbers(3)) as outcomes:
            return Report(numbers=[o.index async for o in outcomes])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, fans_out), (double, gate))):
            handle = await bus.start(plan, Number(n=0), key="c")
            await gate.until(3)
            await handle.cancel("enough")
            histories = await run_histories(bus.log, handle.id)
            assert [(one.kind, one.status, one.reason) for one in histories].count(
                ("task", "cancelled", "enough")
            ) == 3
            top = of(histories, handle.id)
            assert (top.status, top.reason, len(top.attempts)) == ("cancelled", "enough", 1)
            report = await read_run(bus.log, handle.id)
            assert report.counts == {"cancelled": 3}
            assert [one.kind for one in report.takeovers] == ["coordinator", "cancel"]
            text = (await roost.timeline(bus, handle)).text()
            assert "1 run (cancelled)   3 tasks   0 done   0 dead   3 cancelled" in text


@pytest.mark.parametrize("few", [0, 300])
async def test_levels_are_found_whether_runs_are_asked_for_or_listed(
    nats_url: str, namespace: str, few: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reading, "FEW", few)
    monkeypatch.setattr(reading, "PAGE", 3)
    monkeypatch.setattr(reading, "SIDE_BY_SIDE", 2)

    async def deeper(value: Number, run: roost.Run[Any]) -> Number:
        if value.n == 0:
            return value
        async with run.map(below, [Number(n=value.n - 1)] * 2) as outcomes:
            return Number(n=len([o async for o in outcomes]))

    async def top(value: Number, run: roost.Run[Any]) -> Report:
        await run.call(below, value)
        return Report(numbers=[])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, top), (below, deeper), concurrency=2)):
            other = await bus.start(plan, Number(n=1), key="another")
            handle = await bus.start(plan, Number(n=3), key="deep")
            await asyncio.gather(*(one.result(timeout_s=SOON_S) for one in (handle, other)))
        histories = await run_histories(bus.log, handle.id)
        assert [one.kind for one in histories] == ["run"] * (1 + 1 + 2 + 4 + 8)
        assert all(one.status == "done" and len(one.attempts) == 1 for one in histories)
        lower = inner_run(Ref(handle.id, "below", "below"))
        assert len(await run_histories(bus.log, lower)) == 15
        info = await find_run(bus.log, f"{handle.id}/below/below")
        assert (info.id, info.task, info.status) == (lower, f"{handle.id}/below/below", "done")


async def test_records_that_cannot_be_read_are_left_out_and_counted(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow), (below, nested))):
            handle = await bus.start(plan, Number(n=0), key="odd")
            await handle.result(timeout_s=SOON_S)
        sound = await run_histories(bus.log, handle.id, steps=True)
        place = f"{namespace}.run.{handle.id}"
        for subject, data in {
            f"{place}.step.evil": b"\x1b[2J",
            f"{place}.note.double.double:0.9": b'{"k": "x"}',
            f"{place}.end.double.nobody": b"[]",
            f"{place}.end.double.*": b"{}",
            f"{place}.task.double": b"{}",
            f"{place}.what.ever": b"{}",
            f"{place}.epoch.more": b"{}",
        }.items():
            await bus.link.jetstream.publish(subject, data)
        before = bus.counters["record_unreadable"]
        assert await run_histories(bus.log, handle.id, steps=True) == sound
        assert bus.counters["record_unreadable"] - before == 3
        timeline = await roost.timeline(bus, handle)
        assert timeline.unreadable == 3
        for drawn in (timeline.text(), timeline.svg(), timeline.mermaid()):
            assert "3 records could not be read" in drawn
        assert (await read_run(bus.log, handle.id)).info.status == "done"


async def test_an_epoch_of_a_stranger_does_no_harm(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow), (below, nested))):
            handle = await bus.start(plan, Number(n=0), key="sound")
            await handle.result(timeout_s=SOON_S)
        for run, data in {
            "a": b"\xff",
            "b": b"[]",
            "c": json.dumps({"task": "*", "workflow": "plan"}).encode(),
            "d": json.dumps({"task": ">", "workflow": 7, "at": "now", "by": None}).encode(),
            "e": json.dumps({"task": "e", "workflow": "*", "at": {}, "by": [1]}).encode(),
        }.items():
            await bus.link.jetstream.publish(RunSubjects(namespace, run).epoch, data)
        assert {one.id for one in await list_runs(bus.log)} >= {handle.id}
        for run in "abcd":
            with pytest.raises(ConfigError, match="there is no run"):
                await run_histories(bus.log, run)
        assert (await find_run(bus.log, "e")).begun_s > 0  # when the server stored it
        assert (await run_histories(bus.log, "e"))[0].status == "open"


async def test_a_fork_is_known_as_one(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow), (below, nested))):
            handle = await bus.start(plan, Number(n=0), key="o")
            await handle.result(timeout_s=SOON_S)
            ref = await fork_run(bus.log, handle.id, before="lower")
            await bus.handle(plan, str(ref)).result(timeout_s=SOON_S)
        report = await read_run(bus.log, ref.run)
        assert [one.kind for one in report.takeovers] == ["fork", "coordinator"]
        assert report.takeovers[0].by == f"fork of {handle.id}"
        top = of(await run_histories(bus.log, ref.run), ref.id)
        assert told(top) == [(1, "done", "")]


async def test_a_timeline_is_had_by_the_id_of_a_run_or_a_handle(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow), (below, nested))):
            handle = await bus.start(plan, Number(n=0), key="t")
            await handle.result(timeout_s=SOON_S)
        by_handle, by_id = await roost.timeline(bus, handle), await roost.timeline(bus, handle.id)
        assert by_handle == by_id
        assert isinstance(by_id, roost.Timeline)
        assert by_id.text().startswith("Run plan:t\n2 runs   6 tasks   6 done   0 dead   0 retries")
        assert by_id._repr_svg_() == by_id.svg()
        assert repr(by_id).startswith("Timeline('Run plan:t': 2 runs, 6 tasks, 6 done")
        only = await roost.timeline(bus, handle, below=False)
        assert only.summary()[:2] == ["1 run", "6 tasks"]


async def test_an_open_run_is_drawn_up_to_now(nats_url: str, namespace: str) -> None:
    gate = Gate()

    async def calls(value: Number, run: roost.Run[Any]) -> Report:
        await run.call(double, value)
        return Report(numbers=[])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, calls), (double, gate))):
            handle = await bus.start(plan, Number(n=0))
            await gate.until()
            timeline = await roost.timeline(bus, handle)
            assert timeline.until_s is not None
            assert abs(timeline.until_s - bus.log.now_s()) < 5
            assert timeline.summary()[0] == "1 run (open)"
            gate.open()


async def test_a_run_that_is_not_there_is_an_error_that_says_what_to_do(
    nats_url: str, namespace: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        with pytest.raises(StreamMissing):
            await roost.timeline(bus, "plan:any")
        assert await bus.link.jetstream.call("STREAM.NAMES", {"subject": f"{namespace}.run.>"}) is not None
        with pytest.raises(StreamMissing):  # looking has made none
            await roost.timeline(bus, "plan:any")
        handle = await bus.start(plan, Number(n=0), key="queued")
        with pytest.raises(
            ConfigError, match=r"there is no run and no task 'plan:nosuch' .* compare the namespace"
        ):
            await roost.timeline(bus, "plan:nosuch")
        assert "no attempt on record yet" in (await roost.timeline(bus, handle)).text()  # it is queued
        for id in ("*", ">", "a.b", "", "a/b", "*/plan/x"):
            with pytest.raises(ConfigError, match="is not the id"):
                await roost.timeline(bus, id)
