"""Reading the log as an operator does: as it is, whatever the code asks for, and never creating anything.

A program creates the log it needs. Somebody who looks for a dead letter with a mistyped namespace must be told
that there is nothing, not get a new empty log; and who looks at a log that is configured otherwise needs to see
it all the more.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

from roost.errors import ConfigError, InvalidMessage, JetStreamError, StreamMissing
from roost.tasks.attempts import as_history, past_attempts
from roost.tasks.history import Attempt, Status, TaskHistory
from roost.tasks.log import Log, Record
from roost.tasks.records import NoteRecord, Ref, Subjects, decode_note, end_codec
from roost.transport.jetstream import STREAM_NOT_FOUND

NEWEST = 20_000
"""Records that a reading of everything looks at: some 4 MB and 0.3 s, and more than a picture can show."""

Complain = Callable[[str, InvalidMessage], None]


async def attach(log: Log) -> None:
    """Use a log as it is. Raises StreamMissing when there is none."""
    try:
        await log._stream_info()
    except JetStreamError as error:
        if error.err_code == STREAM_NOT_FOUND:
            raise StreamMissing(log.stream) from error
        raise
    log._ready = True


async def find_task(log: Log, id: str) -> Ref:
    """The task that an id names, as `Handle.id` gives it. Raises ConfigError when there is none."""
    ref = Ref.parse(id, "*")
    if "/" in id:
        found = [ref] if await log.last(log.subjects.task(ref)) is not None else []
    else:
        subjects = await log.subjects_matching(log.subjects.task(ref))
        found = [parsed[1] for parsed in map(log.subjects.parse, subjects) if parsed is not None]
    if not found:
        raise ConfigError(f"there is no task {id!r} in {log.stream}; compare the namespace and the server")
    if len(found) > 1:
        several = ", ".join(f"{one.run}/{one.name}/{one.id}" for one in found[:5])
        raise ConfigError(f"{len(found)} tasks have the id {id!r}; name one in full: {several}")
    return found[0]


async def read_history(log: Log, ref: Ref) -> TaskHistory | None:
    """What happened to one task; None when it is not in the log."""
    subjects = log.subjects
    records = await log.newest([subjects.task(ref), subjects.note(ref, "*"), subjects.end(ref)])
    found = histories(records.values(), subjects, _counting(log))
    return found[0] if found else None


async def read_histories(log: Log, *, newest: int = NEWEST) -> list[TaskHistory]:
    """What happened to the tasks in the newest records of the log, in the order of their submission."""
    info = await log._stream_info()
    first = max(1, int(info["state"]["last_seq"]) - newest + 1)
    records = await log.read_all(log.subjects.run("*"), start_seq=first)
    return histories(records, log.subjects, _counting(log))


def histories(records: Iterable[Record], subjects: Subjects, complain: Complain) -> list[TaskHistory]:
    """The histories of all tasks whose input is among `records`. Pure. `complain` hears of unreadable records."""
    codec = end_codec(Any)
    tasks: dict[Ref, float] = {}
    ends: dict[Ref, tuple[float, Any]] = {}
    notes: dict[Ref, list[tuple[int, NoteRecord]]] = defaultdict(list)
    for record in records:
        kind, ref = subjects.parse(record.subject) or ("", None)
        try:
            if ref is None:
                continue
            if kind == "task":
                tasks[ref] = record.stored_s
            elif kind == "end":
                ends[ref] = (record.stored_s, codec.decode(record.data, subject=record.subject))
            elif kind == "note":
                notes[ref].append((record.seq, decode_note(record.data, subject=record.subject)))
        except InvalidMessage as error:
            complain(record.subject, error)
    found = [_history(ref, stored_s, notes[ref], ends.get(ref)) for ref, stored_s in tasks.items()]
    return sorted(found, key=lambda one: one.submitted_s)


def _history(
    ref: Ref, stored_s: float, notes: list[tuple[int, NoteRecord]], end: tuple[float, Any] | None
) -> TaskHistory:
    status: Status = end[1]["status"] if end is not None else "open"
    return TaskHistory(
        run=ref.run,
        name=ref.name,
        id=ref.id,
        submitted_s=stored_s,
        ended_s=end[0] if end is not None else None,
        status=status,
        reason=end[1].get("reason", "") if end is not None else "",
        attempts=_ended(end[1])
        if end is not None and end[1]["attempts"]
        else _noted(notes, open=end is None),
    )


def _ended(end: Any) -> tuple[Attempt, ...]:
    last = len(end["attempts"]) - 1 if end["status"] == "done" else -1
    return tuple(as_history(one, done=number == last) for number, one in enumerate(end["attempts"]))


def _noted(notes: list[tuple[int, NoteRecord]], *, open: bool) -> tuple[Attempt, ...]:
    """The attempts of a task without an outcome; the last may be at work just now."""
    past = past_attempts(note for _, note in sorted(notes, key=lambda one: one[0]))
    if open and past:
        past[-1].pop("lost", None)
    return tuple(map(as_history, past))


def _counting(log: Log) -> Complain:
    def complain(subject: str, error: InvalidMessage) -> None:
        log.journal.record("record_unreadable", subject=subject, reason=str(error))

    return complain
