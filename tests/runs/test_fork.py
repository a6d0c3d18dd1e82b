"""A fork takes over what stands before an operation, does the rest anew, and leaves the original as it was."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from pathlib import Path
from typing import Any

import pytest

import roost
from roost.errors import ConfigError
from roost.runs import fork as fork_module
from roost.runs.fork import fork_run
from roost.runs.records import RunSubjects, inner_run
from roost.tasks import Ref
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

newer = roost.Workflow("newer", Number, Report, retry=roost.Retry(attempts=1), ack_wait_s=0.5)
IMPORTS = str(Path(__file__).resolve().parents[1])
EVERYTHING = ["first", "map 0", "map 1", "map 2", "call", "signal", "last"]


class Work:
    """A workflow with one operation of each kind, which remembers what was really done."""

    def __init__(self) -> None:
        self.done: list[str] = []

    async def double(self, value: Number) -> Number:
        self.done.append("call" if value.n == 100 else f"map {value.n}")
        return await doubled(value)

    async def note(self, name: str) -> int:
        self.done.append(name)
        return len(name)

    async def __call__(self, value: Number, run: roost.Run[Any]) -> Report:
        found = [await run.step("first", self.note, "first")]
        async with run.map(double, numbers(3), name="fan out") as outcomes:
            found += sorted([o.value.n async for o in outcomes if isinstance(o, roost.Done)])
        found.append((await run.call(double, Number(n=100), name="a call")).n)
        found.append((await run.wait_for(go, name="approval", timeout_s=60)).n)
        self.done.append("signal")
        found.append(await run.step("last", self.note, "last"))
        return Report(numbers=found)


def handle(bus: roost.Bus, ref: Ref, workflow: Any = plan) -> roost.Handle[Report]:
    return bus.handle(workflow, str(ref))


async def everything(bus: roost.Bus, run: str) -> list[tuple[str, int, bytes]]:
    """All records of a run, byte for byte."""
    return [
        (one.subject, one.seq, one.data) for one in await bus.log.read_all(f"{bus.namespace}.run.{run}.>")
    ]


async def an_original(bus: roost.Bus, work: Work) -> roost.Handle[Report]:
    original = await bus.start(plan, Number(n=0), key="original")
    await stored(bus, f"{bus.namespace}.run.{original.id}.step.approval:wait", 1)
    await bus.signal(original.id, go, Number(n=7))
    assert (await original.result(timeout_s=SOON_S)).numbers == [5, 0, 2, 4, 200, 7, 4]
    assert sorted(work.done) == sorted(EVERYTHING)
    work.done.clear()
    return original


@pytest.mark.parametrize(
    ("before", "anew"),
    [
        ("first", EVERYTHING),
        ("fan out", EVERYTHING[1:]),
        ("a call", ["call", "signal", "last"]),
        ("approval", ["signal", "last"]),
        ("last", ["signal", "last"]),
    ],
)
async def test_what_stands_before_the_step_is_reused_and_the_rest_done_anew(
    nats_url: str, namespace: str, before: str, anew: list[str]
) -> None:
    work = Work()
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, work), (double, work.double))):
            original = await an_original(bus, work)
            as_it_was = await everything(bus, original.id)
            ref = await fork_run(bus.log, original.id, before=before)
            assert ref.run == ref.id != original.id
            approval = 7 if before == "last" else 8
            if before != "last":  # the approval is waited for anew
                await bus.signal(ref.run, go, Number(n=8))
            report = await handle(bus, ref).result(timeout_s=SOON_S)
            assert report.numbers == [5, 0, 2, 4, 200, approval, 4]
            assert sorted(work.done) == sorted(anew)
            assert await everything(bus, original.id) == as_it_was


async def test_another_version_of_the_workflow_goes_on_from_the_same_records(
    nats_url: str, namespace: str
) -> None:
    work = Work()

    async def better(value: Number, run: roost.Run[Any]) -> Report:
        first = await run.step("first", work.note, "first")
        async with run.map(double, numbers(3), name="fan out") as outcomes:
            found = [o.value.n async for o in outcomes if isinstance(o, roost.Done)]
        return Report(numbers=[first, sum(found), await run.step("summing up", work.note, "sum")])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, work), (newer, better), (double, work.double))):
            original = await an_original(bus, work)
            ref = await fork_run(bus.log, original.id, before="a call", workflow="newer")
            assert ref.name == "newer"
            assert (await handle(bus, ref, newer).result(timeout_s=SOON_S)).numbers == [5, 6, 3]
            assert work.done == ["sum"]


async def test_a_fork_can_be_forked(nats_url: str, namespace: str) -> None:
    work = Work()
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, work), (double, work.double))):
            original = await an_original(bus, work)
            first = await fork_run(bus.log, original.id, before="approval")
            await bus.signal(first.run, go, Number(n=8))
            await handle(bus, first).result(timeout_s=SOON_S)
            work.done.clear()
            second = await fork_run(bus.log, first.run, before="last")
            report = await handle(bus, second).result(timeout_s=SOON_S)
            assert report.numbers == [5, 0, 2, 4, 200, 8, 4]
            assert work.done == ["signal", "last"]


async def test_a_run_below_another_is_forked_into_a_run_of_its_own(nats_url: str, namespace: str) -> None:
    calls = Calls()

    async def inner(value: Number, run: roost.Run[Any]) -> Number:
        await run.step("one", calls.note, "one")
        return Number(n=await run.step("two", calls.note, "two"))

    async def outer(value: Number, run: roost.Run[Any]) -> Report:
        return Report(numbers=[(await run.call(below, value)).n])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, outer), (below, inner))):
            original = await bus.start(plan, Number(n=1), key="outer")
            await original.result(timeout_s=SOON_S)
            lower = inner_run(Ref(original.id, "below", "below"))
            as_it_was = await everything(bus, original.id), await everything(bus, lower)
            for run in (lower, f"{original.id}/below/below"):  # its id, and that of a handle on it
                calls.made.clear()
                ref = await fork_run(bus.log, run, before="two")
                assert ref.run == ref.id
                assert isinstance(await bus.handle(below, str(ref)).result(timeout_s=SOON_S), Number)
                assert calls.made == ["two"]
            assert (await everything(bus, original.id), await everything(bus, lower)) == as_it_was


async def test_a_fork_of_a_run_that_goes_on_does_what_is_unfinished_itself(
    nats_url: str, namespace: str
) -> None:
    gate, seen = Gate(), Calls()

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        async with run.map(double, numbers(3)) as outcomes:
            first = await anext(outcomes)
            await run.step("in the middle", seen.note, "in the middle")
            rest = [o async for o in outcomes]
        return Report(numbers=sorted(o.value.n for o in [first, *rest] if isinstance(o, roost.Done)))

    async def work(value: Number) -> Number:
        return await doubled(value) if value.n == 0 else await gate(value)

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow), (double, work))):
            original = await bus.start(plan, Number(n=0), key="going")
            await stored(bus, f"{namespace}.run.{original.id}.step.*", 2)
            await gate.until(2)
            ref = await fork_run(bus.log, original.id, before="in the middle")
            await gate.until(4)  # the two unfinished ones, once more
            gate.open()
            for one in (original, handle(bus, ref)):
                assert (await one.result(timeout_s=SOON_S)).numbers == [0, 2, 4]
            assert gate.reached == 4
            assert len(seen.made) == 2


async def test_an_unknown_step_is_answered_with_those_there_are(nats_url: str, namespace: str) -> None:
    work = Work()
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, work), (double, work.double))):
            original = await an_original(bus, work)
            newest = (await bus.log.read_all(f"{namespace}.run.>"))[-1].seq
            known = "it has first, fan out, h_[a-z2-7]{26}, approval, last"
            with pytest.raises(ConfigError, match=f"no operation 'fisrt' on record; {known}"):
                await fork_run(bus.log, original.id, before="fisrt")
            with pytest.raises(ConfigError, match="there is no run 'plan:other'"):
                await fork_run(bus.log, "plan:other", before="first")
            with pytest.raises(roost.UnsafeToken):
                await fork_run(bus.log, original.id, before="first", workflow="a.b")
            assert (await bus.log.read_all(f"{namespace}.run.>"))[-1].seq == newest, "nothing was written"


async def test_outcomes_beyond_one_commit_are_all_reused(nats_url: str, namespace: str) -> None:
    calls, doubles = Calls(), Calls()

    async def work(value: Number) -> Number:
        await doubles.note(str(value.n))
        if value.n % 100 == 3:
            raise roost.Reject("never")
        return await doubled(value)

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        found = {"done": 0, "dead": 0}
        async with run.map(double, numbers(450), name="many") as outcomes:
            async for outcome in outcomes:
                found["done" if isinstance(outcome, roost.Done) else "dead"] += 1
        await run.step("after", calls.note, "after")
        return Report(numbers=[found["done"], found["dead"]])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow), (double, work), concurrency=64)):
            original = await bus.start(plan, Number(n=0), key="many")
            assert (await original.result(timeout_s=SOON_S)).numbers == [445, 5]
            doubles.made.clear()
            ref = await fork_run(bus.log, original.id, before="after")
            assert (await handle(bus, ref).result(timeout_s=SOON_S)).numbers == [445, 5]
            assert doubles.made == []
            ref = await fork_run(bus.log, original.id, before="many")
            assert (await handle(bus, ref).result(timeout_s=SOON_S)).numbers == [445, 5]
            assert len(doubles.made) == 450


async def test_an_item_that_was_cancelled_stays_cancelled(nats_url: str, namespace: str) -> None:
    gate, calls = Gate(), Calls()

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        async with run.map(double, numbers(2)) as outcomes:
            cancelled = [o.index async for o in outcomes if isinstance(o, roost.Cancelled)]
        await run.step("after", calls.note, "after")
        return Report(numbers=cancelled)

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow), (double, gate))):
            original = await bus.start(plan, Number(n=0), key="one")
            await gate.until(2)
            assert await bus.handle(double, f"{original.id}/double/double:1").cancel()
            gate.open()
            assert (await original.result(timeout_s=SOON_S)).numbers == [1]
            ref = await fork_run(bus.log, original.id, before="after")
            assert (await handle(bus, ref).result(timeout_s=SOON_S)).numbers == [1]
            assert gate.reached == 2


async def test_an_operation_named_like_its_workflow_is_found(nats_url: str, namespace: str) -> None:
    calls = Calls()

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        await run.step("first", calls.note, "first")
        async with run.map(double, numbers(2), name="plan") as outcomes:
            return Report(numbers=sorted([o.value.n async for o in outcomes if isinstance(o, roost.Done)]))

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow))):
            original = await bus.start(plan, Number(n=0), key="same")
            await original.result(timeout_s=SOON_S)
            ref = await fork_run(bus.log, original.id, before="plan")
            assert (await handle(bus, ref).result(timeout_s=SOON_S)).numbers == [0, 2]
            assert calls.made == ["first"]


async def test_more_unfinished_tasks_than_one_commit_holds_are_refused(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = Gate()

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        async with run.map(double, numbers(3)) as outcomes:
            await run.step("in the middle", gate.until, 3)
            return Report(numbers=[o.index async for o in outcomes])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow), (double, gate))):
            original = await bus.start(plan, Number(n=0), key="going")
            await stored(bus, f"{namespace}.run.{original.id}.step.*", 2)
            monkeypatch.setattr(fork_module, "MOST_OPEN", 2)
            with pytest.raises(ConfigError, match="has 3 tasks before 'in the middle' that are not done"):
                await fork_run(bus.log, original.id, before="in the middle")
            gate.open()
            await original.result(timeout_s=SOON_S)


async def test_a_run_that_was_cancelled_cannot_be_forked(nats_url: str, namespace: str) -> None:
    gate = Gate()

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        await run.call(double, value, name="a")
        return Report(numbers=[])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow), (double, gate))):
            original = await bus.start(plan, Number(n=0), key="gone")
            await gate.until(1)
            await original.cancel()
            with pytest.raises(ConfigError, match="is gone, because it was cancelled"):
                await fork_run(bus.log, original.id, before="a")


async def forked(url: str, namespace: str, run: str, step: str, commits: int) -> str:
    """What a forking process says that is killed before a commit."""
    path = os.environ | {"PYTHONPATH": IMPORTS}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        *("-m", "runs.fork_process", url, namespace, run, step, str(commits)),
        stdout=PIPE,
        env=path,
    )
    said, _ = await process.communicate()
    return said.decode().strip()


async def test_a_fork_that_is_killed_half_way_leaves_nothing_that_anybody_runs(
    nats_url: str, namespace: str
) -> None:
    gate, ran = Gate(), Calls()

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        async with run.map(double, numbers(450)) as outcomes:
            first = [await anext(outcomes) for _ in range(440)]
            await run.step("in the middle", ran.note, "in the middle")
            return Report(numbers=[len(first) + len([o async for o in outcomes])])

    async def work(value: Number) -> Number:
        await ran.note(str(value.n))
        return await (gate(value) if value.n >= 440 else doubled(value))

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow), (double, work), concurrency=64)):
            original = await bus.start(plan, Number(n=0), key="long")
            await gate.until(10)
            await stored(bus, f"{namespace}.run.{original.id}.step.*", 4)
            runs = [original.id]
            commits = 0
            ran.made.clear()
            while (
                said := await forked(nats_url, namespace, original.id, "in the middle", commits)
            ) == "killed":
                commits += 1
                assert commits < 20
            assert commits > 3
            new = said.split()[-1]
            await gate.until(20)  # the ten unfinished ones, once more and not for each fork that was killed
            gate.open()
            for run in (new, *runs):
                assert (await bus.handle(plan, run).result(timeout_s=SOON_S)).numbers == [450]
            assert gate.reached == 20
            assert sorted(ran.made) == sorted(["in the middle", *map(str, range(440, 450))])
            begun = await bus.log.subjects_matching(RunSubjects(namespace, "*").epoch)
            assert len(begun) == 2


async def test_a_wait_that_is_done_anew_does_not_take_the_signal_it_took_before(
    nats_url: str, namespace: str
) -> None:
    async def waits(value: Number, run: roost.Run[Any]) -> Report:
        return Report(numbers=[(await run.wait_for(go)).n])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, waits))):
            original = await bus.start(plan, Number(n=0), key="w")
            await bus.signal(original.id, go, Number(n=1))
            assert (await original.result(timeout_s=SOON_S)).numbers == [1]
            ref = await fork_run(bus.log, original.id, before="go")
            await bus.signal(ref.run, go, Number(n=2))
            assert (await handle(bus, ref).result(timeout_s=SOON_S)).numbers == [2]


async def test_a_signal_that_came_before_the_step_is_there_for_a_wait_after_it(
    nats_url: str, namespace: str
) -> None:
    calls = Calls()

    async def waits(value: Number, run: roost.Run[Any]) -> Report:
        await run.step("one", calls.note, "one")
        return Report(numbers=[(await run.wait_for(go)).n])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        await bus.signal("plan:early", go, Number(n=3))
        async with bus.serving(agent_of((plan, waits))):
            original = await bus.start(plan, Number(n=0), key="early")
            await original.result(timeout_s=SOON_S)
            ref = await fork_run(bus.log, original.id, before="one")
            assert (await handle(bus, ref).result(timeout_s=SOON_S)).numbers == [3]
            assert calls.made == ["one", "one"]


async def test_a_wait_that_went_on_beside_the_step_begins_anew_with_its_whole_time(
    nats_url: str, namespace: str
) -> None:
    calls = Calls()

    async def waits(run: roost.Run[Any]) -> int:
        try:
            return (await run.wait_for(go, timeout_s=1.5)).n
        except roost.RequestTimeout:
            return -1

    async def both(value: Number, run: roost.Run[Any]) -> Report:
        waiting = asyncio.create_task(waits(run))
        await asyncio.sleep(0)
        await run.step("beside", calls.note, "x")
        return Report(numbers=[await waiting])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, both))):
            original = await bus.start(plan, Number(n=0), key="b")
            assert (await original.result(timeout_s=SOON_S)).numbers == [-1]
            ref = await fork_run(bus.log, original.id, before="beside")
            await bus.signal(ref.run, go, Number(n=5))
            assert (await handle(bus, ref).result(timeout_s=SOON_S)).numbers == [5]
