"""Which runs there are, and how each of them stands, from the log alone.

Nothing is asked of a coordinator or a worker, so a run of yesterday reads like one of today.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from roost._text import quoted
from roost.errors import ConfigError, JetStreamError, StreamMissing
from roost.runs.records import RunSubjects, StateRecord, decode_state, inner_run
from roost.tasks.log import Log, Record, chunks
from roost.tasks.records import Ref
from roost.transport.jetstream import STREAM_NOT_FOUND

PAGE = 150
"""Runs asked about at once: each has a few subjects, and a batched read takes 1,000."""
FORK_TOKEN = "fork"
"""Token of the epoch that a forked run begins with: nobody's."""


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


async def attend(log: Log) -> None:
    """Make sure that there is a log, and what time it is there; never creates one. Raises StreamMissing."""
    try:
        await log._stream_info()
    except JetStreamError as error:
        if error.err_code == STREAM_NOT_FOUND:
            raise StreamMissing(log.stream) from error
        raise


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


async def parked_runs(log: Log) -> list[RunInfo]:
    """The runs that are parked. Of all others no more is read than the state."""
    heads = await log.newest(await log.subjects_matching(f"{log.subjects.namespace}.run.*.state"))
    parked = []
    for subject, record in heads.items():
        state = decode_state(record.data, subject=subject)
        if state is not None and state["status"] == "parked":
            parked.append(subject.split(".")[2])
    infos: list[RunInfo] = []
    for page in chunks(parked, PAGE):
        infos += await _infos(log, page)
    return [info for info in infos if info.status == "parked"]


async def find_run(log: Log, run: str) -> RunInfo:
    """One run by its id, or by that of its workflow's task, which a handle on a run below another has.

    Raises ConfigError when there is none of that id, or it has not begun.
    """
    ref = Ref.parse(run, "x")
    if ref.run != ref.id:
        run = inner_run(ref)
    found = await _infos(log, [run], leader=True)
    if found:
        return found[0]
    own = [f"{log.subjects.namespace}.run.{ref.run}.{kind}.*.{ref.id}" for kind in ("task", "end")]
    if await log.newest(own):
        raise ConfigError(
            f"{quoted(str(ref))} is there, but not as a run that has begun: no coordinator has taken it up, or it is "
            "a task and no workflow; `roost tasks show` tells more"
        )
    raise ConfigError(
        f"there is no run {quoted(str(ref))} in {log.stream}; compare the namespace and the server; `roost runs ls` "
        "lists those there are"
    )


async def _infos(log: Log, runs: Sequence[str], *, leader: bool = False) -> list[RunInfo]:
    places = {run: RunSubjects(log.subjects.namespace, run) for run in runs}
    heads = await log.newest(
        [s for place in places.values() for s in (place.epoch, place.state)], leader=leader
    )
    refs: dict[str, tuple[Ref, dict[str, Any]]] = {}
    for run, place in places.items():
        record = heads.get(place.epoch)
        epoch = json_object(record) if record is not None else {}
        try:
            refs[run] = (Ref.parse(str(epoch.get("task", "")), str(epoch.get("workflow", ""))), epoch)
        except ConfigError as error:
            if record is not None:
                log.journal.record("record_unreadable", subject=record.subject, reason=str(error))
    own = await log.newest(
        [s for ref, _ in refs.values() for s in (log.subjects.task(ref), log.subjects.end(ref))],
        leader=leader,
    )
    infos = []
    gone = [
        run for run, (ref, _) in refs.items() if log.subjects.task(ref) not in own
    ]  # a cancelled one's is
    firsts = await asyncio.gather(*(_first(log, places[run].epoch) for run in gone))
    began = dict(zip(gone, firsts, strict=True))
    for run, (ref, epoch) in refs.items():
        end_record, task = own.get(log.subjects.end(ref)), own.get(log.subjects.task(ref))
        end = json_object(end_record) if end_record is not None else {}
        state = standing_of(heads.get(places[run].state), heads[places[run].epoch])
        infos.append(
            RunInfo(
                id=run,
                workflow=ref.name,
                task=str(ref),
                status=_status(end) if end_record is not None else state["status"] if state else "open",
                reason=str(end.get("reason", "")) if end else state["reason"] if state else "",
                begun_s=task.stored_s if task is not None else began[run],
                ended_s=end_record.stored_s if end_record is not None else None,
                by=str(epoch.get("by", "")),
            )
        )
    return infos


async def _first(log: Log, subject: str) -> float:
    """When the first record on a subject was stored, server time; 0 if there is none."""
    page = await log.page({"seq": 1, "next_by_subj": subject, "batch": 1})
    return page[0].stored_s if page else 0.0


def _status(end: dict[str, Any]) -> str:
    """Of an outcome; a stranger may have written it."""
    status = end.get("status")
    return status if status in ("done", "dead", "cancelled") else "unreadable"


def standing_of(record: Record | None, epoch: Record | None) -> StateRecord | None:
    """The state of a run without an outcome, if it is more than open."""
    state = decode_state(record.data, subject=record.subject) if record is not None else None
    if record is None or state is None or state["status"] not in ("parked", "cancelling"):
        return None
    if state["status"] == "parked" and epoch is not None and epoch.seq > record.seq:
        return None  # it has been taken up again since
    return state


def json_object(record: Record) -> dict[str, Any]:
    """The fields of a record; none if it holds no JSON object."""
    try:
        found = json.loads(record.data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


__all__ = [
    "FORK_TOKEN",
    "RunInfo",
    "attend",
    "find_run",
    "json_object",
    "list_runs",
    "parked_runs",
    "standing_of",
]
