"""Slots: how many workflows of one process are at work at once; whoever waits for the log holds none."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable


class Slots:
    """So many at once; first come, first served. `on_free` is called when one is given back that nobody wants."""

    def __init__(self, count: int, on_free: Callable[[], None]) -> None:
        self._count = count
        self._taken = 0
        self._queue: deque[asyncio.Future[None]] = deque()
        self._on_free = on_free

    @property
    def free(self) -> int:
        """Slots that nobody has or waits for; negative when more wait."""
        return self._count - self._taken - len(self._queue)

    async def take(self) -> None:
        """Wait for a slot. Cancelling the wait is harmless."""
        if self._taken < self._count and not self._queue:
            self._taken += 1
            return
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self.give()  # it was this one's turn already
            else:
                self._queue.remove(turn)
            raise

    def give(self) -> None:
        """Give a slot back: to the one that has waited longest."""
        while self._queue:
            turn = self._queue.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._taken -= 1
        self._on_free()
