"""What all operations of one execution of a workflow share: the fence, what is on record, how it is halted.

An execution is the workflow function running from its start, once. It meets operations by name; those on
record return what is recorded, the others are done and recorded. When it may not go on (another
coordinator took over, its code does not fit the record) it is halted: its task is cancelled and no
operation returns, so that no ``except`` in it can carry on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import NoReturn

from roost.errors import ConfigError, HistoryMismatch, InvalidMessage
from roost.observe import Trace
from roost.runs.epoch import Fence, Fenced, take_over
from roost.runs.feed import Feed
from roost.runs.records import Kind, RunSubjects, StepRecord, decode_step, encode, inner_run, op_token
from roost.tasks.batch import Write
from roost.tasks.delivery import Delivery
from roost.tasks.log import Log, Record
from roost.tasks.records import Ref


class Core:
    """One execution of a workflow."""

    def __init__(
        self, log: Log, delivery: Delivery, *, instance: str, trace: Trace, on_change: Callable[[], None]
    ) -> None:
        self.log = log
        self.ref = delivery.ref
        self.run = inner_run(delivery.ref)
        self.subjects = RunSubjects(log.subjects.namespace, self.run)
        self.instance = instance
        self.trace = trace
        self.began_s = delivery.stored_s
        self.seen_s = delivery.stored_s
        """Server time of the newest record that this execution has used: what `Run.now` says."""
        self.fence: Fence
        self.fresh = True
        self.steps: dict[str, StepRecord] = {}
        self.calls: dict[str, str] = {}  # recorded tasks: id -> contract
        self.taken: set[int] = set()  # signals that a wait has taken
        self.halted: Exception | None = None
        self._met: set[str] = set()
        self._main = asyncio.current_task()
        self._on_change = on_change
        self._waiting = 0
        self._busy = 0
        self._waits: dict[str, asyncio.Future[Record]] = {}
        self._early: dict[str, Record] = {}
        self.streams: dict[str, Callable[[Record], None]] = {}
        """Fan-outs that take ends as they come, by what their tasks' end subjects begin with."""
        self.hungry: set[str] = set()
        """Those of them that want more just now."""
        self._own_end = log.subjects.end(delivery.ref)
        self.ends = Feed(
            log,
            self.subjects.all_of("end"),
            self.subjects.live("end"),
            take=self._take_end,
            wanted=lambda: bool(self._waits or self.hungry),
        )
        self.signal_waits: list[tuple[str, asyncio.Future[Record]]] = []
        self._signals: list[tuple[str, Record]] = []
        self.signals = Feed(
            log,
            self.subjects.all_of("signal"),
            self.subjects.live("signal"),
            take=self._take_signal,
            wanted=lambda: bool(self.signal_waits),
        )

    async def begin(self) -> None:
        """Take over the run and read what is on record."""
        self.fence = await take_over(self.log, self.subjects, self.ref, by=self.instance)
        self.fresh = self.fence.before == 0
        if self.fresh:
            return
        for record in await self.log.read_all(self.subjects.steps):
            try:
                step = decode_step(record.data, subject=record.subject)
            except InvalidMessage as error:
                self.log.journal.record("record_unreadable", subject=record.subject, reason=str(error))
                continue
            token = record.subject.rsplit(".", 1)[1]
            self.steps[token] = step
            if step["kind"] == "signal" and step.get("seq"):
                self.taken.add(step["seq"])
        for subject in await self.log.subjects_matching(self.subjects.tasks):
            parsed = self.log.subjects.parse(subject)
            if parsed is not None and parsed[1] != self.ref:
                self.calls[parsed[1].id] = parsed[1].name

    async def close(self) -> None:
        await self.ends.close()
        await self.signals.close()

    # Names --------------------------------------------------------------------------------------

    def meet(self, name: str, kind: Kind, contract: str) -> str:
        """The token of an operation met by this execution; checks it against the record.

        Raises ConfigError for a name that was met before.
        """
        token = op_token(name)
        if token in self._met:
            raise ConfigError(
                f"operation {name!r} of run {self.run} is ambiguous: this workflow has used the name before. "
                "Nothing was done. Give each operation a name of its own (name=...)."
            )
        self._met.add(token)
        found = self.steps.get(token)
        if found is None:
            found = self.steps.get(f"{token}:0")  # the first part of a fan-out
        there = self.calls.get(token)
        if found is not None and (found["kind"] != kind or found["contract"] != contract):
            self.mismatch(name, f"{kind} {contract}".strip(), f"{found['kind']} {found['contract']}".strip())
        if there is not None and (kind != "call" or there != contract):
            self.mismatch(name, f"{kind} {contract}".strip(), f"call {there}")
        return token

    def unmeet(self, token: str) -> None:
        """A step failed and left no record: its name may be used again."""
        self._met.discard(token)

    def mismatch(self, name: str, asked: str, recorded: str) -> None:
        """The code and the record disagree: halt, and never guess."""
        self.halt(HistoryMismatch(run=self.run, operation=name, asked=asked, recorded=recorded))

    def halt(self, reason: Exception) -> None:
        """End this execution; operations do not return from here on."""
        if self.halted is None:
            self.halted = reason
            if self._main is not None:
                self._main.cancel()

    async def never(self) -> NoReturn:
        """Wait for the cancellation that `halt` has asked for."""
        await asyncio.get_running_loop().create_future()
        raise AssertionError("a halted workflow went on")

    async def alive(self) -> None:
        """Every operation passes here: a halted execution stops."""
        if self.halted is not None:
            await self.never()

    # Writing ------------------------------------------------------------------------------------

    async def write(self, subject: str, data: bytes) -> int:
        """Store a record under this epoch; a fenced execution halts."""
        await self.alive()
        try:
            return await self.fence.write(subject, data)
        except Fenced as error:
            self.halt(error)
            await self.never()

    async def commit(self, writes: list[Write], *, stored: str) -> int:
        """Store several records at once; as `write`. Raises JetStreamError."""
        await self.alive()
        try:
            return await self.fence.commit(writes, stored=stored)
        except Fenced as error:
            self.halt(error)
            await self.never()

    async def record(self, token: str, step: StepRecord, value: bytes | None = None) -> None:
        """Store the record of an operation."""
        await self.write(self.subjects.step(token), encode(step, value))
        self.saw(step)

    def saw(self, step: StepRecord) -> None:
        """The workflow's time moves by what is written in records, so that it repeats on resume."""
        self.seen_s = max(self.seen_s, step["at"] + step.get("s", 0.0))

    # Waiting ------------------------------------------------------------------------------------

    @property
    def waiting(self) -> bool:
        """Whether nothing of this workflow runs: it waits for the log."""
        return self._waiting > 0 and self._busy == 0

    def working(self, by: int) -> None:
        """A step's function has begun (1) or ended (-1)."""
        self._busy += by
        self._on_change()

    def resting(self, by: int) -> None:
        """A wait for the log has begun (1) or ended (-1)."""
        self._waiting += by
        self._on_change()

    async def end(self, ref: Ref) -> Record:
        """The outcome record of a task of this run, once there is one."""
        subject = self.log.subjects.end(ref)
        early = self._early.pop(subject, None)
        if early is not None:
            self.seen_s = max(self.seen_s, early.stored_s)
            return early
        future: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        self._waits[subject] = future
        self.resting(1)
        self.ends.wake()
        try:
            record = await future
        finally:
            del self._waits[subject]
            self.resting(-1)
        self.seen_s = max(self.seen_s, record.stored_s)
        return record

    def _take_end(self, record: Record) -> None:
        if record.subject == self._own_end:
            return
        future = self._waits.get(record.subject)
        if future is not None and not future.done():
            future.set_result(record)
            return
        for prefix, take in self.streams.items():
            if record.subject.startswith(prefix):
                take(record)
                return
        self._early[record.subject] = record

    def claim_early(self, prefix: str) -> list[Record]:
        """Ends that came before their fan-out was there, in log order."""
        mine = [subject for subject in self._early if subject.startswith(prefix)]
        return [self._early.pop(subject) for subject in mine]

    async def signal(self, name: str) -> Record:
        """The oldest signal of a name that no wait has taken."""
        for at, (there, record) in enumerate(self._signals):
            if there == name:
                del self._signals[at]
                return record
        future: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        self.signal_waits.append((name, future))
        self.resting(1)
        self.signals.wake()
        try:
            return await future
        finally:
            self.signal_waits.remove((name, future))
            self.resting(-1)

    def _take_signal(self, record: Record) -> None:
        if record.seq in self.taken:
            return
        name = record.subject.rsplit(".", 1)[1]
        for wanted, future in self.signal_waits:
            if wanted == name and not future.done():
                future.set_result(record)
                return
        self._signals.append((name, record))
