"""Fencing: of two coordinators of one run, only the later can write.

The `epoch` record changes only at a takeover. Every other record of a coordinator is stored under the guard
that the epoch is still its own, so one that was paused while another took over is refused at its next
write, and learns of it there.

A write whose answer was lost may still be on its way, and be stored after its repetition: then a task would be
submitted twice, a step recorded twice. So the coordinator first takes over from itself: under the new epoch
the old write is either stored already, and can be read, or refused for ever.
"""

from __future__ import annotations

import asyncio
import json
import random
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from weakref import WeakKeyDictionary

from roost.errors import (
    Disconnected,
    JetStreamError,
    NoResponders,
    NotConnected,
    RequestTimeout,
    StreamMissing,
)
from roost.runs.newest import newest_under
from roost.runs.records import EpochRecord, RunSubjects, StateRecord, decode_state, encode
from roost.tasks.batch import Pairs, Write, commit, guarded
from roost.tasks.log import Log, Record
from roost.tasks.records import Ref
from roost.transport.headers import block
from roost.transport.jetstream import TOO_MANY_BATCHES, WRONG_LAST_SEQUENCE, WRONG_LAST_SEQUENCE_PENDING

TAKE_S = 5.0
TRANSIENT = {WRONG_LAST_SEQUENCE_PENDING, 10176, TOO_MANY_BATCHES, 10008}
"""10176: a batch was refused at its beginning, for instance as one too many; 10008: no leader just now."""
SILENCE = (RequestTimeout, Disconnected)
"""It is not known whether what was sent has arrived."""
UNSENT = (NotConnected, NoResponders, StreamMissing)
"""It has not arrived: there is no connection, or no stream yet after a restart."""
BATCHES = 4
"""Batches in flight per process. The server stores one after the other, 2 ms and more each: those that queue
there run into their timeout, which makes more work."""

_gates: WeakKeyDictionary[Log, asyncio.Semaphore] = WeakKeyDictionary()


class Fenced(Exception):
    """Another coordinator has taken over; what this one does no longer counts."""


class Ended(Exception):
    """The run's workflow has an outcome already."""

    def __init__(self, end: Record) -> None:
        self.end = end
        super().__init__("it has an outcome already")


@dataclass(slots=True)
class Fence:
    """The right to write in a run, as long as nobody takes over. Made by `take_over`."""

    log: Log
    subjects: RunSubjects
    record: EpochRecord
    seq: int
    before: int
    """The sequence of the epoch before this one, 0 for a run that nobody coordinated yet."""
    state: StateRecord | None = None
    """The run's state as it was found."""
    confirmed: float = 0.0
    """When the server was asked last that has said that this epoch is the newest (`time.monotonic`)."""
    _settling: asyncio.Lock = field(default_factory=asyncio.Lock)

    @property
    def guard(self) -> Pairs:
        return guarded(self.subjects.epoch, self.seq)

    async def write(self, subject: str, data: bytes, *, trace: str = "", once: bool = True) -> int:
        """Store a record under this epoch, repeating through outages; as `commit`."""
        return await self.commit([], subject, data, trace=trace, once=once)

    async def commit(
        self,
        others: Sequence[Write],
        subject: str,
        data: bytes,
        *,
        trace: str = "",
        once: bool = True,
        marks: Pairs = (),
    ) -> int:
        """Store a record under this epoch, and `others`, which have guards of their own, together with it.

        Repeats through outages. With `once` the record is the only one on its subject, whatever happens;
        else it may be stored twice after a lost answer. Raises Fenced; JetStreamError, 10071 among them when
        a guard of `others` did not hold.
        """
        tries = 0
        while True:
            seq = self.seq
            writes = [*others, Write(subject, data, (*guarded(self.subjects.epoch, seq, trace), *marks))]
            asked = time.monotonic()
            try:
                stored = await commit_in_turn(self.log, writes)
                self.confirmed = asked
                return stored
            except JetStreamError as error:
                if error.err_code == WRONG_LAST_SEQUENCE:
                    await self.check()
                    if self.seq == seq:
                        raise
                    # This execution has taken over from itself meanwhile, so the write may repeat one that was lost.
                    if once and (found := await self._stored(subject)):
                        return found
                elif error.err_code not in TRANSIENT:
                    raise
            except SILENCE as error:
                self.log.journal.record("record_delayed", subject=subject, reason=str(error))
                await self.settle(seq)
                if once and (found := await self._stored(subject)):
                    return found
            except UNSENT as error:
                self.log.journal.record("record_delayed", subject=subject, reason=str(error))
            await pause(tries)
            tries += 1

    async def settle(self, seq: int) -> None:
        """Make sure that what was sent under epoch `seq` and is not stored by now never will be.

        Repeats through outages. Raises Fenced, JetStreamError.
        """
        async with self._settling:
            tries = 0
            while True:
                try:
                    await self._adopt()
                    if self.seq != seq:
                        return
                    head = block(("Nats-Expected-Last-Subject-Sequence", str(seq)))
                    self.seq = await self.log.link.jetstream.publish(
                        self.subjects.epoch, encode(self.record), head, timeout_s=TAKE_S
                    )
                    return
                except JetStreamError as error:
                    if error.err_code != WRONG_LAST_SEQUENCE and error.err_code not in TRANSIENT:
                        raise
                except (*SILENCE, *UNSENT):
                    self.log.journal.count("epoch_delayed")
                await pause(tries)
                tries += 1

    async def check(self) -> None:
        """Raises Fenced when another has taken over. Repeats through outages."""
        tries = 0
        while True:
            try:
                await self._adopt()
                return
            except JetStreamError as error:
                if error.err_code not in TRANSIENT and error.code != 503:
                    raise
            except (*SILENCE, *UNSENT):
                self.log.journal.count("epoch_delayed")
            await pause(tries)
            tries += 1

    async def _adopt(self) -> None:
        """The epoch's newest sequence, if it is ours."""
        asked = time.monotonic()
        record = await self.log.last(self.subjects.epoch, leader=True)
        if record is None or not has_token(record.data, self.record["token"]):
            raise Fenced(f"another coordinator of run {self.subjects.run} has taken over")
        self.seq = max(self.seq, record.seq)
        self.confirmed = asked

    async def _stored(self, subject: str) -> int:
        """The sequence of the record on a subject, 0 if there is none."""
        tries = 0
        while True:
            try:
                record = await self.log.last(subject, leader=True)
                return record.seq if record is not None else 0
            except (*SILENCE, *UNSENT, JetStreamError):
                self.log.journal.count("record_not_read")
            await pause(tries)
            tries += 1


async def take_over(log: Log, subjects: RunSubjects, ref: Ref, *, by: str) -> Fence:
    """Begin a new epoch of a run: whoever coordinated it before can write no more.

    Raises Ended when the workflow has an outcome; the errors of a read or write: then nothing is known to have
    changed, and it may be repeated.
    """
    record: EpochRecord = {
        "token": secrets.token_hex(8),
        "by": by,
        "at": round(log.now_s(), 6),
        "workflow": ref.name,
        "task": str(ref),
    }
    end = log.subjects.end(ref)
    tries = 0
    while True:
        found = await log.newest([subjects.epoch, subjects.state, end])
        if end in found:
            raise Ended(found[end])
        there = found.get(subjects.epoch)
        if there is not None and (ended := await log.last(end, leader=True)) is not None:
            raise Ended(ended)
        if there is None and tries:  # a replica may lag behind; the leader does not
            there = await log.last(subjects.epoch, leader=True)
        before = there.seq if there is not None else 0
        if there is not None and has_token(there.data, record["token"]):
            return Fence(log, subjects, record, before, -1)  # our own, stored although its answer was lost
        asked = time.monotonic()
        record["deaths"] = await _deaths(log, subjects, there)
        state = found.get(subjects.state)
        head = block(("Nats-Expected-Last-Subject-Sequence", str(before)))
        try:
            seq = await log.link.jetstream.publish(subjects.epoch, encode(record), head)
            decoded = decode_state(state.data, subject=state.subject) if state is not None else None
            return Fence(log, subjects, record, seq, before, decoded, asked)
        except JetStreamError as error:
            if error.err_code != WRONG_LAST_SEQUENCE and error.err_code not in TRANSIENT:
                raise
        await pause(tries)
        tries += 1


async def _deaths(log: Log, subjects: RunSubjects, there: Record | None) -> int:
    """How many executions in a row, the last included, came to nothing: they left no record behind."""
    if there is None:
        return 0
    for pattern in (
        subjects.all_of("step"),
        subjects.all_of("task"),
        subjects.all_of("note"),
        subjects.state,
    ):
        newest = await newest_under(log, pattern)
        if newest is not None and newest.seq > there.seq:
            return 0
    try:
        deaths = json.loads(there.data).get("deaths", 0)
    except (ValueError, AttributeError, RecursionError):
        return 1
    return deaths + 1 if type(deaths) is int else 1


def has_token(data: bytes, token: str) -> bool:
    """Whether an epoch record is that of one execution."""
    return f'"token":"{token}"'.encode() in data


async def commit_in_turn(log: Log, writes: Sequence[Write]) -> int:
    """Store several records at once, after the other batches of this process."""
    if len(writes) == 1:
        return await commit(log.link, writes, timeout_s=TAKE_S)
    gate = _gates.get(log)
    if gate is None:
        gate = _gates[log] = asyncio.Semaphore(BATCHES)
    async with gate:
        return await commit(log.link, writes, timeout_s=TAKE_S)


async def pause(tries: int) -> None:
    """A growing, jittered moment, 0.75 s at most."""
    await asyncio.sleep(min(0.5, 0.02 * 2 ** min(tries, 5)) * (0.5 + random.random()))
