"""Cancelling a task, or a run and all below it.

A cancelled task's outcome is written under the same guard as any other, so it wins or loses against a
worker that finishes at the same moment; then its message is removed, so that what is queued never runs.
Workers are told by a plain message and look at the record before they believe it.

A run is cancelled from its state downwards: the mark `cancelling` and a new epoch that stops its coordinator, in
one commit; then what is below; then itself. Whoever begins may die at any point: the run's next delivery finds
the mark, or the outcome, and finishes.
"""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import Sequence

from roost.errors import ConfigError, JetStreamError, RoostError
from roost.runs.epoch import TRANSIENT, commit_in_turn, pause
from roost.runs.records import EpochRecord, RunSubjects, StateRecord, encode, inner_run
from roost.tasks.batch import Write, guarded
from roost.tasks.log import Log, Record, chunks
from roost.tasks.records import Ref, encode_cancelled
from roost.transport.headers import block
from roost.transport.jetstream import WRONG_LAST_SEQUENCE

AT_ONCE = 16
"""Tasks that are cancelled side by side."""
PAGE = 200


class Stopped(Exception):
    """The workflow was cancelled."""

    def __init__(self, *, by: str, reason: str) -> None:
        self.by = by
        self.reason = reason
        super().__init__(f"cancelled by {by}" + (f": {reason}" if reason else ""))


async def cancel(log: Log, ref: Ref, *, by: str, reason: str) -> bool:
    """Cancel a task, or a workflow with all below it. False when it had an outcome already.

    Raises ConfigError when there is no such task; the errors of reads and writes: then part of it may have
    been done, and it is repeated by the run's coordinator, or by calling this again.
    """
    task = await log.last(log.subjects.task(ref), leader=True)
    if await log.last(log.subjects.end(ref), leader=True) is not None:
        return False
    if task is None:
        raise ConfigError(
            f"there is no task {ref} in namespace {log.subjects.namespace}; nothing was cancelled"
        )
    epoch = await log.last(RunSubjects(log.subjects.namespace, inner_run(ref)).epoch, leader=True)
    return await Canceller(log, by=by, reason=reason).one(ref, task.seq, begun=epoch is not None)


async def finish(log: Log, ref: Ref, seq: int, *, by: str, reason: str) -> None:
    """Go on where somebody who was cancelling a run has stopped: `ref` is its workflow's task."""
    canceller = Canceller(log, by=by, reason=reason)
    await canceller.below(inner_run(ref), again=True)
    await canceller.end(ref, seq)


async def finish_below(log: Log, ref: Ref, end: bytes) -> None:
    """Go on below a workflow whose outcome is `end`, if that says that it was cancelled."""
    if not end.startswith(b'{"status":"cancelled"'):
        return
    try:
        said = json.loads(end)
        by, reason = str(said["by"]), str(said["reason"])
    except (ValueError, KeyError, RecursionError):
        by, reason = "?", ""
    await Canceller(log, by=by, reason=reason).below(inner_run(ref), again=True)


class Canceller:
    """Cancels whatever it is told to, with one name and reason."""

    def __init__(self, log: Log, *, by: str, reason: str) -> None:
        self._log = log
        self._by = by
        self._reason = reason
        self._turn = asyncio.Semaphore(AT_ONCE)

    async def one(self, ref: Ref, seq: int, *, begun: bool) -> bool:
        """Cancel a task that is stored as `seq`, and what is below it if it has `begun` to coordinate a run."""
        log = self._log
        if begun:
            async with self._turn:
                if not await self._mark(ref, seq):
                    return False
                self._tell(ref)
            await self.below(inner_run(ref))
        won = await self.end(ref, seq)
        if won and not begun:
            async with self._turn:
                epoch = await log.last(RunSubjects(log.subjects.namespace, inner_run(ref)).epoch, leader=True)
            if epoch is not None:  # it began while its outcome was being written
                await self.below(inner_run(ref), fence=ref)
        async with self._turn:
            if won:
                await self._remove(ref)
            self._tell(ref)
        return won

    async def below(self, run: str, *, fence: Ref | None = None, again: bool = False) -> None:
        """Cancel whatever in a run has no outcome yet, and what is below that; the newest first.

        Workers take the oldest first, so most of what is queued is reached before they are. With `fence` the
        coordinator of the run, whose workflow's task that is, is stopped before. With `again` somebody has
        begun with it, and may have left any task half cancelled.
        """
        log, subjects = self._log, RunSubjects(self._log.subjects.namespace, run)
        if fence is not None:
            async with self._turn:
                await self._stop(fence)
        ended = {s.split(".", 4)[4] for s in await log.subjects_matching(subjects.all_of("end"))}
        open: list[str] = []
        over: list[str] = []
        for subject in await log.subjects_matching(subjects.tasks):
            (over if subject.split(".", 4)[4] in ended else open).append(subject)
        for part in chunks(open[::-1], PAGE):
            await self._some(part, run)
        if again:
            for part in chunks(over, PAGE):
                await self._half_cancelled(part, run)

    async def _half_cancelled(self, subjects: Sequence[str], run: str) -> None:
        """Remove the messages of tasks that ended as cancelled, and go on below them."""
        log = self._log
        refs = [parsed[1] for s in subjects if (parsed := log.subjects.parse(s)) and parsed[1].id != run]
        ends = await log.newest([log.subjects.end(ref) for ref in refs], leader=True)
        for ref in refs:
            end = ends.get(log.subjects.end(ref))
            if end is None or not end.data.startswith(b'{"status":"cancelled"'):
                continue
            epoch = await log.last(RunSubjects(log.subjects.namespace, inner_run(ref)).epoch, leader=True)
            if epoch is not None:
                await self.below(inner_run(ref), fence=ref, again=True)
            await self._remove(ref)

    async def _remove(self, ref: Ref) -> None:
        """What is queued must not run: a worker looks for an outcome only when a task is delivered again."""
        await self._log.link.jetstream.call(
            f"STREAM.PURGE.{self._log.stream}", {"filter": self._log.subjects.task(ref)}
        )

    async def _some(self, subjects: Sequence[str], run: str) -> None:
        log = self._log
        stored = await log.newest(subjects)
        refs: dict[Ref, Record] = {}
        for subject in subjects:
            record = stored.get(subject) or await log.last(subject, leader=True)
            parsed = log.subjects.parse(subject)
            if record is not None and parsed is not None and parsed[1].id != run:
                refs[parsed[1]] = record
        epochs = {ref: RunSubjects(log.subjects.namespace, inner_run(ref)).epoch for ref in refs}
        begun = await log.newest(list(epochs.values())) if epochs else {}
        newest_first = sorted(refs.items(), key=lambda pair: -pair[1].seq)
        try:
            async with asyncio.TaskGroup() as group:
                for ref, record in newest_first:
                    group.create_task(
                        self.one(ref, record.seq, begun=epochs[ref] in begun), name="roost-cancel"
                    )
        except BaseExceptionGroup as several:
            errors = [error for error in several.exceptions if isinstance(error, RoostError)]
            raise (errors[0] if errors else several) from None

    async def end(self, ref: Ref, seq: int) -> bool:
        """Write `cancelled` as a task's outcome; False if another stands, or the task is gone."""
        log = self._log
        token = secrets.token_hex(8)
        data = encode_cancelled(token, self._by, self._reason)
        newest: int | None = seq
        tries = 0
        while newest is not None:
            head = block(*guarded(log.subjects.guard(ref), newest))
            try:
                async with self._turn:
                    await log.link.jetstream.publish(log.subjects.end(ref), data, head)
                return True
            except JetStreamError as error:
                if error.err_code == WRONG_LAST_SEQUENCE:
                    there = await log.last(log.subjects.end(ref), leader=True)
                    if there is not None:  # ours, or that of somebody who cancels it as well
                        return there.data.startswith(b'{"status":"cancelled"')
                    newest = await self._guard(ref, seq)
                elif error.err_code not in TRANSIENT:
                    raise
            await pause(tries)
            tries += 1
        return False

    async def _mark(self, ref: Ref, seq: int) -> bool:
        """Mark a run as being cancelled and stop its coordinator, at once; False if it has an outcome."""
        log = self._log
        subjects = RunSubjects(log.subjects.namespace, inner_run(ref))
        mark: StateRecord = {
            "status": "cancelling",
            "at": round(log.now_s(), 6),
            "by": self._by,
            "reason": self._reason,
        }
        newest: int | None = seq
        tries = 0
        while newest is not None:
            before = await log.last(subjects.epoch, leader=True)
            writes = [
                Write(subjects.state, encode(mark), guarded(log.subjects.guard(ref), newest)),
                self._epoch(ref, before.seq if before is not None else 0),
            ]
            try:
                await commit_in_turn(log, writes)
                return True
            except JetStreamError as error:
                if error.err_code == WRONG_LAST_SEQUENCE:
                    newest = await self._guard(ref, seq)
                elif error.err_code not in TRANSIENT:
                    raise
            await pause(tries)
            tries += 1
        return False

    async def _stop(self, ref: Ref) -> None:
        """Stop the coordinator of a run whose workflow has an outcome."""
        log = self._log
        subject = RunSubjects(log.subjects.namespace, inner_run(ref)).epoch
        tries = 0
        while True:
            before = await log.last(subject, leader=True)
            write = self._epoch(ref, before.seq if before is not None else 0)
            try:
                await commit_in_turn(log, [write])
                return
            except JetStreamError as error:
                if error.err_code != WRONG_LAST_SEQUENCE and error.err_code not in TRANSIENT:
                    raise
            await pause(tries)
            tries += 1

    def _epoch(self, ref: Ref, before: int) -> Write:
        record: EpochRecord = {
            "token": secrets.token_hex(8),
            "by": self._by,
            "at": round(self._log.now_s(), 6),
            "workflow": ref.name,
            "task": str(ref),
        }
        subject = RunSubjects(self._log.subjects.namespace, inner_run(ref)).epoch
        return Write(subject, encode(record), (("Nats-Expected-Last-Subject-Sequence", str(before)),))

    async def _guard(self, ref: Ref, seq: int) -> int | None:
        """The newest sequence under the guard of a task's outcome; None if it has one, or is gone.

        Other records than its own may stand there, of strangers: they do not keep it from being cancelled.
        """
        log = self._log
        task = await log.last(log.subjects.task(ref), leader=True)
        if task is None or task.seq != seq or await log.last(log.subjects.end(ref), leader=True) is not None:
            return None
        found = await log.newest([log.subjects.guard(ref)])
        return max((record.seq for record in found.values()), default=seq)

    def _tell(self, ref: Ref) -> None:
        """Tell the worker; one that does not hear it finds out when it writes."""
        try:
            self._log.link.client.send(self._log.subjects.cancel(ref))
        except RoostError as error:
            self._log.journal.count(f"cancel_not_told:{type(error).__name__}")
