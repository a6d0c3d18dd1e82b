"""Reading runs from the log alone: which there are, what one of them did, and when.

Nothing is asked of a coordinator or a worker, so a run of yesterday reads like one of today.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from roost.errors import ConfigError, InvalidMessage
from roost.runs.records import RunSubjects, StepRecord, decode_state, decode_step, inner_run
from roost.tasks.history import Attempt, Status, TaskHistory
from roost.tasks.log import Log, Record, chunks
from roost.tasks.reading import histories
from roost.tasks.records import Ref

PAGE = 150


@dataclass(frozen=True, slots=True, kw_only=True)
class Takeover:
    """A coordinator began, or took over."""

    by: str
    at_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """What is on record of one operation of a run."""

    name: str
    kind: str  # step, call, map, signal, wait
    contract: str
    by: str
    at_s: float
    took_s: float | None
    detail: str


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInfo:
    """One run. `status` is open, parked, cancelling, done, dead or cancelled."""

    id: str
    workflow: str
    task: str  # the id of the workflow's own task; another than `id` for a run below another
    status: str
    reason: str
    begun_s: float
    ended_s: float | None
    by: str  # who coordinates it, or did last


async def list_runs(log: Log, workflow: str | None = None, *, limit: int | None = None) -> list[RunInfo]:
    """The runs that have begun, the newest first; of one workflow or of all."""
    found = []
    for subject in await log.subjects_matching(f"{log.subjects.namespace}.run.*.epoch"):
        found.append(subject.split(".")[2])
    infos: list[RunInfo] = []
    for page in chunks(found, PAGE):
        infos += await _infos(log, page)
    infos = [info for info in infos if workflow is None or info.workflow == workflow]
    infos.sort(key=lambda info: info.begun_s, reverse=True)
    return infos if limit is None else infos[:limit]


async def find_run(log: Log, run: str) -> RunInfo:
    """One run by its id. Raises ConfigError when there is none of that id, or it has not begun."""
    Ref.parse(run, "x")
    found = await _infos(log, [run]) if "/" not in run else []
    if not found:
        raise ConfigError(
            f"there is no run {run!r} in {log.stream} that has begun; `roost runs ls` lists those there are"
        )
    return found[0]


async def _infos(log: Log, runs: Sequence[str]) -> list[RunInfo]:
    places = {run: RunSubjects(log.subjects.namespace, run) for run in runs}
    heads = await log.newest([s for place in places.values() for s in (place.epoch, place.state)])
    refs: dict[str, tuple[Ref, dict[str, Any]]] = {}
    for run, place in places.items():
        record = heads.get(place.epoch)
        epoch = _object(record) if record is not None else {}
        try:
            refs[run] = (Ref.parse(str(epoch.get("task", "")), str(epoch.get("workflow", ""))), epoch)
        except ConfigError as error:
            if record is not None:
                log.journal.record("record_unreadable", subject=record.subject, reason=str(error))
    own = await log.newest(
        [s for ref, _ in refs.values() for s in (log.subjects.task(ref), log.subjects.end(ref))]
    )
    infos = []
    for run, (ref, epoch) in refs.items():
        state_record = heads.get(places[run].state)
        state = (
            decode_state(state_record.data, subject=places[run].state) if state_record is not None else None
        )
        end_record, task = own.get(log.subjects.end(ref)), own.get(log.subjects.task(ref))
        end = _object(end_record) if end_record is not None else {}
        epoch_record = heads[places[run].epoch]
        parked = (
            state if state is not None and state_record is not None and state["status"] in _OPEN else None
        )
        if parked is not None and parked["status"] == "parked" and epoch_record.seq > state_record.seq:  # type: ignore[union-attr]
            parked = None  # it has been taken up again since
        infos.append(
            RunInfo(
                id=run,
                workflow=ref.name,
                task=str(ref),
                status=str(end["status"]) if end else parked["status"] if parked else "open",
                reason=str(end.get("reason", "")) if end else parked["reason"] if parked else "",
                begun_s=task.stored_s if task is not None else float(epoch.get("at", 0.0)),
                ended_s=end_record.stored_s if end_record is not None else None,
                by=str(epoch.get("by", "")),
            )
        )
    return infos


_OPEN = ("parked", "cancelling")


async def takeovers(log: Log, run: str) -> list[Takeover]:
    """Who coordinated a run, in order."""
    found = []
    for record in await log.read_all(RunSubjects(log.subjects.namespace, run).epoch):
        epoch = _object(record)
        found.append(Takeover(by=str(epoch.get("by", "")), at_s=record.stored_s))
    return found


async def operations(log: Log, run: str) -> list[Operation]:
    """The operations that a run has on record, in order; its calls are among its tasks."""
    found = []
    for record in await log.read_all(RunSubjects(log.subjects.namespace, run).steps):
        try:
            step = decode_step(record.data, subject=record.subject)
        except InvalidMessage as error:
            log.journal.record("record_unreadable", subject=record.subject, reason=str(error))
            continue
        found.append(
            Operation(
                name=step["op"],
                kind=step["kind"],
                contract=step["contract"],
                by=step["by"],
                at_s=step["at"],
                took_s=step.get("s"),
                detail=_detail(step),
            )
        )
    return found


def _detail(step: StepRecord) -> str:
    if step["kind"] == "map":
        return f"part {step.get('chunk', 0)}: {step.get('count', 0)} items" + (
            ", the last" if step.get("last") else ""
        )
    if step["kind"] == "signal":
        return f"record {step.get('seq')}" if step.get("seq") else "timed out"
    if step["kind"] == "wait":
        return "waits with a limit"
    return ""


async def run_histories(log: Log, run: str, *, below: bool = True) -> list[TaskHistory]:
    """What happened to the tasks of a run, and `below` it, with its own coordinator as one more."""
    info = await find_run(log, run)
    found = [await _coordination(log, info)]
    seen = {run}
    queue = [run]
    while queue:
        current = queue.pop(0)
        records = await log.read_all(log.subjects.run(current))
        tasks = [
            one
            for one in histories(records, log.subjects, _unreadable(log))
            if str(Ref(one.run, one.name, one.id)) != info.task
        ]
        inner = {inner_run(Ref(one.run, one.name, one.id)): one for one in tasks}
        begun = await _begun(log, list(inner)) if below else set()
        for child, one in inner.items():
            if child in begun and child not in seen:
                seen.add(child)
                queue.append(child)
                found.append(await _coordination(log, await find_run(log, child)))
            else:
                found.append(one)
    return sorted(found, key=lambda one: one.submitted_s)


async def _begun(log: Log, runs: list[str]) -> set[str]:
    """Which of these runs exist: the tasks among them that are workflows."""
    begun: set[str] = set()
    for page in chunks(runs, PAGE * 2):
        wanted = {RunSubjects(log.subjects.namespace, run).epoch: run for run in page}
        begun |= {wanted[subject] for subject in await log.newest(list(wanted)) if subject in wanted}
    return begun


async def _coordination(log: Log, info: RunInfo) -> TaskHistory:
    """A workflow as its coordinators saw it: an attempt for each takeover, the last one to the end."""
    ref = Ref.parse(info.task, info.workflow)
    began = await takeovers(log, info.id)
    attempts = []
    for number, takeover in enumerate(began, 1):
        last = number == len(began)
        ended_s = info.ended_s if last else began[number].at_s
        attempts.append(
            Attempt(
                number=number,
                by=takeover.by,
                started_s=takeover.at_s,
                ended_s=ended_s,
                result="lost" if not last else _RESULTS.get(info.status, "failed"),
                error="" if last else "taken over",
            )
        )
    status: Status = info.status if info.status in ("done", "dead", "cancelled") else "open"  # type: ignore[assignment]
    return TaskHistory(
        run=ref.run,
        name=ref.name,
        id=ref.id,
        submitted_s=info.begun_s,
        ended_s=info.ended_s,
        status=status,
        reason=info.reason,
        attempts=tuple(attempts),
    )


_RESULTS: dict[str, Any] = {"done": "done", "open": "running", "parked": "running", "cancelling": "running"}


def _object(record: Record) -> dict[str, Any]:
    try:
        found = json.loads(record.data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _unreadable(log: Log) -> Any:
    def complain(subject: str, error: InvalidMessage) -> None:
        log.journal.record("record_unreadable", subject=subject, reason=str(error))

    return complain


__all__ = [
    "Operation",
    "RunInfo",
    "Takeover",
    "find_run",
    "list_runs",
    "operations",
    "run_histories",
    "takeovers",
]
