"""Waiting for outcomes: hints wake, only reads of the log are believed.

The live feed may lose records when a stream's leader changes, without a reconnect, and whoever may
publish on it can forge one. So it carries no payloads, and a hint only says where to look: the `end` record
itself is read, many at a time when many hints arrive together. Without a hint each waiter looks by itself,
ever less often.

A few waiters subscribe each to their own task; many subscribe once to all outcomes of the contract, because
every subscription made or ended costs the server a good part of what storing a task costs.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable

from roost.errors import ConnectionClosed, RoostError
from roost.tasks.log import READ_BATCH, Log, Record
from roost.tasks.records import Ref
from roost.transport import Listener, Message

log = logging.getLogger("roost.tasks")

POLLS_S = (0.25, 0.5, 1.0, 2.0, 5.0)
"""Seconds between looks without a hint; the last repeats."""
TICK_S = 0.25
LOOKS_PER_TICK = 500
"""At most so many records are polled per tick, oldest look first: 100,000 waiters must not drown the server."""
FEW = 7
"""Records below which each is read by itself: one read of many costs the server 90 us and 12 for each record, a
read of one 26."""
MANY = 16
"""Waiters of one contract beyond which one subscription to all of its outcomes takes over."""
RECENT = 4096
"""Hints remembered that arrived before anybody waited."""


class Waiter:
    """The outcomes that one bus waits for."""

    def __init__(self, tasks: Log) -> None:
        self._log = tasks
        self._waits: dict[str, _Wait] = {}  # by subject of the end record
        self._feeds: dict[str, _Feed] = {}  # by contract
        self._recent: dict[str, None] = {}  # end subjects hinted at while nobody waited for them
        self._wanted: dict[str, bool] = {}  # end subjects to read next, in order; True: there was a hint
        self._reader: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._prefix = f"{tasks.subjects.namespace}.run."
        self._skip = len(tasks.subjects.live)
        self._closed = False
        tasks.link.client.on_reconnect.append(self._look_at_all)

    def __len__(self) -> int:
        return len(self._waits)

    def covers(self, name: str) -> bool:
        """Whether every outcome of this contract is heard of just now."""
        feed = self._feeds.get(name)
        return feed is not None and feed.listener is not None

    async def end(self, ref: Ref, *, fresh: bool = False) -> Record:
        """The `end` record of a task, once there is one. Cancelling the wait is harmless.

        `fresh` says that the task was stored while `covers` held: without a hint so far there is nothing
        to look for yet. Raises ConnectionClosed when the bus closes meanwhile.
        """
        if self._closed:
            raise ConnectionClosed()
        subject = self._log.subjects.end(ref)
        loop = asyncio.get_running_loop()
        wait = self._waits.get(subject)
        if wait is None:
            wait = self._waits[subject] = _Wait(loop.time() + POLLS_S[0])
            self._subscribe(ref, wait)
            if self._recent.pop(subject, True) is None:
                self._look([subject], hinted=True)
            elif not fresh:
                self._look([subject])
        future: asyncio.Future[Record] = loop.create_future()
        wait.futures.append(future)
        if self._timer is None:
            self._timer = loop.call_later(TICK_S, self._tick)
        try:
            return await future
        finally:
            wait.futures.remove(future)
            if not wait.futures and self._waits.get(subject) is wait:
                self._forget(ref, subject, wait)

    def close(self) -> None:
        """Fail all waits with ConnectionClosed."""
        self._closed = True
        if self._timer is not None:
            self._timer.cancel()
        if self._reader is not None:
            self._reader.cancel()
        for wait in list(self._waits.values()):
            for future in wait.futures:
                if not future.done():
                    future.set_exception(ConnectionClosed())

    def _subscribe(self, ref: Ref, wait: _Wait) -> None:
        feed = self._feeds.get(ref.name)
        if feed is None:
            feed = self._feeds[ref.name] = _Feed()
        feed.waits += 1
        client = self._log.link.client
        if feed.listener is None and feed.waits > MANY:
            feed.listener = client.listen(self._log.subjects.live_ends(ref.name), self._hinted)
        if feed.listener is None:
            wait.listener = client.listen(self._log.subjects.live_end(ref), self._hinted)

    def _forget(self, ref: Ref, subject: str, wait: _Wait) -> None:
        client = self._log.link.client
        del self._waits[subject]
        self._wanted.pop(subject, None)
        if wait.listener is not None:
            client.unlisten(wait.listener)
        feed = self._feeds[ref.name]
        feed.waits -= 1
        if not feed.waits:
            del self._feeds[ref.name]
            if feed.listener is not None:
                client.unlisten(feed.listener)

    def _hinted(self, message: Message) -> None:
        subject = self._prefix + message.subject[self._skip :]
        if subject in self._waits:
            self._look([subject], hinted=True)
            return
        self._recent[subject] = None
        if len(self._recent) > RECENT:
            del self._recent[next(iter(self._recent))]

    def _look_at_all(self) -> None:
        self._look(list(self._waits))

    def _look(self, subjects: Iterable[str], *, hinted: bool = False) -> None:
        for subject in subjects:
            if hinted or subject not in self._wanted:
                self._wanted[subject] = hinted
        if self._wanted and self._reader is None and not self._closed:
            self._reader = asyncio.get_running_loop().create_task(self._read(), name="roost-read-outcomes")

    async def _read(self) -> None:
        """Read what is wanted until nothing is; what arrives in the meantime joins the next read."""
        try:
            while self._wanted and not self._closed:
                batch = dict(list(self._wanted.items())[:READ_BATCH])
                for subject in batch:
                    del self._wanted[subject]
                if len(batch) == 1:
                    await self._read_one(*batch.popitem())
                    continue
                if len(batch) < FEW:
                    async with asyncio.TaskGroup() as group:
                        for subject, hinted in batch.items():
                            group.create_task(self._read_one(subject, hinted), name="roost-read-outcome")
                    continue
                found = await self._log.newest(list(batch))
                for record in found.values():
                    self._found(record)
                for subject, hinted in batch.items():
                    if hinted and subject not in found:
                        await self._read_one(subject, True)
        except* RoostError as errors:
            log.debug(
                "outcomes could not be read just now and are looked for again: %s", errors.exceptions[0]
            )
        finally:
            self._reader = None

    async def _read_one(self, subject: str, hinted: bool) -> None:
        record = await self._log.last(subject)
        if record is None and hinted:  # a replica may lag behind the hint; the leader does not
            record = await self._log.last(subject, leader=True)
        if record is not None:
            self._found(record)

    def _found(self, record: Record) -> None:
        wait = self._waits.get(record.subject)
        if wait is not None:
            for future in wait.futures:
                if not future.done():
                    future.set_result(record)

    def _tick(self) -> None:
        loop = asyncio.get_running_loop()
        self._timer = None
        if not self._waits or self._closed:
            return
        self._timer = loop.call_later(TICK_S, self._tick)
        now = loop.time()
        due = []
        for subject, wait in self._waits.items():
            if wait.next_look <= now:
                due.append(subject)
                if len(due) == LOOKS_PER_TICK:
                    break
        for subject in due:
            wait = self._waits.pop(subject)
            self._waits[subject] = wait  # to the end of the queue
            wait.looks += 1
            wait.next_look = now + POLLS_S[min(wait.looks, len(POLLS_S) - 1)]
        self._look(due)


class _Wait:
    __slots__ = ("futures", "listener", "looks", "next_look")

    def __init__(self, next_look: float) -> None:
        self.futures: list[asyncio.Future[Record]] = []
        self.listener: Listener | None = None
        self.looks = 0
        self.next_look = next_look


class _Feed:
    """The hints of one contract's outcomes: how many wait, and the subscription to all once they are many."""

    __slots__ = ("listener", "waits")

    def __init__(self) -> None:
        self.waits = 0
        self.listener: Listener | None = None
