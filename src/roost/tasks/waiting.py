"""Waiting for outcomes: hints wake, only reads of the log are believed.

The live feed may lose records when a stream's leader changes, without a reconnect, and whoever may
publish on it can forge one. So a hint only says where to look: the `end` record itself is read, many at a
time when many hints arrive together. Without a hint each waiter looks by itself, ever less often.
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
"""At most so many records are polled per tick, oldest look first, so that 100,000 waiters do not drown the server."""


class Waiter:
    """The outcomes that one bus waits for."""

    def __init__(self, tasks: Log) -> None:
        self._log = tasks
        self._waits: dict[str, _Wait] = {}  # by subject of the end record
        self._wanted: dict[str, None] = {}  # subjects to read next, in order
        self._reader: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._skip = len(tasks.subjects.live)
        self._closed = False
        tasks.link.client.on_reconnect.append(self._look_at_all)

    def __len__(self) -> int:
        return len(self._waits)

    async def end(self, ref: Ref) -> Record:
        """The `end` record of a task, once there is one. Cancelling the wait is harmless.

        Raises ConnectionClosed when the bus closes meanwhile.
        """
        if self._closed:
            raise ConnectionClosed()
        subject = self._log.subjects.end(ref)
        wait = self._waits.get(subject)
        loop = asyncio.get_running_loop()
        if wait is None:
            wait = self._waits[subject] = _Wait(loop.time())
            wait.listener = self._log.link.client.listen(self._log.subjects.live_end(ref), self._hinted)
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
                self._forget(subject, wait)

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

    def _forget(self, subject: str, wait: _Wait) -> None:
        del self._waits[subject]
        self._wanted.pop(subject, None)
        if wait.listener is not None:
            self._log.link.client.unlisten(wait.listener)

    def _hinted(self, message: Message) -> None:
        self._look([f"{self._log.subjects.namespace}.run.{message.subject[self._skip :]}"])

    def _look_at_all(self) -> None:
        self._look(list(self._waits))

    def _look(self, subjects: Iterable[str]) -> None:
        for subject in subjects:
            if subject in self._waits:
                self._wanted[subject] = None
        if self._wanted and self._reader is None and not self._closed:
            self._reader = asyncio.get_running_loop().create_task(self._read(), name="roost-read-outcomes")

    async def _read(self) -> None:
        """Read what is wanted until nothing is; what arrives in the meantime joins the next read."""
        try:
            while self._wanted and not self._closed:
                subjects = list(self._wanted)[:READ_BATCH]
                for subject in subjects:
                    del self._wanted[subject]
                if len(subjects) == 1:
                    record = await self._log.last(subjects[0])
                    if record is not None:
                        self._found(record)
                else:
                    for record in (await self._log.newest(subjects)).values():
                        self._found(record)
        except RoostError as error:
            log.debug("outcomes could not be read just now and are looked for again: %s", error)
        finally:
            self._reader = None

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
            wait.next_look = now + POLLS_S[min(wait.looks, len(POLLS_S) - 1)]
            wait.looks += 1
        self._look(due)


class _Wait:
    __slots__ = ("futures", "listener", "looks", "next_look")

    def __init__(self, now: float) -> None:
        self.futures: list[asyncio.Future[Record]] = []
        self.listener: Listener | None = None
        self.looks = 1
        self.next_look = now + POLLS_S[0]
