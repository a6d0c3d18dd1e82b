"""Reading the log as an operator does: as it is, whatever the code asks for, and never creating anything.

A program creates the log it needs. Somebody who looks for a dead letter with a mistyped namespace must be told
that there is nothing, not get a new empty log; and who looks at a log that is configured otherwise needs to see
it all the more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from sys import intern
from typing import Any

from roost.errors import ConfigError, InvalidMessage, JetStreamError, StreamMissing
from roost.tasks.attempts import as_history, past_attempts
from roost.tasks.history import Attempt, Status, TaskHistory
from roost.tasks.log import READ_BATCH, Log, Record, chunks
from roost.tasks.marks import DEADLINE, begin_of, due_of
from roost.tasks.records import NoteRecord, Ref, Subjects, decode_note, end_codec
from roost.transport.jetstream import STREAM_NOT_FOUND

NEWEST = 20_000
"""Records that a reading of everything looks at: some 4 MB and 0.3 s, and more than a picture can show."""

Complain = Callable[[str, InvalidMessage], None]


async def attach(log: Log) -> None:
    """Use a log as it is. Raises StreamMissing when there is none."""
    try:
        await log._stream_info()
        log.link.jetstream.found_new()
    except JetStreamError as error:
        if error.err_code == STREAM_NOT_FOUND:
            raise StreamMissing(log.stream) from error
        raise
    log._ready = True


async def find_task(log: Log, id: str) -> Ref:
    """The task that an id names, as `Handle.id` gives it. Raises ConfigError when there is none."""
    ref = Ref.parse(id, "*")
    if "/" in id:
        found = [ref] if await log.last(log.subjects.task(ref), leader=True) is not None else []
    else:
        subjects = await log.subjects_matching(log.subjects.task(ref))
        found = [parsed[1] for parsed in map(log.subjects.parse, subjects) if parsed is not None]
    if not found:
        keyed = "" if ":" in id else f" (of one submitted with key={id!r} the id is TASK:{id})"
        raise ConfigError(
            f"there is no task {id!r} in {log.stream}{keyed}; compare the namespace and the server"
        )
    if len(found) > 1:
        several = ", ".join(f"{one.run}/{one.name}/{one.id}" for one in found[:5])
        raise ConfigError(f"{len(found)} tasks have the id {id!r}; name one in full: {several}")
    return found[0]


async def overdue(log: Log, *, behind_s: float) -> list[Ref]:
    """Tasks without an outcome whose own deadline passed more than `behind_s` seconds ago, the first due first.

    Raises the errors of reads.
    """
    before_ms, late = (log.now_s() - behind_s) * 1000, list[tuple[int, Ref]]()
    for subject in await log.subjects_matching(log.subjects.all_deadlines):
        parsed, due_s = log.subjects.parse(subject), due_of(((DEADLINE, subject.rpartition(".")[2]),))
        if parsed is not None and due_s is not None and due_s * 1000 < before_ms:
            late.append((round(due_s * 1000), parsed[1]))
    late.sort(key=lambda one: one[0])
    found: list[Ref] = []
    for page in chunks([ref for _, ref in late], READ_BATCH // 2):
        there = await log.newest(
            [at for ref in page for at in (log.subjects.task(ref), log.subjects.end(ref))]
        )
        for ref in page:
            # The header of the task decides: a stranger may have written the index.
            task = there.get(log.subjects.task(ref))
            due_s = due_of(task.marks) if task is not None else None
            if log.subjects.end(ref) not in there and due_s is not None and due_s * 1000 < before_ms:
                found.append(ref)
    return found


async def read_history(log: Log, ref: Ref) -> TaskHistory | None:
    """What happened to one task; None when it is not in the log."""
    subjects = log.subjects
    records = await log.newest([subjects.task(ref), subjects.note(ref, "*"), subjects.end(ref)], leader=True)
    found = histories(records.values(), subjects, _counting(log))
    return found[0] if found else None


async def read_histories(log: Log, *, newest: int = NEWEST) -> list[TaskHistory]:
    """What happened to the tasks in the newest records of the log, in the order of their submission."""
    info = await log._stream_info()
    first = max(1, int(info["state"]["last_seq"]) - newest + 1)
    records = await log.read_all(log.subjects.run("*"), start_seq=first)
    return histories(records, log.subjects, _counting(log))


def histories(records: Iterable[Record], subjects: Subjects, complain: Complain) -> list[TaskHistory]:
    """The histories of all tasks among `records`. Pure. `complain` hears of unreadable records."""
    found = Histories(subjects, complain)
    for record in records:
        found.add(record)
    return found.all()


class Histories:
    """Makes histories of records that come in log order, and keeps none of their payloads. Pure.

    A task is there by its input, and a cancelled one by its outcome: its input was removed, and when it was
    submitted is not known any more.
    """

    def __init__(self, subjects: Subjects, complain: Complain) -> None:
        self._subjects = subjects
        self._complain = complain
        self._codec = end_codec(Any)
        self._tasks: dict[Ref, tuple[float, int | None]] = {}  # when it was stored, and when it may begin
        self._ends: dict[Ref, _End] = {}
        self._notes: dict[Ref, list[tuple[int, NoteRecord]]] = {}

    def add(self, record: Record) -> None:
        kind, ref = self._subjects.parse(record.subject) or ("", None)
        try:
            if ref is None:
                return
            ref = Ref(intern(ref.run), intern(ref.name), ref.id)  # a run of 100,000 tasks has one name
            if kind == "task":
                self._tasks[ref] = record.stored_s, begin_of(record.marks)
            elif kind == "end":
                end = self._codec.decode(record.data, subject=record.subject)
                self._ends[ref] = _End(record.stored_s, end["status"], end.get("reason", ""), _ended(end))
            elif kind == "note":
                note = decode_note(record.data, subject=record.subject)
                self._notes.setdefault(ref, []).append((record.seq, note))
        except InvalidMessage as error:
            self._complain(record.subject, error)

    def all(self) -> list[TaskHistory]:
        """In the order of submission."""
        found = [self._history(ref, stored_s, begin_ms) for ref, (stored_s, begin_ms) in self._tasks.items()]
        for ref, end in self._ends.items():
            if end.status == "cancelled" and ref not in self._tasks:
                begun_s = [note["at"] for _, note in self._notes.get(ref, ())]
                found.append(self._history(ref, min([end.stored_s, *begun_s])))
        return sorted(found, key=lambda one: one.submitted_s)

    def _history(self, ref: Ref, stored_s: float, begin_ms: int | None = None) -> TaskHistory:
        end = self._ends.get(ref)
        attempts = end.attempts if end is not None else ()
        return TaskHistory(
            run=ref.run,
            name=ref.name,
            id=ref.id,
            submitted_s=stored_s,
            ended_s=end.stored_s if end is not None else None,
            status=end.status if end is not None else "open",
            reason=end.reason if end is not None else "",
            attempts=attempts or _noted(self._notes.get(ref, []), open=end is None),
            begins_s=begin_ms / 1000 if begin_ms is not None else None,
        )


@dataclass(frozen=True, slots=True)
class _End:
    stored_s: float
    status: Status
    reason: str
    attempts: tuple[Attempt, ...]


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
