"""Tasks with an order key: one at a time per key, in the order of their submission, on whichever instance.

A lock per key would have to survive its holder, and a partition pinned to one worker orders nothing once that has
died: what it held comes back later than what follows. So the log itself says whose turn it is. A key has a queue,
to which every task is added after it was stored, and the first task in it that has no outcome gets a turn: a
record that is delivered to the workers like a task, once. Only a turn runs a task. Whoever stores an outcome under
a turn hands on the next one before acknowledging it, so a death at any instruction leaves a delivery that is made
again.

    <ns>.run.<name>::<key>.queue.<name>.<run>.<id>          a task's place in the queue: the record's sequence
    <ns>.run.<name>::<key>.task.<name>.<place>.<run>.<id>   its turn; the filter of the contract's consumer takes it
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from roost.errors import JetStreamError, RoostError
from roost.tasks.adopting import adopt
from roost.tasks.batch import Pairs
from roost.tasks.delivery import Delivery, Turn
from roost.tasks.log import Log, Record
from roost.tasks.marks import order_of
from roost.tasks.outcomes import FULL_DELAY_S, HandBack, pause
from roost.tasks.records import Ref, Subjects
from roost.transport.headers import block
from roost.transport.jetstream import STORE_FULL, WRONG_LAST_SEQUENCE, WRONG_LAST_SEQUENCE_PENDING

PAGE = 200
"""Places of a queue that are looked at together."""
TRIES = 8
"""Writes of one place or turn before its delivery goes back to the server."""
ORDER_BYTES = 500
"""About what place and turn take in the store."""
_place_of = re.compile(r".*\.([A-Za-z0-9_:-]+)\.([A-Za-z0-9_:-]+)").fullmatch


@dataclass(frozen=True, slots=True)
class Queue:
    """The queue of one order key of one contract."""

    subjects: Subjects
    name: str  # of the contract
    key: str  # its token

    @property
    def _prefix(self) -> str:
        """A run of its own: ids that users choose have one colon behind the contract's name."""
        return f"{self.subjects.namespace}.run.{self.name}::{self.key}"

    @property
    def places(self) -> str:
        return f"{self._prefix}.queue.{self.name}.*.*"

    @property
    def turns(self) -> str:
        return f"{self._prefix}.task.{self.name}.>"

    def place(self, ref: Ref) -> str:
        return f"{self._prefix}.queue.{self.name}.{ref.run}.{ref.id}"

    def turn(self, place: int, ref: Ref) -> str:
        return f"{self._prefix}.task.{self.name}.{place}.{ref.run}.{ref.id}"


def place_of(subjects: Subjects, ref: Ref, marks: Pairs) -> str:
    """The subject of a task's place in the queue of its order key; empty if it has none."""
    key = order_of(marks)
    return Queue(subjects, ref.name, key).place(ref) if key else ""


class Order:
    """Queues and turns of one log."""

    def __init__(self, log: Log) -> None:
        self._log = log

    # As a worker ------------------------------------------------------------------------------------

    async def line_up(self, delivery: Delivery, key: str) -> None:
        """What the own delivery of a task with an order key is for. Raises HandBack, and the errors of reads.

        Its submitter has added it to the queue, or has died before. And if the task of the newest turn had ended
        before that, nobody has handed on a turn since.
        """
        log, queue = self._log, Queue(self._log.subjects, delivery.ref.name, key)
        there = await log.last(queue.place(delivery.ref))
        try:
            if there is None or there.seq < delivery.seq:
                await self.join(
                    queue, delivery.ref, delivery.seq, before=there.seq if there is not None else 0
                )
            place, ref = await self._newest(queue)
            if ref is not None and await self._is_open(ref):
                return
            if not await self._give_next(queue, place) and (await self._newest(queue))[0] == place:
                # Nobody was quicker: what follows had its turn long ago, and the newest record is a stranger's.
                await self._give_next(queue, (await self._last_in_queue(queue))[0])
        except JetStreamError as error:
            raise _back(error) from error

    async def adopt(self, delivery: Delivery) -> tuple[bool, Record | None]:
        """Make of the delivery of a turn that of its task, if that is to run; else its outcome, if it has one.

        A task without either was cancelled or removed. Raises HandBack, and the errors of reads.
        """
        log, turn = self._log, delivery.turn
        assert turn is not None
        runs, end = await adopt(log, delivery)
        if runs and delivery.order != turn.key:
            log.journal.record("foreign_record", subject=delivery.subject, reason="a turn in another's queue")
            return False, None
        return runs, end

    async def hand_on(self, turn: Turn, *, again: bool) -> None:
        """The task of a turn has its outcome, or is gone: the next one's turn.

        `again`: it was delivered before, or had nothing to do, so it may be far behind, and what follows it may
        be over as well. Raises HandBack, and the errors of reads.
        """
        queue = Queue(self._log.subjects, turn.ref.name, turn.key)
        try:
            if not again:
                await self._give_next(queue, turn.place)
                return
            newest, ref = await self._newest(queue)
            if ref is None or newest <= turn.place or not await self._is_open(ref):
                await self._give_next(queue, await self._past_ended(queue, max(turn.place, newest)))
        except JetStreamError as error:
            raise _back(error) from error

    # As anybody who submits -------------------------------------------------------------------------

    async def join(self, queue: Queue, ref: Ref, seq: int, *, before: int = 0) -> None:
        """Add a task that is stored as `seq` to the end of its queue, unless it is there.

        A place that is older than the task belongs to an earlier one of its name, whose run was removed; `before`
        is the sequence of such a place. Raises the errors of a write.
        """
        subject = queue.place(ref)
        for tries in range(TRIES):
            try:
                head = block(("Nats-Expected-Last-Subject-Sequence", str(before)))
                await self._log.link.jetstream.publish(subject, b"", head)
                return
            except JetStreamError as error:
                if error.err_code == WRONG_LAST_SEQUENCE:
                    there = await self._log.last(subject, leader=True)
                    if there is not None and there.seq > seq:
                        return
                    before = there.seq if there is not None else 0
                elif error.err_code != WRONG_LAST_SEQUENCE_PENDING:
                    raise
                if tries == TRIES - 1:
                    raise
            await pause(tries)

    # Turns ------------------------------------------------------------------------------------------

    async def _newest(self, queue: Queue) -> tuple[int, Ref | None]:
        """The place whose turn was given last, and its task: all before it have ended. 0 if none was given."""
        found = await self._log.from_leader({"last_by_subj": queue.turns})
        if found is None:
            return 0, None
        turn = self._turn(found)
        return (turn.place, turn.ref) if turn is not None else await self._last_in_queue(queue)

    async def _last_in_queue(self, queue: Queue) -> tuple[int, Ref | None]:
        """The same when the newest record is a stranger's, which would stop the queue: a walk over all of them."""
        seq, last, ref = 0, 0, None
        while True:
            query = {"seq": seq + 1, "next_by_subj": queue.turns, "batch": PAGE}
            page = await self._log.page(query, leader=True)
            if not page:
                return last, ref
            for turn in map(self._turn, page):
                if turn is not None and turn.place > last:
                    last, ref = turn.place, turn.ref
            seq = page[-1].seq

    def _turn(self, record: Record) -> Turn | None:
        """The turn that a record is; None if it is that of no place which was there before it."""
        turn = Turn.parse(record.subject, self._log.subjects)
        return turn if turn is not None and turn.place < record.seq else None

    async def _give_next(self, queue: Queue, after: int) -> bool:
        """Give its turn to whoever comes after a place in the queue, where all up to it have ended.

        Whether it is given now, or nobody follows; False: it had been given before.
        If the task there has ended as well, its turn is handed on at once. To find out that nobody follows is a
        walk over all that others have stored since, so first the leader is asked for the newest, which is indexed.
        """
        log = self._log
        newest = await log.from_leader({"last_by_subj": queue.places})
        if newest is None or newest.seq <= after:
            return True
        query = {"seq": after + 1, "next_by_subj": queue.places}
        # What a replica shows is the next place, for it has all that was stored before; it may not have one yet.
        found = await log.next(after + 1, queue.places) or await log.from_leader(query)
        if found is None:
            return True
        ref = _ref(found.subject, queue.name)
        if ref is None:
            return await self._give_next(queue, await self._past_ended(queue, found.seq))
        return await self._give(queue, found.seq, ref)

    async def _past_ended(self, queue: Queue, after: int) -> int:
        """The last of the places behind `after` that have ended without a gap: of a thousand cancelled, say."""
        log = self._log
        while True:
            page = await log.page({"seq": after + 1, "next_by_subj": queue.places, "batch": PAGE})
            refs = [_ref(record.subject, queue.name) for record in page]
            named = [log.subjects.end(ref) for ref in refs if ref is not None]
            ends = await log.newest(named) if named else {}
            for record, ref in zip(page, refs, strict=True):
                if ref is not None and log.subjects.end(ref) not in ends:
                    return after
                after = record.seq
            if not page:
                return after

    async def _give(self, queue: Queue, place: int, ref: Ref) -> bool:
        """Write the turn of a place, once; whether it was not there yet."""
        head = block(("Nats-Expected-Last-Subject-Sequence", "0"))
        for tries in range(TRIES):
            try:
                await self._log.link.jetstream.publish(queue.turn(place, ref), b"", head)
                return True
            except JetStreamError as error:
                if error.err_code == WRONG_LAST_SEQUENCE:
                    return False
                if error.err_code != WRONG_LAST_SEQUENCE_PENDING:
                    raise
                if tries == TRIES - 1:
                    raise
            await pause(tries)
        return False

    async def _is_open(self, ref: Ref) -> bool:
        """Whether a task is there and has no outcome, as the leader knows it."""
        subjects = self._log.subjects
        newest = await self._log.from_leader({"last_by_subj": subjects.guard(ref)})
        if newest is None or newest.subject in (subjects.end(ref), subjects.dead(ref)):
            return False
        if newest.subject == subjects.task(ref):
            return True
        # A stranger's record stands under the guard.
        return (
            await self._log.last(subjects.end(ref), leader=True) is None
            and await self._log.last(subjects.task(ref), leader=True) is not None
        )


def _ref(subject: str, name: str) -> Ref | None:
    """Whose place it is; None for a stranger's, with tokens that no task has: nobody waits there."""
    found = _place_of(subject)
    return Ref(found[1], name, found[2]) if found is not None else None


def _back(error: RoostError) -> RoostError | HandBack:
    if isinstance(error, JetStreamError) and error.err_code in STORE_FULL:
        return HandBack(
            "the store is full; the place of its key in the queue could not be kept", FULL_DELAY_S
        )
    return error
