"""What all operations of one execution of a workflow share: the fence, what is on record, how it is halted.

An execution is the workflow function running from its start, once. It meets operations by name; those on
record return what is recorded, the others are done and recorded. When it may not go on (another
coordinator took over, its code does not fit the record) it is halted: it is cancelled, and its operations
raise CancelledError from there on, so that no ``except`` in it can carry on.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn, TypeVar

from roost.errors import ConfigError, HistoryMismatch, InvalidMessage, JetStreamError, RoostError, StoreFull
from roost.observe import Trace
from roost.runs.activity import Activity
from roost.runs.epoch import SILENCE, TRANSIENT, UNSENT, Fence, Fenced, pause, take_over
from roost.runs.inbox import Inbox
from roost.runs.newest import newest_under
from roost.runs.records import Kind, RunSubjects, StepRecord, decode_step, encode, inner_run, op_token
from roost.runs.slots import Slots
from roost.tasks.batch import Pairs, Write
from roost.tasks.delivery import Delivery
from roost.tasks.log import Log, Record
from roost.tasks.outcomes import FULL_DELAY_S, HandBack
from roost.tasks.provision import RESERVE
from roost.tasks.references import INLINE_BYTES
from roost.tasks.storing import put_object
from roost.transport.jetstream import STORE_FULL

T = TypeVar("T")
log = logging.getLogger("roost.runs")

PATIENT = 100
"""Operations of a halted execution that raise; the next ones never return, for it does not listen."""
RECORD_BYTES = 200
"""About what a stored task takes beside its payload."""
SUSPICIOUS = 3
"""Executions that died in a row without a trace, from which on one that comes through leaves one."""


class Core:
    """One execution of a workflow."""

    def __init__(
        self,
        log: Log,
        delivery: Delivery,
        *,
        instance: str,
        trace: Trace,
        ack_wait_s: float,
        slots: Slots,
        on_rest: Callable[[], None],
    ) -> None:
        self.log = log
        self.ref = delivery.ref
        self.run = inner_run(delivery.ref)
        self.subjects = RunSubjects(log.subjects.namespace, self.run)
        self.instance = instance
        self.trace = trace
        self.due_s = delivery.due_s
        """Server time by which this run must have an outcome, and all that it calls; None: it has no deadline."""
        self.seen_s = delivery.stored_s
        """Server time of the newest record that this execution has used: what `Run.now` says."""
        self.fence: Fence
        self.inbox: Inbox
        self.activity = Activity(slots, on_rest)
        self.steps: dict[str, StepRecord] = {}  # on record and not met yet
        self.places: dict[str, int] = {}  # of the first parts of fan-outs on record: their sequences
        self.halted: BaseException | None = None
        self.halting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._doubt_s = ack_wait_s / 2
        self._taken: set[int] = set()  # signals that a wait has taken
        self._met: set[str] = set()
        self._closed = False
        self._refused = 0
        self._idle = False
        self._signing: asyncio.Task[None] | None = None

    @property
    def begun(self) -> bool:
        """Whether this execution has taken over its run."""
        return hasattr(self, "fence")

    @property
    def fresh(self) -> bool:
        """Whether nobody coordinated this run before."""
        return self.fence.before == 0

    async def begin(self) -> None:
        """Take over the run and read what is on record. Raises Ended, and the errors of reads and writes."""
        self.fence = await take_over(self.log, self.subjects, self.ref, by=self.instance)
        self.inbox = Inbox(
            self.log,
            self.subjects,
            self.activity,
            start=self.fence.seq,
            taken=self._taken,
            on_idle=self._now_idle,
            on_failure=self.halt,
        )
        if self.fresh:
            return
        for record in await self.log.read_all(self.subjects.steps):
            self._remember(record)

    def _remember(self, record: Record) -> None:
        try:
            step = decode_step(record.data, subject=record.subject)
        except InvalidMessage as error:
            self.log.journal.record("record_unreadable", subject=record.subject, reason=str(error))
            return
        token = record.subject.rsplit(".", 1)[1]
        self.steps[token] = step
        if token.endswith(":0"):
            self.places[token[:-2]] = record.seq
        if step["kind"] == "signal":
            self._taken.add(step.get("seq", 0))

    async def close(self) -> None:
        """The workflow has returned, or is given up: whatever it left behind ends, also if this is cancelled."""
        self._closed = True
        self.activity.close()
        ending = self.inbox.stop() if self.begun else []
        if self._signing is not None:
            self._signing.cancel()
            ending.append(self._signing)
        await asyncio.gather(*ending, return_exceptions=True)

    # Names --------------------------------------------------------------------------------------

    async def meet(self, name: str, kind: Kind, contract: str) -> str:
        """The token of an operation met by this execution; checks it against the record.

        Raises ConfigError for a name that was met before, UnsafeToken for an empty one.
        """
        await self.alive()
        token = op_token(name)
        if token in self._met:
            raise ConfigError(
                f"operation {name!r} of run {self.run} is ambiguous: this workflow has used the name before. "
                "Nothing was done. Give each operation a name of its own (name=...)."
            )
        self._met.add(token)
        # A fan-out is on record by its first part, a wait by when it ends.
        marks = (token, f"{token}:0", f"{token}:wait")
        there = next((self.steps[mark] for mark in marks if mark in self.steps), None)
        asked = f"{kind} {contract}".strip()
        if there is not None:
            recorded = "signal" if there["kind"] == "wait" else there["kind"]
            if recorded != kind or there["contract"] != contract:
                await self.mismatch(name, asked, f"{recorded} {there['contract']}".strip())
        elif not self.fresh and kind != "call" and (called := await self.called(token)) is not None:
            await self.mismatch(name, asked, f"call {called[0]}")
        return token

    def unmeet(self, token: str) -> None:
        """A step failed and left no record: its name may be used again."""
        self._met.discard(token)

    async def called(self, token: str) -> tuple[str, Record] | None:
        """The contract of a call on record, and the newest of its task and outcome; None if there is none."""
        pattern = self.subjects.called(token)
        record = await self.read(lambda: newest_under(self.log, pattern))
        parsed = self.log.subjects.parse(record.subject) if record is not None else None
        return (parsed[1].name, record) if record is not None and parsed is not None else None

    def unmet(self) -> list[str]:
        """Operations on record that this execution has not asked for."""
        return sorted(
            {step["op"] for token, step in self.steps.items() if token.partition(":")[0] not in self._met}
        )

    async def mismatch(self, name: str, asked: str, recorded: str) -> NoReturn:
        """The code and the record disagree: halt, and never guess."""
        self.halt(HistoryMismatch(run=self.run, operation=name, asked=asked, recorded=recorded))
        await self.never()

    # Ending it ----------------------------------------------------------------------------------

    def halt(self, reason: BaseException) -> None:
        """End this execution; its operations raise CancelledError from here on."""
        if self.halted is None and not self._closed:
            self.halted = reason
            if not self.halting.done():
                self.halting.set_result(None)

    async def never(self) -> NoReturn:
        """Leave a halted execution."""
        self._refused += 1
        await asyncio.sleep(0)
        if self._refused > PATIENT:
            await asyncio.get_running_loop().create_future()
        raise asyncio.CancelledError("this execution of the workflow is over")

    @property
    def over(self) -> bool:
        """Whether `alive` would raise."""
        return self.halted is not None or self._closed

    async def alive(self) -> None:
        """Every operation passes here: a halted execution stops.

        Raises ConfigError when the workflow has returned: what it left running can do nothing for it.
        """
        if self.halted is not None:
            await self.never()
        if self._closed:
            raise ConfigError(
                f"run {self.run}: an operation after its workflow has returned; nothing was done. Await each operation "
                "before the workflow returns."
            )

    # Reading and writing ------------------------------------------------------------------------

    async def read(self, question: Callable[[], Awaitable[T]]) -> T:
        """Ask the log, repeating through outages. Raises JetStreamError."""
        tries = 0
        while True:
            await self.alive()
            try:
                return await question()
            except JetStreamError as error:
                if error.err_code not in TRANSIENT and error.code != 503:
                    raise
                self.log.journal.count("run_not_read")
            except (*SILENCE, *UNSENT):
                self.log.journal.count("run_not_read")
            await pause(tries)
            tries += 1

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
        """As `Fence.commit`; a fenced execution halts, and one that meets a full store goes back to the server."""
        await self.alive()
        try:
            return await self.fence.commit(others, subject, data, trace=trace, once=once, marks=marks)
        except Fenced as error:
            self.halt(error)
            await self.never()
        except JetStreamError as error:
            if error.err_code not in STORE_FULL:
                raise
            self.halt(HandBack(f"the store is full; {subject} could not be kept", FULL_DELAY_S))
            await self.never()

    async def certain(self) -> None:
        """Make sure that this run was not taken over while its process stood still: an effect costs more than a look.

        A process that was paused, or cut off, for longer than the ack wait does not know it; its next record
        would be refused, but the step's function would have run.
        """
        await self.alive()
        if time.monotonic() - self.fence.confirmed <= self._doubt_s:
            return
        try:
            await self.fence.check()
        except Fenced as error:
            self.halt(error)
            await self.never()

    async def make_room(self, name: str, count: int, size: int) -> None:
        """New work stops where the store's reserve begins, which is for accepted work to finish."""
        try:
            await self.log.room.take(name, count, size + RECORD_BYTES)
            self.log.room.landed(size + RECORD_BYTES)
        except StoreFull as error:
            self.halt(HandBack(str(error), FULL_DELAY_S))
            await self.never()

    async def given(self, subject: str, data: bytes) -> tuple[bytes, Pairs]:
        """What the record of an input holds, and its marks: a large input is stored now, and the record refers to it.

        Raises TooLarge.
        """
        if len(data) <= INLINE_BYTES:
            return data, ()
        await self.alive()
        try:
            reference = await put_object(self.log, subject, data, share=RESERVE)
        except StoreFull as error:
            self.halt(HandBack(str(error), FULL_DELAY_S))
            await self.never()
        return reference.encode(), reference.marks

    async def record(self, token: str, step: StepRecord, value: bytes | None = None) -> None:
        """Store the record of an operation."""
        await self.commit([], self.subjects.step(token), encode(step, value))
        self.saw(step)

    def saw(self, step: StepRecord) -> None:
        """The workflow's time moves by what is written in records, so that it repeats on resume."""
        self.saw_at(step["at"] + step.get("s", 0.0))

    def saw_at(self, at_s: float) -> None:
        """As `saw`, of another record, by when it was stored."""
        self.seen_s = max(self.seen_s, at_s)

    # Idleness -----------------------------------------------------------------------------------

    def _now_idle(self) -> None:
        """Everything there is has been read, and more is waited for: this execution has come through.

        If several in a row had died without a trace, it leaves one, so that it is not taken for one that kills.
        """
        if self._idle or not self.activity.waiting:
            return
        self._idle = True
        if self.fence.record.get("deaths", 0) >= SUSPICIOUS:
            self._signing = asyncio.get_running_loop().create_task(self._sign(), name="roost-run-sign")

    async def _sign(self) -> None:
        state = encode(
            {"status": "waiting", "at": round(self.log.now_s(), 6), "by": self.instance, "reason": ""}
        )
        try:
            await self.commit([], self.subjects.state, state, once=False)
        except RoostError as error:
            log.info("run %s could not say that it waits: %s", self.run, error)
