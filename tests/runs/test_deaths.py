"""A coordinator that dies at any of its writes, and another that goes on."""

from __future__ import annotations

import asyncio
import os
import sys
from asyncio.subprocess import PIPE
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import roost
from roost.agent import Agent
from roost.runs.records import inner_run
from roost.tasks.records import Ref
from runs.failing_process import EXPECTED, each, each_doubled, plan_named
from runs.support import SOON_S, Number, go

AT_ONCE = 4
HERE = str(Path(__file__).resolve().parents[1])


class Failing:
    """The process that forks coordinators."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self._said: list[str] = []
        self._news = asyncio.Condition()
        self._reader = asyncio.ensure_future(self._read())

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while line := (await self._process.stdout.readline()).decode().strip():
            async with self._news:
                self._said.append(line)
                self._news.notify_all()

    def start(self, name: str, number: int, when: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(f"{name} {number} {when}\n".encode())

    async def said(self, line: str) -> None:
        async with asyncio.timeout(SOON_S), self._news:
            await self._news.wait_for(lambda: line in self._said)

    def written(self, name: str) -> int:
        return sum(line.startswith(f"count {name} ") for line in self._said)

    async def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        await self._process.wait()
        await self._reader


@asynccontextmanager
async def failing(url: str, namespace: str, file: Path) -> AsyncIterator[Failing]:
    given = os.environ.get("PYTHONPATH", "")
    environment = os.environ | {"PYTHONPATH": f"{given}{os.pathsep}{HERE}" if given else HERE}
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "runs.failing_process", url, namespace, str(file)),
        stdin=PIPE,
        stdout=PIPE,
        env=environment,
    )
    found = Failing(process)
    try:
        yield found
    finally:
        await found.close()


async def test_a_coordinator_killed_at_any_write_is_resumed_to_the_same_report(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    """Before and after each record of a small workflow: nothing is done twice that is on record, nothing is lost."""
    file = tmp_path / "steps.txt"
    worker = Agent("each")
    worker.handles(each)(each_doubled)

    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        bus.serving(worker),
        failing(nats_url, namespace, file) as coordinators,
    ):

        async def begin(name: str) -> roost.Handle[object]:
            handle = await bus.start(plan_named(name), Number(n=7), key="one")
            await bus.signal(handle.id, go, Number(n=9))
            return handle  # type: ignore[return-value]

        coordinators.start("undisturbed", 0, "never")
        undisturbed = await (await begin("undisturbed")).result(timeout_s=SOON_S)
        assert undisturbed.numbers == EXPECTED  # type: ignore[attr-defined]
        writes = coordinators.written("undisturbed")
        assert writes >= 12

        turn = asyncio.Semaphore(AT_ONCE)
        failed: list[str] = []

        async def one(number: int, when: str) -> None:
            async with turn:
                name = f"{when}{number}"
                coordinators.start(name, number, when)
                handle = await begin(name)
                await coordinators.said(f"ended {name} {number}")
                coordinators.start(name, 0, "never")
                report = await handle.result(timeout_s=SOON_S)
                faults = await self_check(bus, handle.ref, name, file)
                if report.numbers != EXPECTED:  # type: ignore[attr-defined]
                    faults.append(f"the report is {report}")
                failed.extend(f"{when} write {number}: {fault}" for fault in faults)

        await asyncio.gather(
            *(one(number, when) for number in range(1, writes + 1) for when in ("before", "after"))
        )
        assert failed == []


async def self_check(bus: roost.Bus, ref: Ref, name: str, file: Path) -> list[str]:
    """What is wrong with the log of one run and the one below it, and with how often step functions ran."""
    faults: list[str] = []
    inner = inner_run(Ref(ref.run, f"{name}-below", f"{name}-below"))
    ran = Counter((await asyncio.to_thread(file.read_text)).splitlines())
    lost = 0
    for run in (ref.run, inner):
        found = Counter(r.subject for r in await bus.log.read_all(bus.log.subjects.run(run)))
        for subject, count in found.items():
            if count > 1 and subject.split(".")[3] not in ("epoch", "state"):
                faults.append(f"{count} records on {subject}")
        for word in ("first", "last") if run == ref.run else ("inner",):
            times = ran[f"{run} {word}"]
            if f"{bus.namespace}.run.{run}.step.{word}" not in found:
                faults.append(f"step {word} is not on record")
            lost += times - 1
            if not times:
                faults.append(f"step {word} did not run")
        kinds = Counter(subject.split(".")[3] for subject in found)
        expected = 6 if run == ref.run else 1  # three of the map, a call, the one below, and its own
        if (kinds["task"], kinds["end"], kinds["state"]) != (expected, expected, 1):
            faults.append(f"run {run} has {dict(kinds)}")
    if lost > 1:
        faults.append(f"functions of steps ran {lost} times more than they were recorded")
    return faults
