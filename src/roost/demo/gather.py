"""What the workers found, read from the log: it holds every input and every outcome, so nobody has to collect them.

A coordinator that carried 10,000 results to the reporter would need a message of 10 MB, or a protocol for parts of
one, and would lose all of it with its process.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from pydantic import BaseModel

from roost.codec import Codec
from roost.contracts import Task
from roost.demo.contracts import Digest, LinkReport, digest, links
from roost.demo.report import DeadTask
from roost.errors import InvalidMessage
from roost.runs.reading import run_histories
from roost.tasks import Log, Ref, TaskHistory, end_codec
from roost.tasks.log import Record
from roost.tasks.records import Subjects


class _Input(BaseModel):
    """What the inputs of the tasks for files have; those of others have no path."""

    path: str = ""


@dataclass(slots=True)
class Findings:
    """All tasks of one run, its coordination included. There the id of a task for a file is that file's path."""

    digests: list[Digest] = field(default_factory=list)
    link_reports: list[LinkReport] = field(default_factory=list)
    dead: list[DeadTask] = field(default_factory=list)
    histories: list[TaskHistory] = field(default_factory=list)
    unreadable: list[tuple[str, InvalidMessage]] = field(default_factory=list)


async def gather(log: Log, run: str) -> Findings:
    """Every task of a run and what came of it, as the log has it now. Raises ConfigError if it has not begun."""
    told = await run_histories(log, run)
    records = await log.read_all(log.subjects.run(run))
    found = await asyncio.to_thread(find, log.subjects, records, told)  # seconds, if there are 10,000 files
    for subject, error in found.unreadable:
        log.journal.record("record_unreadable", subject=subject, reason=str(error))
    return found


def find(subjects: Subjects, records: Sequence[Record], told: Sequence[TaskHistory]) -> Findings:
    """`gather`, of records and histories that have been read. Pure."""
    found = Findings()
    inputs = Codec(_Input)
    paths: dict[Ref, str] = {}
    ends: dict[Ref, Record] = {}
    for record in records:
        kind, ref = subjects.parse(record.subject) or ("", None)
        if ref is None:
            continue
        if kind == "end":
            ends[ref] = record
        elif kind == "task" and ref.name in (digest.name, links.name):
            try:
                paths[ref] = inputs.decode(record.data, subject=record.subject).path
            except InvalidMessage as error:
                found.unreadable.append((record.subject, error))
    for history in told:
        ref = Ref(history.run, history.name, history.id)
        if ref not in paths:
            found.histories.append(replace(history, id=history.name))
            continue
        path = paths[ref]
        found.histories.append(replace(history, id=path))
        if history.status == "dead":
            found.dead.append(
                DeadTask(task=ref.name, path=path, reason=history.reason, attempts=len(history.attempts))
            )
        elif history.status == "done":
            try:
                if ref.name == digest.name:
                    found.digests.append(_value(digest, ends[ref]))
                else:
                    found.link_reports.append(_value(links, ends[ref]))
            except InvalidMessage as error:
                found.unreadable.append((ends[ref].subject, error))
    return found


_codecs: dict[str, Codec[Any]] = {}


def _value(task: Task[Any, Any], end: Record) -> Any:
    codec = _codecs.get(task.name)
    if codec is None:
        codec = _codecs[task.name] = end_codec(task.output)
    return codec.decode(end.data, subject=end.subject)["value"]
