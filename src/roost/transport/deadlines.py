"""Timeouts of many short waits with one timer of the event loop.

Almost every request is answered long before its time is over. A timer of its own for each, made and
cancelled, is a sixth of what a request costs; here it is one push onto a heap, and what has been answered
is thrown out now and then.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Container
from heapq import heapify, heappop, heappush

_SLACK = 1024
"""Entries of ended waits that may lie in the heap before it is swept."""


class Deadlines:
    """Calls `expired(key)` once `after_s` seconds have passed, for every key that is still in `live` then."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, live: Container[str], expired: Callable[[str], None]
    ) -> None:
        self._loop = loop
        self._live = live
        self._expired = expired
        self._heap: list[tuple[float, str]] = []
        self._sweep_at = _SLACK
        self._timer: asyncio.TimerHandle | None = None

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, key: str, after_s: float) -> None:
        """Begin to count."""
        due = self._loop.time() + after_s
        heap = self._heap
        heappush(heap, (due, key))
        if heap[0][1] is key:
            self._arm()
        if len(heap) > self._sweep_at:
            heap[:] = [entry for entry in heap if entry[1] in self._live]
            heapify(heap)
            self._sweep_at = 2 * len(heap) + _SLACK

    def stop(self) -> None:
        """Forget all keys."""
        self._heap.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._heap[0][0], self._due)

    def _due(self) -> None:
        self._timer = None
        heap, now = self._heap, self._loop.time()
        while heap and (heap[0][0] <= now or heap[0][1] not in self._live):
            _, key = heappop(heap)
            if key in self._live:
                self._expired(key)
        if heap:
            self._arm()
