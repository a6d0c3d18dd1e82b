"""What all operations of one execution of a workflow share: the fence, what is on record, how it is halted.

An execution is the workflow function running from its start, once. It meets operations by name; those on
record return what is recorded, the others are done and recorded. When it may not go on (another
coordinator took over, its code does not fit the record) it is halted: it is cancelled, and its operations
raise CancelledError from there on, so that no ``except`` in it can carry on.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from typing import NoReturn, TypeVar

from roost.errors import ConfigError, HistoryMismatch, InvalidMessage, JetStreamError, RoostError, StoreFull
from roost.observe import Trace
from roost.runs.epoch import SILENCE, TRANSIENT, UNSENT, Fence, Fenced, pause, take_over
from roost.runs.feed import Feed
from roost.runs.newest import newest_under
from roost.runs.records import Kind, RunSubjects, StepRecord, decode_step, encode, inner_run, op_token
from roost.runs.slots import Slots
from roost.tasks.batch import Write
from roost.tasks.delivery import Delivery
from roost.tasks.log import Log, Record
from roost.tasks.outcomes import FULL_DELAY_S, HandBack
from roost.tasks.records import Ref
from roost.transport.jetstream import STORE_FULL

T = TypeVar("T")
log = logging.getLogger("roost.runs")

PATIENT = 100
"""Operations of a halted execution that raise; the next ones never return, for it does not listen."""
RECORD_BYTES = 200
"""About what a stored task takes beside its payload."""


class Core:
    """One execution of a workflow."""

    def __init__(
        self,
        log: Log,
        delivery: Delivery,
        *,
        instance: str,
        trace: Trace,
        slots: Slots,
        on_rest: Callable[[], None],
    ) -> None:
        self.log = log
        self.ref = delivery.ref
        self.run = inner_run(delivery.ref)
        self.subjects = RunSubjects(log.subjects.namespace, self.run)
        self.instance = instance
        self.trace = trace
        self.seen_s = delivery.stored_s
        """Server time of the newest record that this execution has used: what `Run.now` says."""
        self.fence: Fence
        self.ends: Feed
        self.steps: dict[str, StepRecord] = {}  # on record and not met yet
        self.places: dict[str, int] = {}  # of the first parts of fan-outs on record: their sequences
        self.halted: BaseException | None = None
        self.halting: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.streams: dict[tuple[str, str], Callable[[Record], None]] = {}
        """Fan-outs that take ends as they come, by contract and operation."""
        self.hungry: set[str] = set()
        """Those of them that want more just now."""
        self._taken: set[int] = set()  # signals that a wait has taken
        self._closed = False
        self._met: set[str] = set()
        self._waits: dict[str, asyncio.Future[Record]] = {}
        self._signals: dict[str, _Signals] = {}
        self._slots = slots
        self._on_rest = on_rest
        self._holds = True  # a slot; whoever makes this has taken one
        self._slot_lock = asyncio.Lock()
        self._waiting = 0
        self._busy = 0
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
        # What is there already is looked up by whoever meets it; fan-outs rewind to where they began.
        self.ends = Feed(
            self.log,
            self.subjects.all_of("end"),
            self.subjects.live("end"),
            start=self.fence.seq,
            take=self._take_end,
            wanted=lambda: bool(self._waits or self.hungry),
            on_idle=self._now_idle,
            on_failure=self.halt,
        )
        if self.fresh:
            return
        found = set()
        for record in await self.log.read_all(self.subjects.steps):
            found.add(record.subject)
            self._remember(record)
        for subject in await self.log.subjects_matching(self.subjects.steps):
            if subject not in found:  # a replica may lag behind; the leader does not
                missing = await self.log.last(subject, leader=True)
                if missing is not None:
                    self._remember(missing)

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
        if step["kind"] == "signal" and step.get("seq"):
            self._taken.add(step["seq"])

    async def close(self) -> None:
        """The workflow has returned, or is given up: whatever it left behind ends."""
        self._closed = True
        for future in [*self._waits.values(), *(f for one in self._signals.values() for f in one.waits)]:
            future.cancel()
        if hasattr(self, "ends"):
            await self.ends.close()
        for one in self._signals.values():
            await one.feed.close()
        if self._signing is not None:
            self._signing.cancel()
            await asyncio.gather(self._signing, return_exceptions=True)
        if self._holds:
            self._holds = False
            self._slots.give()

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
        self, others: Sequence[Write], subject: str, data: bytes, *, trace: str = "", once: bool = True
    ) -> int:
        """As `Fence.commit`; a fenced execution halts, and one that meets a full store goes back to the server."""
        await self.alive()
        try:
            return await self.fence.commit(others, subject, data, trace=trace, once=once)
        except Fenced as error:
            self.halt(error)
            await self.never()
        except JetStreamError as error:
            if error.err_code not in STORE_FULL:
                raise
            self.halt(HandBack(f"the store is full; {subject} could not be kept", FULL_DELAY_S))
            await self.never()

    async def make_room(self, size: int) -> None:
        """New work stops where the store's reserve begins, which is for accepted work to finish."""
        try:
            self.log.check_room(size + RECORD_BYTES)
        except StoreFull as error:
            self.halt(HandBack(str(error), FULL_DELAY_S))
            await self.never()

    async def record(self, token: str, step: StepRecord, value: bytes | None = None) -> None:
        """Store the record of an operation."""
        await self.commit([], self.subjects.step(token), encode(step, value))
        self.saw(step)

    def saw(self, step: StepRecord) -> None:
        """The workflow's time moves by what is written in records, so that it repeats on resume."""
        self.seen_s = max(self.seen_s, step["at"] + step.get("s", 0.0))

    # Slots --------------------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Whether nothing of this workflow runs: it waits for the log."""
        return self._waiting > 0 and self._busy == 0

    async def work(self) -> None:
        """A step's function is about to begin: it needs a slot if a wait has given it away."""
        self._busy += 1
        try:
            async with self._slot_lock:
                if not self._holds:
                    await self._slots.take()
                    self._holds = True
        except BaseException:
            self._busy -= 1
            raise
        if self._closed and self._holds:
            self._holds = False
            self._slots.give()

    def worked(self) -> None:
        """A step's function has ended."""
        self._busy -= 1
        self._rest()

    def wait_begins(self) -> None:
        """An operation waits for the log."""
        self._waiting += 1
        self._rest()

    def wait_ends(self) -> None:
        """What it has waited for is there. Between operations a workflow needs no slot: it only computes."""
        self._waiting -= 1

    def _rest(self) -> None:
        if not self.waiting or self._closed:
            return
        if self._holds:
            self._holds = False
            self._slots.give()
        self._on_rest()

    def _now_idle(self) -> None:
        """Everything there is has been read, and more is waited for: this execution has come through.

        If several in a row had died without a trace, it leaves one, so that it is not taken for one that kills.
        """
        if self._idle or not self.waiting:
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
        except (RoostError, asyncio.CancelledError) as error:
            log.info("run %s could not say that it waits: %s", self.run, error)
            if isinstance(error, asyncio.CancelledError):
                raise

    # Waiting ------------------------------------------------------------------------------------

    def expect(self, ref: Ref) -> Awaited:
        """Begin to listen for the outcome of a task of this run, before it is submitted or looked for."""
        subject = self.log.subjects.end(ref)
        self._waits[subject] = future = asyncio.get_running_loop().create_future()
        return Awaited(self, subject, future)

    def _take_end(self, record: Record) -> None:
        future = self._waits.get(record.subject)
        if future is not None:
            if not future.done():
                future.set_result(record)
            return
        parsed = self.log.subjects.parse(record.subject)
        op, _, key = parsed[1].id.partition(":") if parsed is not None else ("", "", "")
        if parsed is None or not key or ":" in key:  # a call that nobody waits for, or a dead letter's replay
            return
        take = self.streams.get((parsed[1].name, op))
        if take is not None:  # else a fan-out that was left, or is still to come and reads from its beginning
            take(record)

    async def signal(self, name: str) -> Record:
        """The oldest signal of a name that no wait has taken."""
        signals = self._signals_of(name)
        if signals.records:
            return signals.records.pop(0)
        future: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        signals.waits.append(future)
        self.wait_begins()
        try:
            signals.feed.wake()
            return await future
        except BaseException:
            if future.done() and not future.cancelled():  # it came as the wait was given up: for the next one
                signals.records.insert(0, future.result())
            raise
        finally:
            signals.waits.remove(future)
            self.wait_ends()

    async def signal_until(self, name: str, until: float) -> Record | None:
        """The oldest signal of a name that nobody has taken and that was stored by `until`, server time."""
        signals = self._signals_of(name)
        await signals.feed.catch_up()
        for at, record in enumerate(signals.records):
            if record.stored_s <= until:
                return signals.records.pop(at)
        return None

    def take_signal(self, seq: int) -> None:
        """A wait has taken this signal."""
        self._taken.add(seq)

    def _signals_of(self, name: str) -> _Signals:
        if name not in self._signals:
            signals = self._signals[name] = _Signals()

            def take(record: Record) -> None:
                if record.seq in self._taken:
                    return
                future = next((one for one in signals.waits if not one.done()), None)
                if future is not None:
                    future.set_result(record)
                else:
                    signals.records.append(record)

            signals.feed = Feed(
                self.log,
                self.subjects.signal(name),
                self.subjects.live_signal(name),
                start=1,
                take=take,
                wanted=lambda: any(not one.done() for one in signals.waits),
                on_idle=self._now_idle,
                on_failure=self.halt,
            )
        return self._signals[name]


SUSPICIOUS = 3
"""Executions that died in a row without a trace, from which on one that comes through leaves one."""


class _Signals:
    """The signals of one name."""

    def __init__(self) -> None:
        self.feed: Feed
        self.records: list[Record] = []  # read and not taken yet: at most a page
        self.waits: list[asyncio.Future[Record]] = []


class Awaited:
    """The outcome of one task, listened for."""

    def __init__(self, core: Core, subject: str, future: asyncio.Future[Record]) -> None:
        self._core = core
        self._subject = subject
        self._future = future

    async def record(self) -> Record:
        """The outcome's record, once there is one."""
        core = self._core
        if not self._future.done():
            core.wait_begins()
            try:
                core.ends.wake()
                await self._future
            finally:
                core.wait_ends()
        record = self._future.result()
        core.seen_s = max(core.seen_s, record.stored_s)
        return record

    def found(self, record: Record) -> None:
        """It was looked up."""
        if not self._future.done():
            self._future.set_result(record)

    def over(self) -> None:
        """Listen no more."""
        self._core._waits.pop(self._subject, None)
