"""Tasks that must not begin before a time.

Such a task is stored in the log at once, so it has a handle, its key is taken and it can be cancelled; a mark in its
header says when it may begin. A delivery to a worker would hold a slot of the consumer until then, so the task waits
outside of it: the worker acknowledges it unrun, once it has seen that the server has a schedule for it. When that
fires, a worker writes a record that is delivered like a task, once, and only that runs it (as turns do, in `order`).

    <ns>.run.<name>::.task.<name>.wake.<ms>.<run>.<id>    the task may begin; the filter of the consumer takes it

The schedule only frees the slot. Without one, as when the submitter may not write any, the task goes back to the
server until it is time, and whoever gets it then writes the same record.
"""

from __future__ import annotations

import logging
from datetime import datetime

from roost._text import quoted
from roost.errors import ConfigError, JetStreamError, StreamMissing
from roost.tasks.adopting import LAG_S, adopt
from roost.tasks.batch import create_once
from roost.tasks.delivery import Delivery, Wake
from roost.tasks.log import Log, Record
from roost.tasks.outcomes import FULL_DELAY_S, HandBack, pause
from roost.tasks.records import Ref
from roost.tasks.timetable import Timetable
from roost.transport.headers import block
from roost.transport.jetstream import STORE_FULL, WRONG_LAST_SEQUENCE, WRONG_LAST_SEQUENCE_PENDING

SHORT_S = 1.0
"""A task that may begin within so many seconds waits in the consumer: a schedule would cost more than its slot."""
LOOK_AGAIN_S = 3600.0
"""How long a task without a schedule goes back to the server at most."""
LONGEST_S = 10 * 365 * 86_400
"""No delay is longer, in seconds: ten years."""
PASSED_S = 60.0
"""A time that is past by more is a mistake; by less, it may be that clocks differ."""
TRIES = 8
"""Writes of one wake before its delivery goes back to the server."""


def begin_at(delay_s: float | None, at: datetime | None, *, now_s: float, keyed: bool) -> int | None:
    """When a task may begin, in milliseconds since 1970; None: at once. Raises ConfigError.

    A time that has passed is most likely a mistake. With a key it may be the repetition of an earlier submission,
    which is safe at any time: then it begins at once.
    """
    if delay_s is not None and at is not None:
        raise ConfigError("give delay_s or at, not both; nothing was submitted")
    if at is not None:
        left_s = _aware(at).timestamp() - now_s
        if left_s < -PASSED_S and not keyed:
            raise ConfigError(f"at = {at.isoformat()} has passed; nothing was submitted")
        delay_s = max(0.0, left_s)
    if delay_s is None:
        return None
    number = isinstance(delay_s, int | float) and not isinstance(delay_s, bool)
    if not number or not 0 <= delay_s <= LONGEST_S:
        raise ConfigError(
            f"delay_s = {quoted(delay_s)}: must be a number of seconds from 0 to {LONGEST_S} (ten years); nothing was "
            "submitted"
        )
    return round((now_s + delay_s) * 1000) if delay_s else None


def _aware(at: datetime) -> datetime:
    if isinstance(at, datetime) and at.utcoffset() is not None:
        return at
    raise ConfigError(
        f"at = {quoted(at)}: must be a datetime with a time zone, such as datetime.now(UTC) + timedelta(hours=1); "
        "nothing was submitted"
    )


class Delays:
    """Arranges, as a submitter, and sees to it, as a worker, that tasks of one log begin when they may."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._timetable = Timetable(log)
        self._refused = False

    # As a submitter ---------------------------------------------------------------------------------

    async def arrange(self, ref: Ref, begin_ms: int, *, timeout_s: float) -> None:
        """Have the server tell when a task is to begin. Raises the errors of reads and writes.

        Done before the task is stored: whoever gets that finds the schedule. Where this user may not write schedules,
        the task waits without one.
        """
        if begin_ms / 1000 - self._log.now_s() <= SHORT_S:
            return
        if self._refused:
            self._log.journal.count("delay_without_schedule")
            return
        try:
            await self._timetable.ensure(ref.name)
            await self._timetable.put(ref, begin_ms, timeout_s=timeout_s)
        except (StreamMissing, PermissionError) as error:
            self._refused = isinstance(error, PermissionError) or not await self._may_come_back()
            self._log.journal.record(
                "delay_without_schedule",
                subject=str(ref),
                reason=f"{error}; it holds one of the slots of its consumer until it begins",
                level=logging.INFO,
            )

    async def _may_come_back(self) -> bool:
        """Whether the stream is there, and only nobody leads it now."""
        try:
            return await self._timetable.exists()
        except PermissionError:
            return False

    # As a worker ------------------------------------------------------------------------------------

    async def wait(self, delivery: Delivery, begin_ms: int) -> float:
        """What the own delivery of a task that has to wait is for; seconds after which it has to come again, or 0.

        Raises HandBack, and the errors of reads and writes.
        """
        left_s = begin_ms / 1000 - self._log.now_s()
        if left_s <= 0:
            await self.wake(delivery.ref, begin_ms)
            return 0
        if left_s > SHORT_S and await self._timetable.has(delivery.ref, begin_ms):
            return 0
        return min(left_s, LOOK_AGAIN_S)

    async def wake(self, ref: Ref, begin_ms: int) -> None:
        """Write that a task may begin, once. Raises HandBack, and the errors of a write."""
        subject = Wake(begin_ms, ref).subject(self._log.subjects)
        for tries in range(TRIES):
            try:
                await self._log.link.jetstream.publish(subject, b"", block(*create_once("")))
                return
            except JetStreamError as error:
                if error.err_code == WRONG_LAST_SEQUENCE:
                    return
                if error.err_code in STORE_FULL:
                    raise HandBack("the store is full; a task could not begin", FULL_DELAY_S) from error
                if error.err_code != WRONG_LAST_SEQUENCE_PENDING:
                    raise
            await pause(tries)
        raise HandBack("others are writing that it may begin", LAG_S)

    async def adopt(self, delivery: Delivery) -> tuple[bool, Record | None]:
        """As `adopting.adopt`, for a wake."""
        wake = delivery.wake
        assert wake is not None
        runs, end = await adopt(self._log, delivery)
        if runs and delivery.begin_ms != wake.begin_ms:
            reason = "it says when a task may begin that has another time, or none"
            self._log.journal.record("foreign_record", subject=delivery.subject, reason=reason)
            return False, None
        return runs, end

    def early_s(self, delivery: Delivery) -> float:
        """For how many seconds more a task that is about to run has to wait, 0 if it may begin.

        A wake that was stored late enough is right, whatever the clock here says; one that was stored too early is
        no server's.
        """
        begin_ms = delivery.begin_ms
        if begin_ms is None:
            return 0
        left_s = begin_ms / 1000 - max(self._log.now_s(), delivery.woken_s)
        return min(max(0.0, left_s), LOOK_AGAIN_S)
