"""Two coordinators of one run: the one that was paused writes nothing."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import roost
from roost.runs.coordinator import Coordinator
from roost.runs.records import RunSubjects
from runs.support import SOON_S, Events, Gate, Number, Report, agent_of, double, go, plan, stored
from tasks.support import Child

HERE = str(Path(__file__).resolve().parents[1])


@asynccontextmanager
async def coordinators(url: str, namespace: str) -> AsyncIterator[Callable[[], Any]]:
    """Gives a function that starts coordinator processes, ended with the block."""
    started: list[Child] = []

    async def start() -> Child:
        given = os.environ.get("PYTHONPATH", "")
        environment = os.environ | {"PYTHONPATH": f"{given}{os.pathsep}{HERE}" if given else HERE}
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "runs.coordinator_process", url, namespace),
            stdin=PIPE,
            stdout=PIPE,
            env=environment,
        )
        child = Child(process)
        started.append(child)
        return child

    try:
        yield start
    finally:
        for child in started:
            await child.close()


def let(child: Child) -> None:
    """Let a step of this process return."""
    assert child.process.stdin is not None
    child.process.stdin.write(b"go\n")


async def test_a_coordinator_paused_beyond_the_ack_wait_is_fenced_and_writes_nothing(
    nats_url: str, namespace: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with coordinators(nats_url, namespace) as start:
            handle = await bus.start(plan, Number(n=5))
            first = await start()
            await first.says("step first")
            first.signal(signal.SIGSTOP)
            let(first)  # it will go on with a result in its hands
            second = await start()
            await second.says("step first")
            let(second)
            report = await handle.result(timeout_s=SOON_S)
            everything = await bus.log.read_all(bus.log.subjects.run(handle.id))
            first.signal(signal.SIGCONT)
            await first.says("event task_handed_back")
            assert await bus.log.read_all(bus.log.subjects.run(handle.id)) == everything
    assert report.numbers == [5, 0, 2, 4, 10]
    subjects = RunSubjects(namespace, handle.id)
    epochs = [r for r in everything if r.subject == subjects.epoch]
    steps = [json.loads(r.data) for r in everything if r.subject.startswith(subjects.step(""))]
    assert len(epochs) == 2
    by = {step["by"] for step in steps}
    assert by == {json.loads(epochs[1].data)["by"]}, "only the second one has written"


async def test_a_coordinator_that_is_taken_over_while_it_waits_does_not_end_the_run_twice(
    nats_url: str, namespace: str
) -> None:
    """Both are in this process; the first is told nothing until it writes."""

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        seen.append(run)
        found = await run.wait_for(go)
        await run.call(double, found)
        return Report(numbers=[found.n])

    seen: list[roost.Run[Any]] = []
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        roost.connect(nats_url, namespace=namespace) as other,
    ):
        events = [Events(bus), Events(other)]
        handle = await bus.start(plan, Number(n=0))
        async with bus.serving(agent_of((plan, workflow))) as (one,):
            await stored(bus, f"{namespace}.run.{handle.id}.epoch", 1)
            (worker,) = [w for w in one._workers if isinstance(w, Coordinator)]
            worker._beat.cancel()  # type: ignore[union-attr]  # as a process that hangs: no heartbeat any more
            async with other.serving(agent_of((plan, workflow))):
                await stored(bus, f"{namespace}.run.{handle.id}.epoch", 2)
                await bus.signal(handle.id, go, Number(n=3))
                assert (await handle.result(timeout_s=SOON_S)).numbers == [3]
            await events[0].until("task_handed_back")
        assert len(await stored(bus, f"{namespace}.run.{handle.id}.task.double.*", 1)) == 1
        assert len(await stored(bus, f"{namespace}.run.{handle.id}.step.go", 1)) == 1


async def test_a_fenced_workflow_cannot_carry_on_by_catching_everything(
    nats_url: str, namespace: str
) -> None:
    gate = Gate()
    went_on: list[int] = []

    async def stubborn(value: Number, run: roost.Run[Any]) -> Report:
        for n in range(10):
            try:
                await run.call(double, value, name=f"call {n}")
            except BaseException:
                went_on.append(n)
        return Report(numbers=[])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        events = Events(bus)
        handle = await bus.start(plan, Number(n=0))
        async with bus.serving(agent_of((plan, stubborn), (double, gate)), grace_s=0) as (one,):
            await gate.until()
            subjects = RunSubjects(namespace, handle.id)
            await bus.link.jetstream.publish(subjects.epoch, b'{"token":"somebody else"}')
            gate.open()
            await events.until("task_handed_back")
            assert one.handled["task:double"] == 1
        assert len(await bus.log.read_all(f"{namespace}.run.{handle.id}.task.double.*")) == 1
        assert await bus.log.last(bus.log.subjects.end(handle.ref)) is None
    assert went_on == list(range(1, 10)), "each later operation was cancelled"
