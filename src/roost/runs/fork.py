"""Forking: a new run that takes over what another has on record before one of its operations.

The original is only read. What is copied are records as they are, so the new run resumes from them like any
run resumes: up to the operation nothing is done again, from there on all is done anew, perhaps by other code.

Whoever forks may die at any point. So what has an outcome is copied first, together with that, which nobody acts
upon; and what somebody would act upon (tasks without an outcome, the workflow's own) comes last, in one commit.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from roost._text import clean, quoted
from roost.errors import ConfigError, InvalidMessage, JetStreamError, RequestTimeout
from roost.observe import Trace
from roost.runs.epoch import SILENCE, TAKE_S, TRANSIENT, UNSENT, pause
from roost.runs.listing import FORK_TOKEN, find_run
from roost.runs.records import EpochRecord, RunSubjects, StepRecord, decode_step, encode, inner_run, op_token
from roost.subjects import token
from roost.tasks.batch import Pairs, Write, commit, create_once
from roost.tasks.log import Log, Record
from roost.tasks.marks import OBJECT, renewed
from roost.tasks.provision import RESERVE
from roost.tasks.records import Ref
from roost.tasks.references import is_large, pointing_to
from roost.tasks.storing import put_object
from roost.tasks.submit import RECORD_BYTES, new_id
from roost.transport.jetstream import WRONG_LAST_SEQUENCE

PART = 200
PART_BYTES = 1024 * 1024
"""Of one commit of what has an outcome, as of a fan-out's parts."""
MOST_OPEN = 900
MOST_OPEN_BYTES = 3 * 1024 * 1024
"""Of the last commit: the server takes 1,000 records in one, and the client 4 MiB at once."""
COPIED = ("Roost-Copied", "1")
"""Header of a task that was copied with its outcome: a worker looks before it runs it."""
LISTED = 30
"""Operations that an error names."""


async def fork_run(
    log: Log, run: str, *, before: str, workflow: str | None = None, timeout_s: float = 60.0
) -> Ref:
    """Start a run with what `run` has on record before operation `before`; returns its task.

    Before it is what was recorded before it: results of steps, signals that were taken, tasks with their
    outcomes. A task that was submitted before it and has no outcome is done anew. `workflow` may name another
    contract with the same input (another version).

    Raises ConfigError when the run or the operation is not on record, or too much of it is unfinished;
    StoreFull; InvalidMessage when a large payload is lost; RequestTimeout after `timeout_s` seconds: then the run
    was not started, unless the last answer was lost.
    """
    await log.ensure()
    info = await find_run(log, run)
    original = Ref.parse(info.task, info.workflow)
    name = token(workflow if workflow is not None else original.name, name="workflow")
    input = await log.last(log.subjects.task(original), leader=True)
    if input is None:
        raise ConfigError(
            f"the input of run {info.id} is gone, because it was cancelled; it cannot be forked, start it anew"
        )
    kept = await _before(log, info.id, original, before)
    if await log.last(RunSubjects(log.subjects.namespace, info.id).epoch, leader=True) is None:
        raise ConfigError(
            f"run {info.id} was removed while it was read, for its retention is over; nothing was forked"
        )
    ref = _new_ref(name)
    target = inner_run(ref)
    moved = _Moved(log, info.id, target)
    open = moved.open(kept)
    for at, record in enumerate(kept.records):
        kept.records[at] = await moved.own_object(record, moved.subject(record), timeout_s)
    given = await moved.own_object(input, log.subjects.task(ref), timeout_s)
    settled = moved.settled(kept, open)
    last = [moved.write(record) for record in kept.records if record.seq in open]
    size = sum(len(write.data) + RECORD_BYTES for write in last)
    if len(last) > MOST_OPEN or size > MOST_OPEN_BYTES:
        raise ConfigError(
            f"run {info.id} has {len(last):,} tasks before {quoted(before)} that are not done, which is more than can "
            "be started at once; fork it when more of them are done, or from an earlier operation"
        )
    last += [
        Write(RunSubjects(log.subjects.namespace, target).epoch, _epoch(log, info.id, ref), create_once("")),
        Write(
            log.subjects.task(ref),
            given.data,
            (*create_once(Trace.new().header), *renewed(given.marks, None), *_object_mark(given.marks)),
        ),
    ]
    await _make_room(log, name, [*last, *(write for unit in settled for write in unit)])
    until = time.monotonic() + timeout_s
    for part in _parts(settled):
        await _store(log, part, until)
    await _store(log, last, until)
    return ref


def _new_ref(name: str) -> Ref:
    id = f"{name}:{new_id()}"
    return Ref(id, name, id)


def _epoch(log: Log, run: str, ref: Ref) -> bytes:
    """Nobody's epoch: the first coordinator finds that there is something to resume."""
    record: EpochRecord = {
        "token": FORK_TOKEN,
        "by": f"fork of {run}",
        "at": round(log.now_s(), 6),
        "workflow": ref.name,
        "task": str(ref),
    }
    return encode(record)


# What is kept ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Kept:
    """Records before an operation, in log order, and the tasks among them that have outcomes."""

    records: list[Record]
    ended: set[Ref]


async def _before(log: Log, run: str, own: Ref, operation: str) -> _Kept:
    """What a run has on record before one of its operations, with the outcomes of its tasks."""
    subjects = RunSubjects(log.subjects.namespace, run)
    prefix = subjects.step("")
    steps: dict[str, tuple[Record, StepRecord]] = {}  # by token
    tasks: dict[Ref, Record] = {}
    ends: dict[Ref, Record] = {}
    signals: list[Record] = []
    for record in await log.read_all(log.subjects.run(run)):
        parsed = log.subjects.parse(record.subject)
        if record.subject.startswith(prefix):
            try:
                step = decode_step(record.data, subject=record.subject)
            except InvalidMessage as error:
                log.journal.record("record_unreadable", subject=record.subject, reason=str(error))
                continue
            steps[record.subject[len(prefix) :]] = record, step
        elif record.subject.startswith(subjects.signal("")):
            signals.append(record)
        elif parsed is not None and parsed[1] != own and parsed[0] in ("task", "end"):
            (tasks if parsed[0] == "task" else ends)[parsed[1]] = record
    wanted = op_token(operation)
    begun = _begun(wanted, steps, tasks)
    if begun is None:
        names = _names(steps, tasks)
        more = f" and {len(names) - LISTED} more" if len(names) > LISTED else ""
        raise ConfigError(
            f"run {run} has no operation {quoted(operation)} on record; it has "
            + (clean(", ".join(names[:LISTED]), 2000) + more if names else "none yet")
        )
    taken_after = {
        step.get("seq", 0)
        for op, (record, step) in steps.items()
        if record.seq >= begun or op.partition(":")[0] == wanted
    }
    taken = {step.get("seq", 0) for _, step in steps.values()} - taken_after
    kept = [record for op, (record, _) in steps.items() if record.seq < begun and _is_whole(op, steps, begun)]
    # A signal of the operation itself was for what is now done anew.
    own_signal = steps[wanted][1].get("seq", 0) if wanted in steps else 0
    kept += [one for one in signals if one.seq < begun and one.seq not in taken and one.seq != own_signal]
    mine = {ref for ref, record in tasks.items() if record.seq < begun}
    # The message of a cancelled task is removed; its place in the log is that of its outcome.
    mine |= {ref for ref, end in ends.items() if ref not in tasks and end.seq < begun}
    kept += [tasks[ref] for ref in mine if ref in tasks] + [ends[ref] for ref in mine if ref in ends]
    return _Kept(sorted(kept, key=lambda record: record.seq), mine & ends.keys())


def _begun(wanted: str, steps: dict[str, tuple[Record, StepRecord]], tasks: dict[Ref, Record]) -> int | None:
    """The sequence of an operation's first record; the tasks of a fan-out's first part stand before its plan."""
    found = [record.seq for op, (record, _) in steps.items() if op.partition(":")[0] == wanted]
    planned = f"{wanted}:0" in steps
    found += [
        record.seq
        for ref, record in tasks.items()
        if ref.id == wanted or (planned and ref.id.partition(":")[0] == wanted)
    ]
    return min(found, default=None)


def _is_whole(op: str, steps: dict[str, tuple[Record, StepRecord]], begun: int) -> bool:
    """Whether a step record is of use by itself: that a wait began is not, without how it ended."""
    name, _, rest = op.partition(":")
    return rest != "wait" or (name in steps and steps[name][0].seq < begun)


def _names(steps: dict[str, tuple[Record, StepRecord]], tasks: dict[Ref, Record]) -> list[str]:
    """The operations of a run in the order of their first records; a call is known by its task alone."""
    first: dict[str, int] = {}
    for record, step in steps.values():
        first[step["op"]] = min(record.seq, first.get(step["op"], record.seq))
    for ref, record in tasks.items():
        if ":" not in ref.id:
            first[ref.id] = record.seq
    return sorted(first, key=lambda name: first[name])


# Writing it -----------------------------------------------------------------------------------------


class _Moved:
    """Where the records of the original go."""

    def __init__(self, log: Log, run: str, target: str) -> None:
        self._log = log
        self._prefix = len(f"{log.subjects.namespace}.run.{run}.")
        self._target = f"{log.subjects.namespace}.run.{target}."

    def open(self, kept: _Kept) -> set[int]:
        """The sequences of what must come last: tasks without outcomes, and signals, which have no guard of their
        own, so that a commit of them alone could be stored twice.
        """
        found = set()
        for record in kept.records:
            parsed = self._log.subjects.parse(record.subject)
            kind = record.subject[self._prefix :].partition(".")[0]
            if kind == "signal" or (kind == "task" and (parsed is None or parsed[1] not in kept.ended)):
                found.add(record.seq)
        return found

    def settled(self, kept: _Kept, open: set[int]) -> list[list[Write]]:
        """What has an outcome, in log order, but a task right before its outcome, and both in one unit.

        A worker that gets the task finds the outcome there, and a coordinator finds it to be newer.
        """
        units: list[list[Write]] = []
        tasks: dict[Ref, Write] = {}
        for record in kept.records:
            parsed = self._log.subjects.parse(record.subject)
            if record.seq in open:
                continue
            if parsed is not None and parsed[0] == "task":
                tasks[parsed[1]] = self.write(record)
            elif parsed is not None and parsed[1] in tasks:
                units.append([tasks.pop(parsed[1]), self.write(record)])
            else:
                units.append([self.write(record)])
        return units

    def subject(self, record: Record) -> str:
        return self._target + record.subject[self._prefix :]

    async def own_object(self, record: Record, subject: str, timeout_s: float) -> Record:
        """A record whose payload is an object, with one of its own: that of the original goes with its run."""
        if not is_large(record.marks):
            return record
        payload = await self._log.objects.fetch(record.subject, record.data)
        reference = await put_object(self._log, subject, payload, patience_s=timeout_s, share=RESERVE)
        others = tuple(pair for pair in record.marks if pair[0] != OBJECT)
        return replace(record, data=pointing_to(record.data, reference), marks=(*others, *reference.marks))

    def write(self, record: Record) -> Write:
        kind = record.subject[self._prefix :].partition(".")[0]
        headers: Pairs = () if kind == "signal" else create_once("")
        if kind == "task":
            headers = (*headers, COPIED, *renewed(record.marks, None))
        return Write(self.subject(record), record.data, (*headers, *_object_mark(record.marks)))


def _object_mark(marks: Pairs) -> Pairs:
    return tuple(pair for pair in marks if pair[0] == OBJECT)


async def _make_room(log: Log, name: str, writes: Sequence[Write]) -> None:
    """Raises StoreFull."""
    size = sum(len(write.data) + RECORD_BYTES for write in writes)
    await log.room.take(name, 1, size)
    log.room.landed(size)


def _parts(units: Sequence[Sequence[Write]]) -> list[list[Write]]:
    """Units, of which none is divided, put together to commits."""
    parts: list[list[Write]] = []
    size = 0
    for unit in units:
        more = sum(len(write.data) + RECORD_BYTES for write in unit)
        if not parts or len(parts[-1]) + len(unit) > PART or size + more > PART_BYTES:
            parts.append([])
            size = 0
        parts[-1] += unit
        size += more
    return parts


async def _store(log: Log, part: Sequence[Write], until: float) -> None:
    """Store all of a commit or nothing, repeating through outages.

    Nobody else knows the run's id, so a guard that does not hold says that an earlier try was stored.
    """
    tries = 0
    while True:
        try:
            await commit(log.link, part, timeout_s=TAKE_S)
            return
        except JetStreamError as error:
            if error.err_code == WRONG_LAST_SEQUENCE and tries:
                return
            if error.err_code not in TRANSIENT:
                raise
        except (*SILENCE, *UNSENT) as error:
            log.journal.record("record_delayed", subject=part[-1].subject, reason=str(error))
        if time.monotonic() > until:
            raise RequestTimeout(f"the fork that begins with {part[0].subject}", TAKE_S * tries)
        await pause(tries)
        tries += 1
