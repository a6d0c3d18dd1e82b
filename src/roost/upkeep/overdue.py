"""Overdue work ends, of every contract, also when no worker of it runs.

Each deadline stands in an index (`roost.tasks.deadlines`), whose consumer delivers it when it is stored and, put off,
when it is due. A task that has no outcome then becomes a dead letter, under the guard that every outcome has: a
worker that finishes in the same moment wins or loses, and there is one outcome.

A run takes along what is open below it, at any depth: what a run calls has its deadline in the header, and is not in
the index by itself. Its coordinator is stopped first, so that nothing is added behind this.

Time is the server's. The header of the task decides, never the index, which a stranger may have written.
"""

from __future__ import annotations

import asyncio
import logging
import math
import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from roost.errors import RoostError, StreamMissing
from roost.runs.coordinator import RunWriter
from roost.runs.listing import attend
from roost.runs.records import RunSubjects, inner_run
from roost.tasks.attempts import bounded, describe
from roost.tasks.deadlines import ACK_WAIT_S, SWEEPER, sweeper_config
from roost.tasks.delivery import Delivery, nak
from roost.tasks.log import Log, chunks
from roost.tasks.marks import DEADLINE, due_of, read_marks
from roost.tasks.outcomes import HandBack, OutcomeWriter, Unstorable
from roost.tasks.records import Ref, encode_dead
from roost.tasks.sofar import so_far
from roost.tasks.worker import LEAST_REASON
from roost.transport import Message, Pump
from roost.transport.ackinfo import parse_ack
from roost.transport.jetstream import Kept

BY = "upkeep"
SLACK_S = 0.5
"""Seconds behind a deadline. A worker that is at the task ends it when it is due, and knows more of it."""
LOOK_S = 30.0
"""A task that is not due is looked at when it is so old, in seconds, and again at twice the age: one that has its
outcome needs no place among those that are waited for (`deadlines.MAX_PENDING`)."""
GRID_S = 0.25
"""Deliveries are put off to full quarters of a second: for each time the server walks over all that wait."""
IN_HAND = 500
PAGE = 250
AT_ONCE = 32
"""Tasks that are ended side by side."""
AGAIN_S = 1.0
CLOCK_S = 60.0
"""How often the server is asked for the time, in seconds: this machine may have slept."""


@dataclass(frozen=True, slots=True, eq=False)
class _Due:
    """One record of the index, as it was delivered."""

    message: Message
    ref: Ref
    due_s: float
    stored_s: float


class Overdue:
    """The duty that ends what is overdue. `run_once` goes on until it is cancelled."""

    name = "overdue"
    interval_s = 1.0

    def __init__(self, tasks: Log) -> None:
        self._log = tasks
        self._writer = OutcomeWriter(tasks)
        self._runs = RunWriter(tasks, {}, BY)
        self._turn = asyncio.Semaphore(AT_ONCE)
        self._news = asyncio.Event()
        self._hand: set[_Due] = set()
        self._came: list[_Due] = []
        self._ending: set[asyncio.Task[None]] = set()
        self._pump: Pump | None = None
        self._missing = False

    async def run_once(self) -> None:
        """Raises ConfigMismatch, the errors of requests, and StreamMissing when the consumer was deleted."""
        log = self._log
        await log.ensure_consumer_of(SWEEPER, sweeper_config(log.subjects))
        self._missing = False
        self._pump = Pump(
            log.link.client,
            log.stream,
            SWEEPER,
            on_message=self._take,
            room=lambda: IN_HAND - len(self._hand),
            on_trouble=self._trouble,
        )
        self._pump.start()
        beating = asyncio.get_running_loop().create_task(self._beat(), name="roost-overdue-beat")
        try:
            while not self._missing:
                await self._news.wait()
                self._news.clear()
                page, self._came = self._came, []
                for part in chunks(page, PAGE):
                    await self._look(part)
            raise StreamMissing(f"{log.stream}, consumer {SWEEPER}")
        finally:
            self._pump.stop()
            self._pump = None
            work = [beating, *self._ending]
            for one in work:
                one.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            for left in list(self._hand):  # the next one that sweeps has it at once
                self._answer(left, b"-NAK")
            self._came = []

    # Deliveries ---------------------------------------------------------------------------------

    def _take(self, message: Message) -> None:
        try:
            ack = parse_ack(message.reply)
        except ValueError as error:
            self._log.journal.record("foreign_record", subject=message.subject, reason=str(error))
            return
        parsed = self._log.subjects.parse(message.subject)
        due_s = due_of(((DEADLINE, message.subject.rpartition(".")[2]),))
        if parsed is None or parsed[0] != "deadline" or due_s is None:
            self._log.journal.record(
                "foreign_record", subject=message.subject, reason="no deadline of a task"
            )
            self._send(message.reply, b"+TERM no deadline of a task")
            return
        one = _Due(message, parsed[1], due_s, ack.timestamp_s)
        now_s = self._log.now_s()
        if self._pump is None:
            self._send(message.reply, b"-NAK")
        elif ack.delivered == 1 and now_s < one.due_s + SLACK_S:
            self._put_off(one, now_s)
        else:
            self._hand.add(one)
            self._came.append(one)
            self._news.set()

    async def _look(self, page: Sequence[_Due]) -> None:
        """Drop those that have their outcome, put off those that have time, end the others."""
        log = self._log
        epochs = {one: RunSubjects(log.subjects.namespace, inner_run(one.ref)).epoch for one in page}
        try:
            found = await log.newest([*(log.subjects.end(one.ref) for one in page), *epochs.values()])
        except RoostError as error:
            log.journal.count(f"overdue_not_read:{type(error).__name__}")
            for one in page:
                self._answer(one, nak(AGAIN_S))
            return
        now_s = log.now_s()
        for one in page:
            end = found.get(log.subjects.end(one.ref))
            # What stands below a run may go on behind its outcome.
            if end is not None and epochs[one] not in found and not end.data.startswith(b'{"status":"dead"'):
                self._answer(one, b"+ACK")
            elif now_s < one.due_s + SLACK_S:
                self._put_off(one, now_s)
            else:
                ending = asyncio.get_running_loop().create_task(self._over(one), name="roost-overdue")
                self._ending.add(ending)
                ending.add_done_callback(self._ending.discard)

    def _put_off(self, one: _Due, now_s: float) -> None:
        at_s = min(one.due_s + SLACK_S, now_s + max(LOOK_S, now_s - one.stored_s))
        self._answer(one, nak(math.ceil(at_s / GRID_S) * GRID_S - now_s))

    def _answer(self, one: _Due, word: bytes) -> None:
        self._hand.discard(one)
        self._send(one.message.reply, word)
        if self._pump is not None:
            self._pump.wake()

    def _send(self, reply: str, word: bytes) -> None:
        try:
            self._log.link.client.send(reply, word)
        except RoostError:
            self._log.journal.count("ack_not_sent")  # it is delivered again

    def _trouble(self, kind: str, text: str) -> None:
        self._log.journal.record(f"pull_{kind}", subject="deadlines", reason=text, level=logging.WARNING)
        if kind == "missing":
            self._missing = True
            self._news.set()

    async def _beat(self) -> None:
        """Keep what is in hand, and know what time it is."""
        loop = asyncio.get_running_loop()
        asked = loop.time()
        while True:
            await asyncio.sleep(ACK_WAIT_S / 3)
            for one in self._hand:
                self._send(one.message.reply, b"+WPI")
            if loop.time() - asked > CLOCK_S:
                asked = loop.time()
                try:
                    await attend(self._log)
                except RoostError as error:
                    self._log.journal.count(f"clock_not_set:{type(error).__name__}")

    # What is overdue ----------------------------------------------------------------------------

    async def _over(self, one: _Due) -> None:
        log = self._log
        try:
            task = await self._task(one.ref)
            due_s = due_of(read_marks(task.head)) if task is not None else None
            if task is not None and (due_s is None or due_s > one.due_s):
                reason = "the header of its task has another deadline, or none"
                log.journal.record("foreign_record", subject=one.message.subject, reason=reason)
            elif await self._end(one.ref, task):
                await self._below(inner_run(one.ref))
            self._answer(one, b"+ACK")
        except HandBack as error:
            log.journal.record("overdue_delayed", subject=str(one.ref), reason=str(error))
            self._answer(one, nak(error.after_s or AGAIN_S))
        except Exception as error:
            known = isinstance(error, RoostError)
            log.journal.record(
                "overdue_delayed",
                subject=str(one.ref),
                reason=f"{type(error).__name__}: {error}",
                error=None if known else error,
            )
            self._answer(one, nak(AGAIN_S if known else LOOK_S))

    async def _task(self, ref: Ref) -> Kept | None:
        """The task as the leader knows it; None when it was cancelled or removed."""
        query = {"last_by_subj": self._log.subjects.task(ref)}
        return await self._log.link.jetstream.from_leader(self._log.stream, query)

    async def _end(self, ref: Ref, task: Kept | None) -> bool:
        """Make a dead letter of a task that is overdue, unless it has its outcome; whether it has begun a run.

        Raises HandBack, and the errors of reads.
        """
        log = self._log
        async with self._turn:
            epoch = RunSubjects(log.subjects.namespace, inner_run(ref)).epoch
            begun = await log.last(epoch, leader=True) is not None
            end, past = await so_far(log, ref, task.seq if task is not None else 0)
            if end is not None:
                await self._writer.complete(ref, end)
            elif task is not None:
                delivery = Delivery(Message(task.subject, "", task.head, b""), ref, task.seq, 1, 0.0)
                delivery.token = secrets.token_hex(8)
                reason = "deadline: it passed before there was an outcome"
                if past:
                    reason += f"; the last attempt: {describe(past[-1])}"
                writer = self._runs if begun else self._writer
                try:
                    data = encode_dead(delivery.token, bounded(past), reason)
                    ours = await writer.write(delivery, data, dead_reason=reason)
                except Unstorable:
                    reason = reason[:LEAST_REASON]
                    data = encode_dead(delivery.token, [], reason)
                    ours = await writer.write(delivery, data, dead_reason=reason)
                finally:
                    self._runs.forget(delivery.token)
                if ours:
                    log.journal.record("task_dead", subject=str(ref), reason=reason)
            return begun

    async def _below(self, run: str) -> None:
        """End what is overdue in a run, and in the runs below it, also in those that have ended themselves."""
        log, subjects = self._log, RunSubjects(self._log.subjects.namespace, run)
        ended = {subject.split(".", 4)[4] for subject in await log.subjects_matching(subjects.all_of("end"))}
        inner: set[str] = set()
        for part in chunks(await log.subjects_matching(subjects.tasks), PAGE):
            refs = {
                parsed[1]: subject.split(".", 4)[4] in ended
                for subject in part
                if (parsed := log.subjects.parse(subject)) is not None and parsed[1].id != run
            }
            epochs = {
                RunSubjects(log.subjects.namespace, inner_run(ref)).epoch: inner_run(ref) for ref in refs
            }
            begun = await log.newest(list(epochs)) if epochs else {}
            inner |= {epochs[subject] for subject in begun}
            open = [ref for ref, is_over in refs.items() if not is_over]
            inner |= {inner_run(ref) for ref in await self._end_all(open)}
        for one in sorted(inner):
            await self._below(one)

    async def _end_all(self, refs: Sequence[Ref]) -> list[Ref]:
        """End those of these tasks that are overdue by their own headers; which of them have begun a run."""
        answers = await asyncio.gather(*(self._end_child(ref) for ref in refs), return_exceptions=True)
        failures = [one for one in answers if isinstance(one, BaseException)]
        if failures:
            raise failures[0]
        return [ref for ref, begun in zip(refs, answers, strict=True) if begun]

    async def _end_child(self, ref: Ref) -> bool:
        task = await self._task(ref)
        due_s = due_of(read_marks(task.head)) if task is not None else None
        if due_s is None or due_s > self._log.now_s():  # it was submitted anew, in the place of a dead letter
            return False
        return await self._end(ref, task)
