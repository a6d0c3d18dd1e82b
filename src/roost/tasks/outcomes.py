"""Writing outcomes and notes: until it is known that they are stored, or that another one is.

The guard of an `end` is the task's own sequence over all its records: it holds only while the task is
there and has no end. After a lost answer the refusal of our own repeat looks like somebody else's win, so
the record is read and its token compared.
"""

from __future__ import annotations

import asyncio
import logging
import random

from roost.errors import JetStreamError, RoostError, StoreFull, TooLarge
from roost.tasks.batch import Pairs
from roost.tasks.delivery import Delivery
from roost.tasks.log import Log, Record
from roost.tasks.records import NoteRecord, Ref, encode_dead_index, encode_note
from roost.tasks.references import Reference
from roost.tasks.storing import put_object
from roost.transport.headers import block
from roost.transport.jetstream import STORE_FULL, WRONG_LAST_SEQUENCE, WRONG_LAST_SEQUENCE_PENDING

MESSAGE_TOO_LARGE = 10054
"""nats-server: the stream's `max_msg_size` is less than this record."""

log = logging.getLogger("roost.tasks")

CRLF = "\r\n"
FULL_DELAY_S = 5.0
"""Delay with which work is handed back when the store takes no more records."""
NOTE_TRIES = 5


class HandBack(Exception):
    """The delivery cannot be finished now and goes back to the server for `after_s` seconds.

    None: it is not ours any more, and nothing is said of it.
    """

    def __init__(self, reason: str, after_s: float | None) -> None:
        self.after_s = after_s
        super().__init__(reason)


class Unstorable(Exception):
    """The server will never take this record: it is too large."""


class OutcomeWriter:
    """Stores `end`, `dead` and `note` records of one log."""

    def __init__(self, tasks: Log) -> None:
        self._log = tasks

    async def put_value(self, delivery: Delivery, value: bytes) -> Reference:
        """Store a large value, for the `end` that comes next. Raises HandBack and Unstorable as `write`."""
        try:
            return await put_object(self._log, self._log.subjects.end(delivery.ref), value)
        except StoreFull as error:
            raise HandBack(f"{error.stream} is full; its outcome could not be kept", FULL_DELAY_S) from error
        except TooLarge as error:
            raise Unstorable(error.reason) from error

    async def write(
        self, delivery: Delivery, data: bytes, *, dead_reason: str | None = None, marks: Pairs = ()
    ) -> bool:
        """Store the `end` of a delivery; True if it is ours, False if another outcome stands or the task is gone.

        Repeats through timeouts and disconnects for as long as it takes (the delivery is kept by
        heartbeats meanwhile, and by its redelivery if this process dies). Raises HandBack when the
        store is full, Unstorable when the record is too large.
        """
        subjects, journal = self._log.subjects, self._log.journal
        subject = subjects.end(delivery.ref)
        newest = delivery.seq
        tries = 0
        while True:
            try:
                await self._put(delivery, subject, data, newest, marks)
                break
            except JetStreamError as error:
                if error.err_code == WRONG_LAST_SEQUENCE:
                    there = await self._existing(subject)
                    if there is None:
                        junk = await self._foreign(delivery)
                        if junk is None:
                            journal.record(
                                "outcome_of_gone_task", subject=subject, reason="its run was removed"
                            )
                            return False
                        if junk.seq == newest:  # not that one: what was refused is not to be seen yet
                            await pause(tries)
                            tries += 1
                        elif junk.seq > delivery.seq:
                            journal.record(
                                "foreign_record", subject=junk.subject, reason="no record of a task"
                            )
                        newest = junk.seq
                        continue
                    if not _has_token(there.data, delivery.token):
                        journal.record(
                            "outcome_lost_race",
                            subject=subject,
                            reason="another outcome stands",
                            level=logging.INFO,
                        )
                        await self.complete(delivery.ref, there)
                        return False
                    break
                if error.err_code == MESSAGE_TOO_LARGE:
                    raise Unstorable(f"{len(data)} bytes are more than the stream's max_msg_size") from error
                if error.err_code in STORE_FULL:
                    raise HandBack(
                        "the store is full; its outcome could not be kept", FULL_DELAY_S
                    ) from error
                if error.err_code != WRONG_LAST_SEQUENCE_PENDING:
                    journal.record("outcome_delayed", subject=subject, reason=str(error))
            except TooLarge as error:
                raise Unstorable(error.reason) from error
            except RoostError as error:
                journal.record("outcome_delayed", subject=subject, reason=str(error))
            await pause(tries)
            tries += 1
        if dead_reason is not None:
            await self._index(delivery.ref, dead_reason)
        return True

    async def _put(
        self, delivery: Delivery, subject: str, data: bytes, newest: int, marks: Pairs = ()
    ) -> None:
        """Store the `end` while the newest record under its guard has the sequence `newest`."""
        head = (
            "NATS/1.0\r\n"
            f"Nats-Expected-Last-Subject-Sequence:{newest}\r\n"
            f"Nats-Expected-Last-Subject-Sequence-Subject:{self._log.subjects.guard(delivery.ref)}\r\n"
            f"traceparent:{delivery.trace}\r\n"
            f"{''.join(f'{name}:{value}{CRLF}' for name, value in marks)}\r\n"
        ).encode()
        await self._log.link.jetstream.publish(subject, data, head)

    async def complete(self, ref: Ref, end: Record) -> None:
        """Write what may be missing beside an `end` whose writer died: the index entry of a dead letter."""
        if (
            end.data.startswith(b'{"status":"dead"')
            and await self._log.last(self._log.subjects.dead(ref)) is None
        ):
            await self._index(ref, "its end has the reason")

    async def _index(self, ref: Ref, reason: str) -> None:
        head = block(("Nats-Expected-Last-Subject-Sequence", "0"))
        data = encode_dead_index({"reason": reason})
        tries = 0
        while True:
            try:
                await self._log.link.jetstream.publish(self._log.subjects.dead(ref), data, head)
                return
            except JetStreamError as error:
                if error.err_code == WRONG_LAST_SEQUENCE:
                    return
                if error.err_code in STORE_FULL:
                    raise HandBack(
                        "the store is full; a dead letter could not be listed", FULL_DELAY_S
                    ) from error
            except RoostError as error:
                self._log.journal.record(
                    "outcome_delayed", subject=self._log.subjects.dead(ref), reason=str(error)
                )
            await pause(tries)
            tries += 1

    async def note(self, delivery: Delivery, note: NoteRecord) -> None:
        """Store a note. Raises HandBack when the store does not take it after five tries."""
        subject = self._log.subjects.note(delivery.ref, note["k"])
        data = encode_note(note)
        tries = 0
        while True:
            try:
                await self._log.link.jetstream.publish(subject, data)
                return
            except RoostError as error:
                tries += 1
                full = isinstance(error, JetStreamError) and error.err_code in STORE_FULL
                if full or tries == NOTE_TRIES:
                    raise HandBack(f"a note could not be stored: {error}", FULL_DELAY_S) from error
            await pause(tries)

    async def _foreign(self, delivery: Delivery) -> Record | None:
        """The newest record under the guard that is no `end`, the task itself included; None if that is gone.

        A stranger's record there would let no outcome pass for ever, so the guard is moved behind it: it
        still holds only while the task is there and has no end. A task of that name with another sequence is
        another one: this run was removed, and its work submitted anew.
        """
        subjects = self._log.subjects
        while True:
            try:
                task = await self._log.last(subjects.task(delivery.ref), leader=True)
                if task is None or task.seq != delivery.seq:
                    return None
                found = await self._log.newest([subjects.guard(delivery.ref)])
            except RoostError as error:
                self._log.journal.record(
                    "outcome_delayed", subject=subjects.end(delivery.ref), reason=str(error)
                )
                await pause(1)
                continue
            others = [record for record in found.values() if record.subject != subjects.end(delivery.ref)]
            if others:
                return max(others, key=lambda record: record.seq)
            await pause(1)

    async def _existing(self, subject: str) -> Record | None:
        """The `end` that a guard's refusal speaks of; a replica may not have it yet, the leader has."""
        while True:
            try:
                return await self._log.last(subject) or await self._log.last(subject, leader=True)
            except RoostError as error:
                self._log.journal.record("outcome_delayed", subject=subject, reason=str(error))
                await pause(1)


def _has_token(data: bytes, token: str) -> bool:
    return b'"token":"' + token.encode() + b'"' in data[:200]


async def pause(tries: int) -> None:
    """A growing, jittered moment: 0.75 s at most, for as long do waiting outcomes keep slots from fresh work."""
    await asyncio.sleep(min(0.5, 0.02 * 2 ** min(tries, 5)) * (0.5 + random.random()))
