"""Submission: a task's input is stored once, and it is known whether it was.

Every write is create-once, so repeating it can never double a task. A refusal with error 10071 after an
unknown outcome usually means that our own first try was stored: the record is read and compared before
anybody is told of a conflict.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from roost.errors import (
    Conflict,
    Disconnected,
    JetStreamError,
    NoResponders,
    NotConnected,
    PermissionDenied,
    RequestTimeout,
    RoostError,
    StoreFull,
    StreamMissing,
    SubmissionUnknown,
    TooLarge,
)
from roost.tasks.absent import Absence
from roost.tasks.batch import Pairs, Write, commit, create_once
from roost.tasks.deadlines import deadline_subject
from roost.tasks.delays import Delays
from roost.tasks.log import Log, Record, chunks
from roost.tasks.marks import begin_of, order_of
from roost.tasks.order import ORDER_BYTES, Order, Queue, place_of
from roost.tasks.provision import RESERVE
from roost.tasks.records import Ref, Subjects
from roost.tasks.references import INLINE_BYTES, Reference, is_large, same_payload
from roost.tasks.storing import newest, put_object
from roost.transport.headers import block
from roost.transport.jetstream import (
    STORE_FULL,
    TOO_MANY_BATCHES,
    WRONG_LAST_SEQUENCE,
    WRONG_LAST_SEQUENCE_PENDING,
)

BATCH = 250
"""Records per atomic batch: the server takes 1,000, but a batch holds up other writers while it commits
(26 ms at 1,000, a few at 100-500), and one of 250 already amortises its fixed 2 ms."""
RECORD_BYTES = 340
"""About what a stored task takes beside its payload: subject, guard and trace, the store's own."""
BATCHES_IN_FLIGHT = 2
TRY_S = 5.0
"""Seconds that one try may take before it is repeated: what a leader had not stored when it died is never answered."""
_TRANSIENT = {WRONG_LAST_SEQUENCE, WRONG_LAST_SEQUENCE_PENDING, TOO_MANY_BATCHES, 10176, 10008}
"""10071 without a record to be read: it was removed, or is not to be seen yet; 10176: the batch was refused at
its beginning, for instance as one too many; 10008: no leader just now."""


@dataclass(frozen=True, slots=True)
class Item:
    """One record to be stored: whose, what, its ``traceparent``, and what else its header says."""

    ref: Ref
    data: bytes
    trace: str
    marks: Pairs = ()

    def holds(self, data: bytes) -> bool:
        """Whether it is the record of this input."""
        if is_large(self.marks):
            return Reference.of(self.data, subject="").fits(data)
        return self.data == data


@dataclass(frozen=True, slots=True)
class Stored:
    """`seq` is 0 when the task was there before (the same payload under the same key)."""

    ref: Ref
    seq: int
    there: int = 0  # the sequence of one that was there before; 0 if only its outcome is
    marks: Pairs = ()  # of one that was there before

    @property
    def place(self) -> int:
        return self.seq or self.there


def new_id() -> str:
    """An id that nobody chose: 22 characters, 88 random bits."""
    return secrets.token_hex(11)


def behind_task(subjects: Subjects, ref: Ref, marks: Pairs) -> list[str]:
    """The empty records that stand behind a task with these marks: its place in a queue, its deadline."""
    return [one for one in (place_of(subjects, ref, marks), deadline_subject(subjects, ref, marks)) if one]


def _size(item: Item) -> int:
    """About what a task takes in the store."""
    return len(item.data) + RECORD_BYTES + (ORDER_BYTES if item.marks else 0)


def _same(there: Record, item: Item) -> bool:
    """Whether a stored task has the input of this one."""
    return same_payload(there.data, there.marks, item.data, item.marks, subject=there.subject)


class Submitter:
    """Stores tasks in one log."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._order = Order(log)
        self._delays = Delays(log)
        self._absence = Absence(log)
        self._batches = asyncio.Semaphore(BATCHES_IN_FLIGHT)

    async def item(self, ref: Ref, data: bytes, trace: str, marks: Pairs = (), *, timeout_s: float) -> Item:
        """The record of an input. A large one is stored now, unless the task is there already.

        Raises Conflict, TooLarge above `MOST_BYTES`, StoreFull; else as `submit`.
        """
        if len(data) <= INLINE_BYTES:
            return Item(ref, data, trace, marks)
        log = self._log
        await log.ensure(patience_s=timeout_s)
        subject = log.subjects.task(ref)
        try:
            there = await newest(log, subject, patience_s=timeout_s)
            if there is None:
                reference = await put_object(log, subject, data, patience_s=timeout_s, share=RESERVE)
            elif not is_large(there.marks):
                raise Conflict(key=ref.id, subject=subject)
            else:
                reference = Reference.of(there.data, subject=subject)
                if not reference.fits(data):
                    raise Conflict(key=ref.id, subject=subject)
        except (RequestTimeout, Disconnected, NoResponders) as error:
            raise SubmissionUnknown((ref.id,)) from error
        return Item(ref, reference.encode(), trace, (*marks, *reference.marks))

    async def submit(self, item: Item, *, timeout_s: float) -> Stored:
        """Store one task; repeats through disconnects until `timeout_s` seconds are over.

        Raises Conflict (the key has another payload), StoreFull, SubmissionUnknown (submit again with the
        same key), NotConnected (no try reached a server), ConfigMismatch, StreamMissing, PermissionDenied (which says
        so if the task is stored, and only what stands behind it is not).
        """
        await self._log.ensure(patience_s=timeout_s)
        patience = _Patience(timeout_s)
        try:
            return await self._submit(item, patience)
        except StoreFull:
            done: dict[Ref, Stored] = {}
            if await self._not_there([item], done, patience):
                raise
            return done[item.ref]

    async def _submit(self, item: Item, patience: _Patience) -> Stored:
        size, room, full = _size(item), self._log.room, False
        await room.take(item.ref.name, 1, size)
        begin_ms = begin_of(item.marks)
        try:
            if begin_ms is not None:
                await self._arrange(item.ref, begin_ms, patience)
            stored = await self._store_one(item, patience)
            if item.marks or stored.marks:
                await self._line_up(item, stored, patience)
            return stored
        except StoreFull:
            full = True
            raise
        finally:
            room.landed(size, stored=not full)

    async def _arrange(self, ref: Ref, begin_ms: int, patience: _Patience) -> None:
        """See to it that the server tells when a task may begin."""
        while True:
            try:
                await self._delays.arrange(ref, begin_ms, timeout_s=min(TRY_S, patience.left_s))
                return
            except JetStreamError as error:
                if error.err_code in STORE_FULL:
                    raise await self._log.room.refused(error) from error
                if error.err_code not in _TRANSIENT:
                    raise
                await patience.pause(error, (ref.id,))
            except (RequestTimeout, Disconnected, NotConnected) as error:
                await patience.pause(error, (ref.id,))

    async def _line_up(self, item: Item, stored: Stored, patience: _Patience) -> None:
        """Store what stands behind a task: its deadline in the index, and its place in the queue of its order key,
        before anybody submits what is to come after it.
        """
        marks = stored.marks if stored.there else item.marks
        # One that has to wait is lined up when it may begin: it would hold up those that may run before.
        key = order_of(item.marks) if begin_of(marks) is None else ""
        deadline = deadline_subject(self._log.subjects, item.ref, marks)
        if not (key or deadline) or not stored.place:
            return
        patience.sent = True  # the task is stored: whatever happens now, it runs
        queue = Queue(self._log.subjects, item.ref.name, key)
        while True:
            try:
                if deadline:
                    await self._index(deadline, item.trace)
                    deadline = ""
                if key:
                    await self._order.join(queue, item.ref, stored.place)
                return
            except JetStreamError as error:
                if error.err_code in STORE_FULL:
                    raise SubmissionUnknown((item.ref.id,)) from error
                if error.err_code not in _TRANSIENT:
                    raise
                await patience.pause(error, (item.ref.id,))
            except (RequestTimeout, Disconnected, NotConnected) as error:
                await patience.pause(error, (item.ref.id,))
            except StreamMissing as error:
                await self._absence.check(error)
                await patience.pause(error, (item.ref.id,))
            except PermissionDenied as error:
                what = "deadline" if deadline else "place in the queue of its order key"
                kept = (
                    f"Task {str(item.ref)!r} is stored and will run; only its {what} is not, which the worker that "
                    "takes it sees to."
                )
                raise PermissionDenied(error.subject, error.action, kept=kept) from error

    async def _index(self, deadline: str, trace: str) -> None:
        """Store a deadline in the index, unless it is there."""
        try:
            await self._log.link.jetstream.publish(deadline, b"", block(*create_once(trace)), timeout_s=TRY_S)
        except JetStreamError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise

    async def _store_one(self, item: Item, patience: _Patience) -> Stored:
        log = self._log
        subject = log.subjects.task(item.ref)
        head = block(*self._headers(item))
        while True:
            try:
                return await self._publish(item, subject, head, timeout_s=min(TRY_S, patience.left_s))
            except JetStreamError as error:
                if error.err_code in STORE_FULL:
                    raise await log.room.refused(error) from error
                if error.err_code not in _TRANSIENT:
                    raise
                await patience.pause(error, (item.ref.id,))
            except (RequestTimeout, Disconnected) as error:
                patience.sent = True
                await patience.pause(error, (item.ref.id,))
            except NotConnected as error:
                await patience.pause(error, (item.ref.id,))
            except StreamMissing as error:
                await self._absence.check(error)
                await patience.pause(error, (item.ref.id,))

    async def _publish(self, item: Item, subject: str, head: bytes, *, timeout_s: float) -> Stored:
        """One try. Raises Conflict when the task is there with another payload."""
        log = self._log
        try:
            seq = await log.link.jetstream.publish(subject, item.data, head, timeout_s=timeout_s)
            return Stored(item.ref, seq)
        except JetStreamError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
            there = await log.last(subject) or await log.last(subject, leader=True)
            if there is None:
                if await log.last(log.subjects.end(item.ref), leader=True) is None:
                    raise  # it was removed in between, or is about to appear
                return Stored(item.ref, 0)  # it was cancelled: its outcome stands, its input is gone
            if not _same(there, item):
                raise Conflict(key=item.ref.id, subject=subject) from error
            return Stored(item.ref, 0, there.seq, there.marks)

    async def submit_many(self, items: Sequence[Item], done: dict[Ref, Stored], *, timeout_s: float) -> None:
        """Store many tasks in atomic batches of 250, a few at a time; `done` is filled with what is stored.

        Each batch is stored whole or not at all; one that met tasks already stored is repeated without
        them. Raises as `submit`, StoreFull when the batches before have been stored; on SubmissionUnknown, `ids`
        are those not known to be stored.
        """
        log = self._log
        await log.ensure(patience_s=timeout_s)
        for item in items:
            if len(item.data) + 512 > log.link.client.max_payload:
                raise TooLarge(
                    subject=log.subjects.task(item.ref),
                    size=len(item.data),
                    limit=log.link.client.max_payload - 512,
                )
        patience = _Patience(timeout_s)
        full: list[StoreFull] = []
        ordered = any(order_of(item.marks) for item in items)
        try:
            async with asyncio.TaskGroup() as group:
                for part in chunks(items, BATCH):
                    await self._batches.acquire()
                    left: list[Item] = []
                    try:  # one after the other, so that what is stored are the first
                        if not full:
                            left = await self._take(list(part), done, patience)
                    except StoreFull as refusal:
                        full.append(refusal)
                    finally:
                        if not left:
                            self._batches.release()
                    if full:
                        break
                    if not left:
                        continue
                    task = group.create_task(
                        self._store(left, done, full, patience), name="roost-submit-batch"
                    )
                    task.add_done_callback(lambda _: self._batches.release())
                    if ordered:
                        await task
        except BaseExceptionGroup as several:
            if several.subgroup(SubmissionUnknown) is not None:
                raise SubmissionUnknown([i.ref.id for i in items if i.ref not in done]) from several
            for error in several.exceptions:
                if isinstance(error, RoostError):
                    raise error from None
            raise
        if full:
            raise full[0]

    async def _take(self, items: list[Item], done: dict[Ref, Stored], patience: _Patience) -> list[Item]:
        """Take room for those of `items` that it returns. Raises StoreFull.

        What is stored already needs none, so of a full store it is asked which those are: to submit again is safe.
        """
        room, name = self._log.room, items[0].ref.name
        try:
            await room.take(name, len(items), sum(map(_size, items)))
        except StoreFull:
            items = await self._not_there(items, done, patience)
            if items:
                await room.take(name, len(items), sum(map(_size, items)))
        return items

    async def _store(
        self, items: list[Item], done: dict[Ref, Stored], full: list[StoreFull], patience: _Patience
    ) -> None:
        size, refused = sum(map(_size, items)), False
        try:
            await self._store_all(items, done, patience)
        except StoreFull as refusal:  # what is under way beside it is stored, or refused as well
            refused = True
            if await self._not_there(items, done, patience):
                full.append(refusal)
        finally:
            self._log.room.landed(size, stored=not refused)

    async def _store_all(self, items: list[Item], done: dict[Ref, Stored], patience: _Patience) -> None:
        # Whether to look what is there, and how many were missing at the last refusal.
        refused, known = False, 0
        while items:
            ids = tuple(item.ref.id for item in items)
            try:
                if refused:
                    items = await self._missing(items, done, patience)
                    refused = False
                    continue
                last = await self._batch(items, timeout_s=min(TRY_S, patience.left_s))
                for number, item in enumerate(items):
                    done[item.ref] = Stored(item.ref, last - len(items) + 1 + number)
                return
            except JetStreamError as error:
                refused = error.err_code == WRONG_LAST_SEQUENCE
                if refused and known != len(items):
                    known = len(items)
                    patience.check(error, ids)
                    continue
                if error.err_code in STORE_FULL:
                    raise await self._log.room.refused(error) from error
                if error.err_code not in _TRANSIENT:
                    raise
                await patience.pause(error, ids)
            except (RequestTimeout, Disconnected) as error:
                patience.sent = True
                await patience.pause(error, ids)
            except NotConnected as error:
                await patience.pause(error, ids)
            except (StreamMissing, NoResponders) as error:
                await self._absence.check(error)
                await patience.pause(error, ids)

    async def _batch(self, items: Sequence[Item], *, timeout_s: float) -> int:
        """One atomic batch; returns the sequence of the last task. What stands behind tasks follows all of them."""
        task = self._log.subjects.task
        writes = [Write(task(item.ref), item.data, self._headers(item)) for item in items]
        behind = [
            Write(subject, b"", ())
            for item in items
            if item.marks
            for subject in behind_task(self._log.subjects, item.ref, item.marks)
        ]
        return await commit(self._log.link, [*writes, *behind], timeout_s=timeout_s) - len(behind)

    def _headers(self, item: Item) -> Pairs:
        """A task is stored only if nothing of it is there, its outcome included.

        The message of a cancelled task is removed: over its own subject alone, a repeated submission would
        create it anew, and it would run and get a second outcome.
        """
        over = ("Nats-Expected-Last-Subject-Sequence-Subject", self._log.subjects.guard(item.ref))
        return (*create_once(item.trace), over, *item.marks)

    async def _not_there(self, items: list[Item], done: dict[Ref, Stored], patience: _Patience) -> list[Item]:
        """As `_missing`, of a store that takes nothing: as the leader knows it, and tried again through outages."""
        while True:
            try:
                return await self._missing(items, done, patience, leader=self._log.replicated)
            except (RequestTimeout, Disconnected, NotConnected, NoResponders) as error:
                await patience.pause(error, [item.ref.id for item in items])

    async def _missing(
        self, items: list[Item], done: dict[Ref, Stored], patience: _Patience, *, leader: bool = False
    ) -> list[Item]:
        """The items that are not stored yet. Raises Conflict for one stored with another payload."""
        log = self._log
        there = await log.newest([log.subjects.task(item.ref) for item in items], leader=leader)
        gone = [item.ref for item in items if log.subjects.task(item.ref) not in there]
        ends = await log.newest([log.subjects.end(ref) for ref in gone], leader=leader)
        missing = []
        for item in items:
            record = there.get(log.subjects.task(item.ref))
            if record is None and log.subjects.end(item.ref) in ends:
                done[item.ref] = Stored(item.ref, 0)  # it was cancelled: see `_publish`
            elif record is None:
                missing.append(item)
            elif _same(record, item):
                done[item.ref] = found = Stored(item.ref, 0, record.seq, record.marks)
                if item.marks or record.marks:
                    await self._line_up(item, found, patience)
            else:
                raise Conflict(key=item.ref.id, subject=record.subject)
        return missing


class _Patience:
    """How long a submission goes on trying, and with what it gives up."""

    def __init__(self, timeout_s: float) -> None:
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + timeout_s
        self._tries = 0
        self.sent = False
        """Whether a try may have been stored."""

    @property
    def left_s(self) -> float:
        return max(0.05, self._until - self._loop.time())

    def check(self, error: Exception, ids: Sequence[str]) -> None:
        if self._loop.time() >= self._until:
            if self.sent or not isinstance(error, NotConnected):
                raise SubmissionUnknown(ids) from error
            raise error

    async def pause(self, error: Exception, ids: Sequence[str]) -> None:
        """Wait a growing, jittered moment, or give up."""
        delay_s = min(0.5, 0.02 * 2 ** min(self._tries, 5)) * (0.5 + random.random())
        self._tries += 1
        self.check(error, ids)
        await asyncio.sleep(min(delay_s, self.left_s))
