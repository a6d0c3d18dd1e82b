"""What comes to a run from outside: outcomes of its tasks, and signals."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from roost.runs.activity import Activity
from roost.runs.feed import Feed
from roost.runs.records import RunSubjects
from roost.tasks.log import Log, Record
from roost.tasks.records import Ref


class Inbox:
    """Hands each record to the operation that waits for it.

    Outcomes are read from sequence `start` on: what is there before is looked up by the call that asks for it,
    and read again from its beginning by a fan-out. So nothing is kept that nobody waits for.
    """

    def __init__(
        self,
        log: Log,
        subjects: RunSubjects,
        activity: Activity,
        *,
        start: int,
        taken: set[int],
        on_idle: Callable[[], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._log = log
        self._subjects = subjects
        self._activity = activity
        self._on_idle = on_idle
        self._on_failure = on_failure
        self._waits: dict[str, asyncio.Future[Record]] = {}  # for calls, by subject of the outcome
        self._signals: dict[str, _Signals] = {}
        self._taken = taken
        self._skip = len(subjects.all_of("end")) - 1
        self.streams: dict[tuple[str, str], Callable[[Record], None]] = {}
        """Fan-outs, by contract and operation."""
        self.hungry: set[str] = set()
        """Those of them that want more just now."""
        self.ends = Feed(
            log,
            subjects.all_of("end"),
            subjects.live("end"),
            start=start,
            take=self._take,
            wanted=lambda: bool(self._waits or self.hungry),
            on_idle=on_idle,
            on_failure=on_failure,
        )

    def stop(self) -> list[asyncio.Task[None]]:
        """End all waits: those that are left belong to nobody any more. What this returns is just ending."""
        signals = list(self._signals.values())
        for future in [*self._waits.values(), *(wait for one in signals for wait in one.waits)]:
            future.cancel()
        return [*self.ends.stop(), *(task for one in signals for task in one.feed.stop())]

    # Outcomes -----------------------------------------------------------------------------------

    def expect(self, ref: Ref) -> Awaited:
        """Begin to listen for the outcome of a task of this run, before it is submitted or looked for."""
        subject = self._log.subjects.end(ref)
        self._waits[subject] = future = asyncio.get_running_loop().create_future()
        return Awaited(self, subject, future)

    def _take(self, record: Record) -> None:
        future = self._waits.get(record.subject)
        if future is not None:
            if not future.done():
                future.set_result(record)
            return
        name, _, id = record.subject[self._skip :].partition(".")
        op, _, key = id.partition(":")
        if not key or ":" in key or "." in key:  # a call that nobody waits for, or a dead letter's replay
            return
        take = self.streams.get((name, op))
        if take is not None:  # else a fan-out that was left, or is still to come
            take(record)

    # Signals ------------------------------------------------------------------------------------

    async def signal(self, name: str) -> Record:
        """The oldest signal of a name that no wait has taken."""
        signals = self._signals_of(name)
        if signals.records:
            return signals.records.pop(0)
        future: asyncio.Future[Record] = asyncio.get_running_loop().create_future()
        signals.waits.append(future)
        self._activity.wait_begins()
        try:
            signals.feed.wake()
            return await future
        except BaseException:
            if future.done() and not future.cancelled():  # it came as the wait was given up: for the next one
                signals.records.insert(0, future.result())
            raise
        finally:
            signals.waits.remove(future)
            self._activity.wait_ends()

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
            signals = self._signals[name] = _Signals(self._taken)
            signals.feed = Feed(
                self._log,
                self._subjects.signal(name),
                self._subjects.live_signal(name),
                start=1,
                take=signals.take,
                wanted=signals.wanted,
                on_idle=self._on_idle,
                on_failure=self._on_failure,
            )
        return self._signals[name]


class _Signals:
    """The signals of one name."""

    def __init__(self, taken: set[int]) -> None:
        self.feed: Feed
        self.records: list[Record] = []  # read and not taken yet: at most a page
        self.waits: list[asyncio.Future[Record]] = []
        self._taken = taken

    def wanted(self) -> bool:
        return any(not one.done() for one in self.waits)

    def take(self, record: Record) -> None:
        if record.seq in self._taken:
            return
        future = next((one for one in self.waits if not one.done()), None)
        if future is not None:
            future.set_result(record)
        else:
            self.records.append(record)


class Awaited:
    """The outcome of one task, listened for."""

    def __init__(self, inbox: Inbox, subject: str, future: asyncio.Future[Record]) -> None:
        self._inbox = inbox
        self._subject = subject
        self._future = future

    async def record(self) -> Record:
        """The outcome's record, once there is one."""
        if not self._future.done():
            self._inbox._activity.wait_begins()
            try:
                self._inbox.ends.wake()
                await self._future
            finally:
                self._inbox._activity.wait_ends()
        return self._future.result()

    def found(self, record: Record) -> None:
        """It was looked up."""
        if not self._future.done():
            self._future.set_result(record)

    def over(self) -> None:
        """Listen no more."""
        self._inbox._waits.pop(self._subject, None)
