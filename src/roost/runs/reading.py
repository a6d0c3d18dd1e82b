"""What a run did, and when, read from the log alone: its coordinators, its operations, its tasks.

A run may have 100,000 tasks, so its records are read once, page by page, and no payload is kept.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from roost.errors import InvalidMessage
from roost.runs.listing import FORK_TOKEN, RunInfo, find_run, json_object, list_runs
from roost.runs.operations import Operation, Operations
from roost.runs.records import RunSubjects, decode_state, decode_step, inner_run
from roost.tasks.history import Attempt, Status, TaskHistory
from roost.tasks.log import Log, Record, chunks
from roost.tasks.reading import Histories, read_history
from roost.tasks.records import Ref

FEW = 300
"""Tasks of which each is asked whether it has begun a run; of more, the runs that have begun are listed."""
SIDE_BY_SIDE = 16
"""Runs that are read at once."""
CLOCK_S = 0.5
"""How far the clock of a coordinator may be off from the server's, in seconds."""
PAGE = 4000
PAGE_BYTES = 4 * 1024 * 1024
"""Of one page, of which two are in memory; the server would otherwise send as much as 64 MiB at once."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeover:
    """Somebody began to write in a run: a coordinator, who cancelled it, or who made it by forking another."""

    by: str
    at_s: float
    kind: Literal["coordinator", "cancel", "fork"] = "coordinator"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunReport:
    """What one run has on record; nothing of the runs below it but that they are among its tasks."""

    info: RunInfo
    takeovers: tuple[Takeover, ...]
    operations: tuple[Operation, ...]
    tasks: tuple[TaskHistory, ...]

    @property
    def counts(self) -> dict[str, int]:
        """How many of its tasks have which status; those that none has are left out."""
        found = Counter(one.status for one in self.tasks)
        return {status: found[status] for status in ("done", "dead", "cancelled", "open") if found[status]}


async def read_run(log: Log, run: str) -> RunReport:
    """What a run has on record. Raises ConfigError when there is no such run."""
    info = await find_run(log, run)
    read = await _read(log, info.id)
    own = Ref.parse(info.task, info.workflow)
    tasks = tuple(one for one in read.tasks() if not _is(one, own))
    return RunReport(
        info=info,
        takeovers=tuple(read.takeovers),
        operations=read.operations.all(tasks),
        tasks=tasks,
    )


async def run_histories(log: Log, run: str, *, below: bool = True, steps: bool = False) -> list[TaskHistory]:
    """What happened to the tasks of a run, and `below` it, in the order of submission.

    Each run is one more, of kind `run`, with an attempt for each of its coordinators; with `steps` the steps
    are there too. Raises ConfigError when there is no such run.
    """
    info = await find_run(log, run)
    found: list[TaskHistory] = []
    level: list[_Known] = [_Known(info.id, Ref.parse(info.task, info.workflow), None)]
    seen = {info.id}
    begun = _Begun(log)
    while level:
        lower: list[_Known] = []
        for part in chunks(level, SIDE_BY_SIDE):
            reads = await asyncio.gather(*(_read(log, one.run) for one in part))
            for known, read in zip(part, reads, strict=True):
                tasks = read.tasks()
                found.append(await _coordination(log, known, tasks, read))
                found += read.operations.steps(known.run) if steps else []
                tasks = [one for one in tasks if not _is(one, known.task)]
                inner = await begun.among(tasks) if below else {}
                if not inner:
                    found += tasks
                    continue
                for one in tasks:
                    child = inner.get(_ref(one))
                    if child is None or child in seen:
                        found.append(one)
                    else:
                        seen.add(child)
                        lower.append(_Known(child, _ref(one), one))
        level = lower
    return sorted(found, key=lambda one: one.submitted_s)


@dataclass(frozen=True, slots=True)
class _Known:
    """A run, its workflow's task, and what the run above has on record of that, if there is one."""

    run: str
    task: Ref
    history: TaskHistory | None


class _Begun:
    """Which tasks have begun runs of their own: those of workflows."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._listed: dict[str, set[str]] | None = None  # by workflow

    async def among(self, tasks: Sequence[TaskHistory]) -> dict[Ref, str]:
        if self._listed is None and len(tasks) > FEW:
            self._listed = await self._list()
        if self._listed is None:
            runs = {ref: inner_run(ref) for ref in map(_ref, tasks)}
            epochs = {ref: RunSubjects(self._log.subjects.namespace, run).epoch for ref, run in runs.items()}
            there = await self._log.newest(list(epochs.values()))
            return {ref: run for ref, run in runs.items() if epochs[ref] in there}
        listed = self._listed
        likely = {ref: inner_run(ref) for ref in (_ref(one) for one in tasks if one.name in listed)}
        return {ref: run for ref, run in likely.items() if run in listed[ref.name]}

    async def _list(self) -> dict[str, set[str]]:
        listed: dict[str, set[str]] = {}
        for subject in await self._log.subjects_matching(f"{self._log.subjects.namespace}.run.*.epoch"):
            run = subject.split(".")[2]
            listed.setdefault(run.partition(":")[0], set()).add(run)
        return listed


class _Read:
    """The records of one run, as they come."""

    def __init__(self, log: Log, run: str) -> None:
        self._log = log
        self._prefix = len(f"{log.subjects.namespace}.run.{run}.")
        self._histories = Histories(log.subjects, self._complain)
        self._token = ""
        self._cancelling = 0  # the sequence of the mark that the run is being cancelled
        self.takeovers: list[Takeover] = []
        self.parked: list[tuple[float, str]] = []  # when, and why
        self.operations = Operations()

    def add(self, record: Record) -> None:
        kind, _, rest = record.subject[self._prefix :].partition(".")
        if kind == "epoch":
            self._epoch(record)
        elif kind == "state":
            state = decode_state(record.data, subject=record.subject)
            if state is not None and state["status"] == "parked":
                self.parked.append((record.stored_s, state["reason"]))
            elif state is not None and state["status"] == "cancelling":
                self._cancelling = record.seq
        elif kind == "step":
            try:
                self.operations.add(rest, decode_step(record.data, subject=record.subject))
            except InvalidMessage as error:
                self._complain(record.subject, error)
        else:
            self._histories.add(record)

    def _epoch(self, record: Record) -> None:
        said = json_object(record)
        token = str(said.get("token", ""))
        if token and token == self._token:
            return  # an execution that made sure of a write by taking over from itself
        self._token = token
        self.takeovers.append(
            Takeover(
                by=str(said.get("by", "")),
                at_s=record.stored_s,
                kind="fork"
                if token == FORK_TOKEN
                else "cancel"
                if record.seq == self._cancelling + 1
                else "coordinator",
            )
        )

    def tasks(self) -> list[TaskHistory]:
        return self._histories.all()

    def _complain(self, subject: str, error: InvalidMessage) -> None:
        self._log.journal.record("record_unreadable", subject=subject, reason=str(error))


async def _read(log: Log, run: str) -> _Read:
    """All records of a run; the next page is on its way while one is worked on."""
    read = _Read(log, run)
    seq = 1
    ahead = _page(log, run, seq)
    try:
        while page := await ahead:  # a short page is no end: the server may cut one for its size
            ahead = _page(log, run, page[-1].seq + 1)
            for record in page:
                read.add(record)
    finally:
        ahead.cancel()
        await asyncio.gather(ahead, return_exceptions=True)
    return read


def _page(log: Log, run: str, seq: int) -> asyncio.Task[list[Record]]:
    query = {"seq": seq, "next_by_subj": log.subjects.run(run), "batch": PAGE, "max_bytes": PAGE_BYTES}
    return asyncio.get_running_loop().create_task(log.page(query, leader=True), name="roost-read-run")


def _ref(one: TaskHistory) -> Ref:
    return Ref(one.run, one.name, one.id)


def _is(one: TaskHistory, ref: Ref) -> bool:
    return one.id == ref.id and _ref(one) == ref


async def _coordination(log: Log, known: _Known, tasks: Sequence[TaskHistory], read: _Read) -> TaskHistory:
    """A workflow as its coordinators saw it: an attempt for each takeover, the last one to the end."""
    own = known.history or next((one for one in tasks if _is(one, known.task)), None)
    own = own or await read_history(log, known.task)
    if own is None:  # somebody has removed its input
        began_s = min([one.at_s for one in read.takeovers], default=0.0)
        own = TaskHistory(
            run=known.task.run,
            name=known.task.name,
            id=known.task.id,
            submitted_s=began_s,
            ended_s=None,
            status="open",
        )
    over_s = math.inf if own.ended_s is None else own.ended_s
    began = [one for one in read.takeovers if one.kind == "coordinator" and one.at_s <= over_s]
    failures = _failures(began, own)
    attempts = []
    for number, takeover in enumerate(began, 1):
        next_s = began[number].at_s if number < len(began) else None
        attempts.append(_execution(number, takeover, next_s, own, failures.get(number), read.parked))
    return replace(own, attempts=tuple(attempts), kind="run")


def _failures(began: Sequence[Takeover], own: TaskHistory) -> dict[int, Attempt]:
    """Which executions, by number, ended with an exception; a worker starts its attempt and then takes over."""
    found: dict[int, Attempt] = {}
    for one in own.attempts:
        if one.result == "failed":
            for number, takeover in enumerate(began, 1):
                late = takeover.at_s + CLOCK_S >= one.started_s
                if late and takeover.by == one.by and number not in found:
                    found[number] = one
                    break
    return found


def _execution(
    number: int,
    takeover: Takeover,
    next_s: float | None,
    own: TaskHistory,
    failed: Attempt | None,
    parked: Sequence[tuple[float, str]],
) -> Attempt:
    """One coordinator's part. It failed, was parked, was taken over, or came to the end."""
    begin_s, end_s = takeover.at_s, math.inf if next_s is None else next_s
    ended_s, error = next_s if next_s is not None else own.ended_s, ""
    result: Literal["done", "failed", "lost", "running"]
    stopped = next((one for one in parked if begin_s <= one[0] <= end_s), None)
    if failed is not None and failed.ended_s is not None:
        result, ended_s, error = "failed", max(begin_s, failed.ended_s), failed.error
    elif stopped is not None and (next_s is not None or own.status == "open"):
        result, ended_s, error = "failed", stopped[0], f"parked: {stopped[1]}"
    elif next_s is not None:
        result, error = "lost", "taken over"
    else:
        result = _RESULTS[own.status]
        error = own.reason if own.status == "dead" else ""
    return Attempt(
        number=number, by=takeover.by, started_s=begin_s, ended_s=ended_s, result=result, error=error
    )


_RESULTS: dict[Status, Literal["done", "failed", "lost", "running"]] = {
    "done": "done",
    "dead": "failed",
    "cancelled": "running",
    "open": "running",
}

__all__ = [
    "Operation",
    "RunInfo",
    "RunReport",
    "Takeover",
    "find_run",
    "list_runs",
    "read_run",
    "run_histories",
]
