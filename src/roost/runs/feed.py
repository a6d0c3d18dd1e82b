"""The records of one kind in one run, in log order, as they come.

A watermark moves only by reads of the log; the live feed merely says that it is worth reading. Reading goes
on only while somebody wants more, so a fan-out of a million does not have to fit into memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from roost.errors import RoostError
from roost.tasks.log import Log, Record
from roost.transport import Listener, Message

PAGE = 500
POLLS_S = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
"""Seconds between looks while nothing comes; the last repeats."""


class Feed:
    """Calls `take` for each record after the watermark, while `wanted()` is true.

    `kind` is a kind of record, such as ``end``. Start with `open`, end with `close`; call `wake` when
    `wanted` has become true.
    """

    def __init__(
        self, log: Log, pattern: str, live: str, *, take: Callable[[Record], None], wanted: Callable[[], bool]
    ) -> None:
        self._log = log
        self._pattern = pattern
        self._live = live
        self._take = take
        self._wanted = wanted
        self._next = 1
        self._looks = 0
        self._hinted = False
        self._event = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._listener: Listener | None = None

    def wake(self) -> None:
        """Look now."""
        if self._task is None:
            client = self._log.link.client
            self._listener = client.listen(self._live, self._heard)
            client.on_reconnect.append(self._reconnected)
            self._task = asyncio.get_running_loop().create_task(self._run(), name="roost-run-feed")
        self._looks = 0
        self._event.set()

    async def close(self) -> None:
        """Stop reading."""
        if self._task is None:
            return
        client = self._log.link.client
        if self._listener is not None:
            client.unlisten(self._listener)
        client.on_reconnect.remove(self._reconnected)
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None

    def _heard(self, message: Message) -> None:
        self._hinted = True
        self._event.set()

    def _reconnected(self) -> None:
        self.wake()

    async def _run(self) -> None:
        while True:
            while self._wanted():
                self._event.clear()
                self._hinted = False
                if not await self._read() and not self._hinted and self._wanted():
                    break
            await self._rest()

    async def _rest(self) -> None:
        """Wait for a hint or a wish, or for the next look that is due anyway."""
        delay_s = POLLS_S[min(self._looks, len(POLLS_S) - 1)] if self._wanted() else None
        self._looks += 1
        try:
            async with asyncio.timeout(delay_s):
                await self._event.wait()
        except TimeoutError:
            self._event.set()

    async def _read(self) -> bool:
        """Read one page; False when there was nothing new, or it could not be read."""
        query = {"seq": self._next, "next_by_subj": self._pattern, "batch": PAGE}
        try:
            records = await self._log.page(query)
        except RoostError as error:
            self._log.journal.count(f"feed_not_read:{type(error).__name__}")
            return False
        for record in records:
            self._next = record.seq + 1
            self._take(record)
        if records:
            self._looks = 0
        return bool(records)
