"""The records of one kind in one run, in log order, as they come.

A watermark moves only by reads of the log; the live feed merely says that it is worth reading. Reading goes
on only while somebody wants more, so a fan-out of a million does not have to fit into memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from roost.errors import RoostError
from roost.runs.epoch import pause
from roost.runs.newest import newest_under
from roost.tasks.log import Log, Record
from roost.transport import Listener, Message

PAGE = 500
PAGE_BYTES = 4 * 1024 * 1024
"""Of one page; the server would otherwise send as much as 64 MiB at once."""
POLLS_S = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds between looks while nothing comes; the last repeats."""
GAP_S = 0.003
"""Seconds between two reads while several records come at a time: each read costs as much as fifty records."""
SEVERAL = 3


class Feed:
    """Calls `take` for each record from sequence `start` on, while `wanted()` is true.

    Call `wake` when `wanted` has become true, and `stop` at the end. `on_idle` hears each time that everything
    is read and more is wanted; `on_failure` of an error that no reading explains.
    """

    def __init__(
        self,
        log: Log,
        pattern: str,
        live: str,
        *,
        start: int,
        take: Callable[[Record], None],
        wanted: Callable[[], bool],
        on_idle: Callable[[], None],
        on_failure: Callable[[BaseException], None],
    ) -> None:
        self._log = log
        self._pattern = pattern
        self._live = live
        self._next = start
        self._take = take
        self._wanted = wanted
        self._on_idle = on_idle
        self._on_failure = on_failure
        self._looks = 0
        self._polled = False
        self._count = 0  # records of the last read
        self._read_at = 0.0
        self._event = asyncio.Event()
        self._reading = asyncio.Lock()
        self._stopped = False
        self._task: asyncio.Task[None] | None = None
        self._listener: Listener | None = None

    def wake(self) -> None:
        """Look now. Raises ConnectionClosed."""
        if self._stopped:
            return
        if self._task is None:
            client = self._log.link.client
            self._listener = client.listen(self._live, self._heard)
            client.on_reconnect.append(self.wake)
            self._task = asyncio.get_running_loop().create_task(self._run(), name="roost-run-feed")
            self._task.add_done_callback(self._ended)
        self._looks = 0
        self._event.set()

    def rewind(self, seq: int) -> None:
        """Read again from `seq` on, if that was passed already."""
        self._next = min(self._next, seq)

    def stop(self) -> list[asyncio.Task[None]]:
        """Stop reading, for good; what this returns is just ending."""
        self._stopped = True
        if self._task is None:
            return []
        client = self._log.link.client
        if self._listener is not None:
            client.unlisten(self._listener)
        client.on_reconnect.remove(self.wake)
        self._task.cancel()
        return [self._task]

    async def catch_up(self) -> None:
        """Read all that the stream's leader has, whether it is wanted or not. Repeats through outages."""
        tries = 0
        while True:
            try:
                newest = await newest_under(self._log, self._pattern)
                if newest is None or newest.seq < self._next:
                    return
                if await self._read():
                    tries = 0
                    continue
            except RoostError as error:
                self._log.journal.count(f"feed_not_read:{type(error).__name__}")
            await pause(tries)
            tries += 1

    def _heard(self, message: Message) -> None:
        self._looks = 0
        self._event.set()

    def _ended(self, task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_failure(error)

    async def _run(self) -> None:
        while True:
            polled, self._polled = self._polled, False
            self._event.clear()
            if self._wanted():
                if await self._look(polled) or self._event.is_set():
                    continue
                if self._wanted():
                    self._on_idle()
            await self._rest()

    async def _rest(self) -> None:
        """Wait for a hint or a wish, or for the next look that is due anyway."""
        delay_s = POLLS_S[min(self._looks, len(POLLS_S) - 1)] if self._wanted() else None
        self._looks += 1
        try:
            async with asyncio.timeout(delay_s):
                await self._event.wait()
        except TimeoutError:
            self._polled = True

    async def _look(self, polled: bool) -> bool:
        """Read on; False when there was nothing new, or it could not be read."""
        try:
            if polled:  # nobody said that there is something: ask what costs the server least
                newest = await newest_under(self._log, self._pattern)
                if newest is None or newest.seq < self._next:
                    return False
            elif SEVERAL <= self._count < PAGE:
                left_s = self._read_at + GAP_S - asyncio.get_running_loop().time()
                if left_s > 0:
                    await asyncio.sleep(left_s)
            return await self._read()
        except RoostError as error:
            self._log.journal.count(f"feed_not_read:{type(error).__name__}")
            return False

    async def _read(self) -> bool:
        """Read one page; False when nothing was there."""
        async with self._reading:
            begin = self._next
            self._read_at = asyncio.get_running_loop().time()
            query = {"seq": begin, "next_by_subj": self._pattern, "batch": PAGE, "max_bytes": PAGE_BYTES}
            records = await self._log.page(query)
            if self._next != begin:
                return True  # rewound meanwhile: what was read is not the next
            self._count = len(records)
            for record in records:
                self._next = record.seq + 1
                self._take(record)
        if records:
            self._looks = 0
        return bool(records)
