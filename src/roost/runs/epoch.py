"""Fencing: of two coordinators of one run, only the later can write.

The `epoch` record changes only at a takeover. Every other record of a coordinator is stored under the guard
that the epoch is still its own, so one that was paused while another took over is refused at its next
write, and learns of it there.
"""

from __future__ import annotations

import asyncio
import random
import secrets
from dataclasses import dataclass

from roost.errors import Disconnected, JetStreamError, NotConnected, RequestTimeout
from roost.runs.records import EpochRecord, RunSubjects, encode
from roost.tasks.batch import Pairs, Write, commit, guarded
from roost.tasks.log import Log
from roost.tasks.records import Ref
from roost.transport.headers import block
from roost.transport.jetstream import WRONG_LAST_SEQUENCE, WRONG_LAST_SEQUENCE_PENDING

TAKE_S = 5.0
TRANSIENT = {WRONG_LAST_SEQUENCE_PENDING, 10176, 10210, 10008}


class Fenced(Exception):
    """Another coordinator has taken over; what this one does no longer counts."""


@dataclass(frozen=True, slots=True)
class Fence:
    """The right to write in a run, as long as nobody takes over."""

    log: Log
    subjects: RunSubjects
    seq: int
    before: int
    """The sequence of the epoch before this one, 0 for a run that nobody coordinated yet."""

    @property
    def guard(self) -> Pairs:
        return guarded(self.subjects.epoch, self.seq)

    async def write(self, subject: str, data: bytes) -> int:
        """Store a record under this epoch, repeating through outages. Raises Fenced, or JetStreamError."""
        return await self.commit([Write(subject, data, self.guard)], stored=None)

    async def commit(self, writes: list[Write], *, stored: str | None) -> int:
        """Store several records at once, repeating through outages; the last must be guarded by this epoch.

        After an unknown outcome the record on subject `stored` tells whether it was stored; without one the
        write is repeated, which stores an equal record twice at worst. Raises Fenced; JetStreamError,
        10071 among them when a guard other than the epoch's did not hold.
        """
        tries = 0
        while True:
            try:
                return await commit(self.log.link, writes, timeout_s=TAKE_S)
            except JetStreamError as error:
                if error.err_code == WRONG_LAST_SEQUENCE:
                    await self.check()
                    found = await self._stored(stored)
                    if found:
                        return found
                    raise
                if error.err_code not in TRANSIENT:
                    raise
            except (RequestTimeout, Disconnected):
                found = await self._stored(stored)
                if found:
                    return found
            except NotConnected:
                pass
            await pause(tries)
            tries += 1

    async def _stored(self, subject: str | None) -> int:
        if subject is None:
            return 0
        tries = 0
        while True:
            try:
                record = await self.log.last(subject, leader=True)
                return record.seq if record is not None else 0
            except (RequestTimeout, Disconnected, NotConnected):
                await pause(tries)
                tries += 1

    async def check(self) -> None:
        """Raises Fenced when another epoch has begun."""
        tries = 0
        while True:
            try:
                record = await self.log.last(self.subjects.epoch, leader=True)
                break
            except (RequestTimeout, Disconnected, NotConnected):
                await pause(tries)
                tries += 1
        if record is None or record.seq != self.seq:
            raise Fenced(f"another coordinator of run {self.subjects.run} has taken over")


async def take_over(log: Log, subjects: RunSubjects, ref: Ref, *, by: str) -> Fence:
    """Begin a new epoch of a run: whoever coordinated it before can write no more.

    Raises the errors of a read or write; then nothing is known to have changed, and it may be repeated.
    """
    token = secrets.token_hex(8)
    tries = 0
    while True:
        there = await log.last(subjects.epoch)
        before = there.seq if there is not None else 0
        if there is not None and f'"token":"{token}"'.encode() in there.data:
            return Fence(log, subjects, before, -1)  # our own, stored although its answer was lost
        record: EpochRecord = {
            "token": token,
            "by": by,
            "at": round(log.now_s(), 6),
            "workflow": ref.name,
            "task": str(ref),
        }
        head = block(("Nats-Expected-Last-Subject-Sequence", str(before)))
        try:
            seq = await log.link.jetstream.publish(subjects.epoch, encode(record), head)
            return Fence(log, subjects, seq, before)
        except JetStreamError as error:
            if error.err_code != WRONG_LAST_SEQUENCE and error.err_code not in TRANSIENT:
                raise
        await pause(tries)
        tries += 1


async def pause(tries: int) -> None:
    """A growing, jittered moment."""
    await asyncio.sleep(min(2.0, 0.02 * 2 ** min(tries, 7)) * (0.5 + random.random()))
