"""The worker: runs the handler of one task contract, records the outcome, acks.

The order is the promise: the `end` record is stored before the delivery is acknowledged, so a death at any
instruction leads to a redelivery that either finds the end or runs the handler again. Two workers may run
the same task at once (a paused process, a slow network); the guard on `end` lets exactly one of them win.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
from typing import Any

from roost.contracts import GiveUp, Task, Workflow
from roost.errors import InvalidMessage, Reject, RetryLater
from roost.tasks.attempts import bounded, describe, next_number
from roost.tasks.batch import Pairs
from roost.tasks.calling import HandlerLeft, Invoke, call, encode_result
from roost.tasks.deadlines import due
from roost.tasks.delivery import Delivery, nak
from roost.tasks.gate import Gate
from roost.tasks.intake import Intake
from roost.tasks.log import Log, Record
from roost.tasks.marks import decode_input, read_marks
from roost.tasks.outcomes import HandBack, Unstorable
from roost.tasks.records import (
    AttemptRecord,
    NoteRecord,
    encode_dead,
    encode_done,
    error_record,
)
from roost.tasks.references import INLINE_BYTES, done_elsewhere, is_large
from roost.tasks.sofar import so_far

log = logging.getLogger("roost.tasks")

TOO_NEW_BASE_S = 0.5
TOO_NEW_CAP_S = 5.0
"""Delays of a delivery of a later version than this worker knows: among several, one will come to the right one."""
LEAST_REASON = 200
"""Characters of a reason that are kept where the server takes only small records."""


class Worker(Intake):
    """Runs up to `concurrency` handlers of one task at once in this process."""

    def __init__(
        self,
        tasks: Log,
        task: Task[Any, Any] | Workflow[Any, Any],
        invoke: Invoke,
        *,
        concurrency: int,
        instance: str,
        gate: Gate | None = None,
    ) -> None:
        super().__init__(tasks, task, concurrency=concurrency, instance=instance, gate=gate)
        self._invoke = invoke
        self._unique = secrets.token_hex(6)
        self._serial = 0

    def _counted(self, past: list[AttemptRecord]) -> int:
        """How many of the past attempts count against the retry policy."""
        return len(past)

    async def _ended(self, delivery: Delivery, end: Record | None) -> None:
        """A task that was delivered again has its outcome, or is gone."""
        if end is not None:
            await self._writer.complete(delivery.ref, end)
            self._log.journal.count("redelivered_after_end")
        await self._settle(delivery)

    async def _process(self, delivery: Delivery) -> None:
        task = self._task
        past: list[AttemptRecord] = []
        again = delivery.delivered > 1
        old = delivery.stored_s < self._since_s  # its consumer may be a new one
        marked = delivery.turn is not None or delivery.wake is not None or delivery.marked
        if marked and delivery.turn is None:
            if delivery.wake is None and (begin_ms := delivery.begin_ms) is not None:
                await self._wait(delivery, begin_ms)
                return
            if delivery.wake is not None:
                runs, end = await self._delays.adopt(delivery)
                if not runs:
                    await self._ended(delivery, end)
                    return
        if marked and self._order is not None:
            if delivery.turn is None and (key := delivery.order):
                await self._order.line_up(delivery, key)
                self._answer(delivery, b"+ACK")
                self._log.journal.count("lined_up")
                return
            if delivery.turn is not None:
                runs, end = await self._order.adopt(delivery)
                if not runs:
                    await self._ended(delivery, end)
                    return
        if marked and (early_s := self._delays.early_s(delivery)):
            self._answer(delivery, nak(early_s))
            self._log.journal.count("too_early")
            return
        if again or old or (marked and delivery.copied):
            end, past = await so_far(self._log, delivery.ref, delivery.seq)
            if end is not None:
                await self._ended(delivery, end)
                return
            again = again or bool(past)
        version = delivery.version if marked else 1
        if version > task.version:
            self._too_new(delivery, version)
            return
        delivery.attempt = number = next_number(past)
        self._serial += 1
        delivery.token = f"{self._unique}.{self._serial}"
        delivery.due_s = due(task, self._began_s(delivery), delivery.marked_due_s if marked else None)
        left_s = self._left_s(delivery)
        if left_s is not None and left_s <= 0:
            await self._die(delivery, past, "deadline: it passed before the attempt could begin")
            return
        if self._counted(past) >= task.retry.attempts:
            await self._die(
                delivery, past, f"attempts exhausted ({len(past)}); the last one: {describe(past[-1])}"
            )
            return
        if self._gate is not None:
            self._gate.begin(delivery)
        started_s = self._log.now_s()
        if (again or task.retry.attempts == 1) and self._notes_starts:
            await self._note(
                delivery, {"k": number, "event": "started", "by": self._instance, "at": started_s}
            )
            delivery.noted = True
        try:
            given = await self._payload(delivery) if marked else delivery.data
            value = decode_input(task, given, version, delivery.subject)
        except InvalidMessage as error:
            self._log.journal.record("message_refused", subject=delivery.subject, reason=str(error))
            await self._die(delivery, past, f"invalid input: {error.field or 'payload'}: {error.reason}")
            return
        loop = asyncio.get_running_loop()
        begun = loop.time()
        try:
            output = await call(self._invoke, value, delivery, limit_s=task.attempt_timeout_s, left_s=left_s)
            data = encode_result(task, output, delivery.subject)
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if self._stopping or (current is not None and current.cancelling()):
                raise
            await self._failed(
                delivery,
                past,
                started_s,
                loop.time() - begun,
                HandlerLeft("it raised CancelledError although nobody cancelled it"),
            )
            return
        except HandBack:
            raise
        except SystemExit as error:
            left = HandlerLeft(f"it called sys.exit({error.code!r})")
            await self._failed(delivery, past, started_s, loop.time() - begun, left)
            return
        except Exception as error:
            await self._failed(delivery, past, started_s, loop.time() - begun, error)
            return
        if self._gate is not None:
            self._gate.ended(delivery, loop.time() - begun)
        attempt: AttemptRecord = {
            "k": number,
            "by": self._instance,
            "at": round(started_s, 6),
            "s": round(loop.time() - begun, 6),
        }
        marks: Pairs = ()
        try:
            if len(data) > INLINE_BYTES:
                reference = await self._writer.put_value(delivery, data)
                record = encode_done(delivery.token, bounded([*past, attempt]), b"null")
                record, marks = done_elsewhere(record, reference), reference.marks
            else:
                record = encode_done(delivery.token, bounded([*past, attempt]), data)
            ours = await self._writer.write(delivery, record, marks=marks)
        except Unstorable as error:
            attempt["error"] = error_record(error)
            await self._die(delivery, [*past, attempt], f"its result cannot be stored: {error}")
            return
        await self._settle(delivery)
        self._log.journal.count(f"task_done:{task.name}" if ours else "done_in_vain")

    async def _payload(self, delivery: Delivery) -> bytes:
        """The input, read if it is an object. Raises InvalidMessage (TooLarge) when it is lost."""
        if not is_large(read_marks(delivery.message.head)):
            return delivery.data
        most_bytes = self._task.limits.max_bytes
        return await self._log.objects.fetch(delivery.subject, delivery.data, most_bytes=most_bytes)

    async def _wait(self, delivery: Delivery, begin_ms: int) -> None:
        """A task that may not begin yet, or that only what says so may run."""
        again_s = await self._delays.wait(delivery, begin_ms)
        self._answer(delivery, nak(again_s) if again_s else b"+ACK")
        self._log.journal.count("waits_in_consumer" if again_s else "waits_outside")
        if not again_s:
            self._firings.hurry()

    def _too_new(self, delivery: Delivery, version: int) -> None:
        """Hand back, unread and without an attempt, what was submitted under a later version of the contract."""
        delay_s = min(TOO_NEW_CAP_S, TOO_NEW_BASE_S * 2 ** min(delivery.delivered - 1, 10))
        self._answer(delivery, nak(delay_s * (0.5 + random.random() / 2)))
        self._log.journal.record(
            "task_too_new",
            subject=str(delivery.ref),
            reason=f"it has version {version} of {self._task.name!r} and this worker knows {self._task.version}: it "
            "waits for one that knows it",
            level=logging.WARNING if delivery.delivered == 1 else logging.DEBUG,
        )

    @staticmethod
    def _began_s(delivery: Delivery) -> float:
        """From when on its contract's deadline counts."""
        begin_ms = delivery.begin_ms
        return delivery.stored_s if begin_ms is None else max(delivery.stored_s, begin_ms / 1000)

    def _left_s(self, delivery: Delivery) -> float | None:
        """Seconds to the task's deadline by the server's clock, None if it has none."""
        return delivery.due_s - self._log.now_s() if delivery.due_s is not None else None

    async def _failed(
        self, delivery: Delivery, past: list[AttemptRecord], started_s: float, ran_s: float, error: Exception
    ) -> None:
        """An attempt ended in an exception: backoff and redelivery, or a dead letter."""
        if self._gate is not None:
            self._gate.ended(delivery, ran_s, error)
        record = error_record(error)
        attempt: AttemptRecord = {
            "k": delivery.attempt,
            "by": self._instance,
            "at": round(started_s, 6),
            "s": round(ran_s, 6),
            "error": record,
        }
        verdict = self._task.retry.verdict(error, self._counted(past) + 1, random.random())
        if isinstance(verdict, GiveUp):
            reason, delay_s = verdict.reason, 0.0
        else:
            reason, delay_s = "", verdict.delay_s
        left_s = self._left_s(delivery)
        if not reason and left_s is not None and delay_s >= left_s:
            reason = f"deadline: it would pass before the next attempt; the last one: {describe(attempt)}"
        traceback = None if isinstance(error, Reject | RetryLater) else error
        # The line of the journal has the traceback too, but not when it is one of many in a second.
        log.debug("attempt %d of task %s failed", delivery.attempt, delivery.ref, exc_info=traceback)
        if reason:
            await self._die(delivery, [*past, attempt], reason, error=traceback)
            return
        await self._note(
            delivery,
            {
                "k": delivery.attempt,
                "event": "failed",
                "by": self._instance,
                "at": round(started_s, 6),
                "s": round(ran_s, 6),
                "error": record,
                "retry_in_s": round(delay_s, 3),
            },
        )
        self._answer(delivery, nak(delay_s))
        level = logging.DEBUG if isinstance(error, RetryLater) else logging.WARNING
        self._log.journal.record(
            "task_retried", subject=str(delivery.ref), reason=describe(attempt), level=level, error=traceback
        )

    async def _die(
        self,
        delivery: Delivery,
        attempts: list[AttemptRecord],
        reason: str,
        *,
        error: BaseException | None = None,
    ) -> None:
        record = encode_dead(delivery.token, bounded(attempts), reason)
        try:
            ours = await self._writer.write(delivery, record, dead_reason=reason)
        except Unstorable:
            ours = await self._writer.write(
                delivery,
                encode_dead(delivery.token, [], reason[:LEAST_REASON]),
                dead_reason=reason[:LEAST_REASON],
            )
        if ours:
            self._log.journal.record("task_dead", subject=str(delivery.ref), reason=reason, error=error)
        await self._settle(delivery)

    async def _note(self, delivery: Delivery, note: NoteRecord) -> None:
        await self._writer.note(delivery, note)
