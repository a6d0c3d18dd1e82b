"""Forking: a new run that takes over what another has on record before one of its operations.

The original is only read. What is copied are records as they are, so the new run resumes from them like any
run resumes: up to the operation nothing is done again, from there on all is done anew, perhaps by other code.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from roost.errors import ConfigError
from roost.observe import Trace
from roost.runs.epoch import TAKE_S, pause
from roost.runs.reading import find_run
from roost.runs.records import RunSubjects, chunk_token, inner_run, op_token
from roost.tasks.batch import Write, commit, create_once
from roost.tasks.log import Log, Record, chunks
from roost.tasks.records import Ref
from roost.tasks.submit import Item, Submitter, new_id

PART = 200
COPIED = ("Roost-Copied", "1")
"""Header of a task that was copied with its outcome: a worker looks before it runs it."""


async def fork_run(
    log: Log, run: str, *, before: str, workflow: str | None = None, timeout_s: float = 30.0
) -> Ref:
    """Start a run with what `run` has on record before operation `before`; returns its task.

    `workflow` may name another contract with the same input (another version). Raises ConfigError when
    the run or the operation is not on record.
    """
    await log.ensure()
    info = await find_run(log, run)
    original = Ref.parse(info.task, info.workflow)
    task = await log.last(log.subjects.task(original), leader=True)
    if task is None:
        raise ConfigError(f"the input of run {run!r} is gone (it was cancelled); it cannot be forked")
    name = workflow if workflow is not None else original.name
    id = f"{name}:{new_id()}"
    target = Ref(id, name, id)
    kept = await _before(log, run, original, before)
    writes = [
        Write(subject, record.data, headers)
        for record in kept
        if (found := _moved(log, record.subject, run, inner_run(target))) is not None
        for subject, headers in [found]
    ]
    # Outcomes first: a task that a worker sees must have its outcome there already.
    writes.sort(key=lambda write: ".task." in write.subject)
    for part in chunks(writes, PART):
        tries = 0
        while True:
            try:
                async with asyncio.timeout(timeout_s):
                    await commit(log.link, part, timeout_s=TAKE_S)
                break
            except ConnectionError:
                if tries > 5:
                    raise
                await pause(tries)
                tries += 1
    # An epoch that nobody holds: the first coordinator finds that there is something to resume.
    epoch = {
        "token": "fork",
        "by": f"fork of {run}",
        "at": round(log.now_s(), 6),
        "workflow": name,
        "task": id,
    }
    await log.link.jetstream.publish(
        RunSubjects(log.subjects.namespace, inner_run(target)).epoch, json.dumps(epoch).encode()
    )
    await Submitter(log).submit(Item(target, task.data, Trace.new().header), timeout_s=timeout_s)
    return target


async def _before(log: Log, run: str, own: Ref, operation: str) -> list[Record]:
    """What a run has on record before one of its operations, with the outcomes of its tasks, in log order."""
    subjects = RunSubjects(log.subjects.namespace, run)
    token = op_token(operation)
    records = [
        record
        for record in await log.read_all(f"{log.subjects.namespace}.run.{run}.>")
        if record.subject not in (log.subjects.task(own), log.subjects.end(own))
    ]
    marks = {subjects.step(token), subjects.step(chunk_token(token, 0)), subjects.step(f"{token}:wait")}
    at = None
    for record in records:
        parsed = log.subjects.parse(record.subject)
        called = parsed is not None and parsed[0] == "task" and parsed[1].id == token
        if record.subject in marks or called:
            at = record.seq
            break
    if at is None:
        known = sorted({_name(r) for r in records if r.subject.startswith(subjects.step(""))} - {""})
        raise ConfigError(
            f"run {run!r} has no operation {operation!r} on record; it has {', '.join(known) or 'none'}, and its calls"
        )
    if marks & {record.subject for record in records if record.seq == at}:
        # The tasks of a fan-out's first part stand before its plan, in the same commit.
        at = min([r.seq for r in records if f".{token}:" in r.subject], default=at)
    earlier = [record for record in records if record.seq < at]
    taken = {_taken(record) for record in earlier if record.subject.startswith(subjects.step(""))}
    tasks = {p[1] for r in earlier if (p := log.subjects.parse(r.subject)) and p[0] == "task"}
    kept = [r for r in records if (p := log.subjects.parse(r.subject)) and p[0] == "end" and p[1] in tasks]
    for record in earlier:
        kind = record.subject.split(".")[3]
        if kind in ("step", "task") or (kind == "signal" and record.seq not in taken):
            kept.append(record)
    return sorted(kept, key=lambda record: record.seq)


def _moved(log: Log, subject: str, run: str, target: str) -> tuple[str, Any] | None:
    """Where a record of the original goes in the fork, and with which headers."""
    prefix = f"{log.subjects.namespace}.run.{run}."
    if not subject.startswith(prefix):
        return None
    headers = create_once("")
    if subject[len(prefix) :].startswith("task."):
        headers = (*headers, COPIED)
    elif subject[len(prefix) :].startswith("signal."):
        headers = ()
    return f"{log.subjects.namespace}.run.{target}.{subject[len(prefix) :]}", headers


def _name(record: Record) -> str:
    return str(_object(record).get("op", ""))


def _taken(record: Record) -> Any:
    """The sequence of the signal that a step record stands for."""
    return _object(record).get("seq")


def _object(record: Record) -> dict[str, Any]:
    try:
        found = json.loads(record.data)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
