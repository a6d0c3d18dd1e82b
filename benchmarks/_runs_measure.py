"""One measured run: a fresh server, a worker, a coordinator, and for two of the cases its death at half time."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import roost
from benchmarks._machine import Others, cpu_s
from benchmarks._runs_child import MANY, TENTHS, Job, Total, expected
from benchmarks._work import DIGEST, NAMESPACE
from roost.runs.records import RunSubjects
from roost.server import LocalServer
from roost.tasks.log import Log

ROOT = Path(__file__).parent.parent
GRACE_S = 10.0
SILENCE_S = 120.0
"""Seconds without a word of any process after which a run is given up."""

Name = Literal["undisturbed", "standby", "restart"]
NAMES: tuple[Name, ...] = ("undisturbed", "standby", "restart")
"""A standby is up when the coordinator is killed; a restart begins then, with its interpreter."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumption:
    """Seconds from the kill of a coordinator at half time, by the clock that the server stamps records with too."""

    ready_s: float
    """Until the new coordinator was up; 0 for one that was up before."""
    epoch_s: float
    """Until it had taken over: the run was delivered again, and its new epoch stored."""
    begun_s: float
    """Until it executed the workflow: the record of the steps was read."""
    commit_s: float
    """Until it stored the next part of the plan: all outcomes before were read, and given to the workflow."""
    replay_cpu_s: float
    """Processor time for that: other programs change it less."""

    @property
    def replay_s(self) -> float:
        """What depends on the length of the run."""
        return self.commit_s - self.epoch_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One run from its start to its report, which was checked."""

    name: Name
    count: int
    seconds: float
    rss_mb: dict[int, float]
    """Of the coordinator that ended the run, at each tenth of the outcomes that it has read."""
    killed_rss_mb: dict[int, float]
    """Of the one that was killed, at each tenth until then."""
    resumption: Resumption | None
    coordinator_us: float
    """Processor time of the last coordinator for each task, its start included."""
    worker_us: float
    server_us: float
    others: float | None
    """Part of all processors that other programs took meanwhile."""


class Process:
    """A child, and what it has told."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.pid = process.pid
        self.rss_mb: dict[int, float] = {}
        self.cpu_s: dict[int, float] = {}
        """At its begin (0) and at each tenth."""

    async def until(self, event: str, **wanted: Any) -> float:
        """When it told of an event. Raises RuntimeError when it ends, or says nothing for long, before that."""
        assert self.process.stdout is not None
        while True:
            try:
                line = await asyncio.wait_for(self.process.stdout.readline(), SILENCE_S)
            except TimeoutError:
                line = b""
            if not line:
                raise RuntimeError(
                    f"process {self.pid} ended, or said nothing for {SILENCE_S:g} s, before "
                    f"{event} {wanted or ''}; what it wrote stands above"
                )
            told = json.loads(line)
            if told["event"] == "begun":
                self.cpu_s[0] = told["cpu_s"]
            elif told["event"] == "read":
                self.rss_mb[told["tenth"]] = told["rss_mb"]
                self.cpu_s[told["tenth"]] = told["cpu_s"]
            if told["event"] == event and wanted.items() <= told.items():
                return float(told["at_s"])

    def kill(self) -> float:
        """When it was killed."""
        killed_s = time.time()
        os.kill(self.pid, signal.SIGKILL)
        return killed_s


@asynccontextmanager
async def _process(role: str, url: str) -> AsyncIterator[Process]:
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "benchmarks._runs_child", role, url, cwd=ROOT, stdin=pipe, stdout=pipe
    )
    try:
        yield Process(process)
    finally:
        assert process.stdin is not None
        process.stdin.close()
        try:
            await asyncio.wait_for(process.wait(), GRACE_S)
        except TimeoutError:
            process.kill()
            await process.wait()


def measure(name: Name, job: Job) -> Measured:
    """Raises RuntimeError when a process fails, or when the report or the log is not that of `job`."""
    others = Others()
    with LocalServer() as server:
        measured: Measured = asyncio.run(_measure(name, job, server))
    return replace(measured, others=others.share())


async def _measure(name: Name, job: Job, server: LocalServer) -> Measured:
    async with roost.connect(server.url, namespace=NAMESPACE) as bus, AsyncExitStack() as started:

        async def start(role: str) -> Process:
            return await started.enter_async_context(_process(role, server.url))

        worker, first = await start("worker"), await start("coordinator")
        await worker.until("ready")
        await first.until("ready")
        before = {pid: cpu_s(pid) for pid in (worker.pid, server.pid)}
        begun_s = time.time()
        handle = await bus.start(MANY, job)
        await first.until("begun")
        last, death = first, None
        if name != "undisturbed":
            last, death = await _kill(name, first, start)
        ended_s = await last.until("read", tenth=TENTHS)
        total = await handle.result(timeout_s=SILENCE_S)
        await _check(job, total, bus.log, handle.id)

        def used_us(pid: int) -> float:
            return (cpu_s(pid) - before.get(pid, 0.0)) / job.count * 1e6

        return Measured(
            name=name,
            count=job.count,
            seconds=ended_s - begun_s,
            rss_mb=last.rss_mb,
            killed_rss_mb=first.rss_mb if last is not first else {},
            resumption=await _resumption(death, last, bus.log, handle.id) if death is not None else None,
            coordinator_us=used_us(last.pid),
            worker_us=used_us(worker.pid),
            server_us=used_us(server.pid),
            others=None,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Death:
    """When a coordinator was killed, when the next one was up, and when it executed the workflow."""

    killed_s: float
    ready_s: float
    begun_s: float


async def _kill(
    name: Name, first: Process, start: Callable[[str], Awaitable[Process]]
) -> tuple[Process, _Death]:
    """Kill the coordinator when it has read half of the outcomes; returns the next one, which goes on."""
    if name == "standby":
        later = await start("coordinator")
        await later.until("ready")
    await first.until("read", tenth=TENTHS // 2)
    ready_s = killed_s = first.kill()
    if name == "restart":
        later = await start("coordinator")
        ready_s = await later.until("ready")
    begun_s = await later.until("begun")
    return later, _Death(killed_s=killed_s, ready_s=ready_s, begun_s=begun_s)


async def _resumption(death: _Death, later: Process, log: Log, run: str) -> Resumption:
    """From the records that the new coordinator has stored. Raises RuntimeError when there is more than one."""
    subjects = RunSubjects(log.subjects.namespace, run)
    epochs = [record for record in await log.read_all(subjects.epoch) if record.stored_s > death.killed_s]
    if len(epochs) != 1:
        raise RuntimeError(f"the run was taken over {len(epochs)} times after one kill")
    parts = await log.read_all(subjects.steps, start_seq=epochs[0].seq)
    if not parts:
        raise RuntimeError("the coordinator that was killed had planned everything already")
    return Resumption(
        ready_s=death.ready_s - death.killed_s,
        epoch_s=epochs[0].stored_s - death.killed_s,
        begun_s=death.begun_s - death.killed_s,
        commit_s=parts[0].stored_s - death.killed_s,
        replay_cpu_s=later.cpu_s[TENTHS // 2] - later.cpu_s[0],
    )


async def _check(job: Job, total: Total, log: Log, run: str) -> None:
    """Each task has one record and one outcome, and the report has counted each once. Raises RuntimeError."""
    if total != expected(job.count):
        raise RuntimeError(f"the report is {total!r}, and should be {expected(job.count)!r}")
    subjects = RunSubjects(log.subjects.namespace, run)
    for pattern in (subjects.all_of(f"task.{DIGEST.name}"), subjects.all_of(f"end.{DIGEST.name}")):
        query = {"subjects_filter": pattern, "offset": 2**31 - 1}  # their number, without their names
        info = await log.link.jetstream.call(f"STREAM.INFO.{log.stream}", query)
        if info.get("total") != job.count:
            raise RuntimeError(
                f"the log has {info.get('total')} subjects {pattern}, and should have {job.count}"
            )
