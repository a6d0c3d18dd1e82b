"""A bounded pool of handler tasks with a bounded queue before it.

Handlers run side by side up to a stated number, so a slow one does not hold up others; beyond that,
messages wait in a queue of a stated length; beyond that, the pool refuses and its owner applies the policy
it names. A worker takes one message after another without a task per message: a handler that does not
wait for anything costs no switch of tasks.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

log = logging.getLogger("roost.messaging")

T = TypeVar("T")

TURN = 100
"""Messages that one worker handles before it lets the rest of the loop run."""


class Pool(Generic[T]):
    """Runs `handle(item)` for each item, at most `concurrency` at once; `handle` must deal with its own errors."""

    def __init__(
        self, handle: Callable[[T], Awaitable[None]], *, concurrency: int, backlog: int, name: str
    ) -> None:
        self._handle = handle
        self._concurrency = concurrency
        self._backlog = backlog
        self._name = name
        self._waiting: deque[T] = deque()
        self._idle: list[asyncio.Future[None]] = []
        self._workers: set[asyncio.Task[None]] = set()
        self._busy = 0
        self._closed = False

    @property
    def running(self) -> int:
        """Handlers at work."""
        return self._busy

    @property
    def waiting(self) -> int:
        """Items in the queue."""
        return len(self._waiting)

    def put(self, item: T) -> bool:
        """Take an item, or return False when the queue is full or the pool is closed."""
        if len(self._waiting) >= self._backlog or self._closed:
            return False
        self._waiting.append(item)
        self._more()
        return True

    def _more(self) -> None:
        """Have one more worker look at the queue, if there is one to be had."""
        if self._idle:
            self._idle.pop().set_result(None)
        elif len(self._workers) < self._concurrency:
            worker = asyncio.get_running_loop().create_task(self._work(), name=self._name)
            self._workers.add(worker)
            worker.add_done_callback(self._workers.discard)

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        turn = 0
        while True:
            while self._waiting:
                item = self._waiting.popleft()
                if self._waiting:
                    self._more()
                self._busy += 1
                try:
                    await self._handle(item)
                except Exception:
                    log.exception("a handler of %s failed outside its own error handling", self._name)
                finally:
                    self._busy -= 1
                turn += 1
                if turn >= TURN:
                    turn = 0
                    await asyncio.sleep(0)
            if self._closed:
                return
            wake: asyncio.Future[None] = loop.create_future()
            self._idle.append(wake)
            try:
                await wake
            finally:
                if not wake.done() or wake.cancelled():
                    self._idle = [other for other in self._idle if other is not wake]

    async def close(self, grace_s: float) -> int:
        """Take nothing new, work off what is there for `grace_s` seconds, then cancel; returns how many items were lost."""
        self._closed = True
        for wake in self._idle:
            wake.set_result(None)
        self._idle.clear()
        workers = list(self._workers)
        if workers:
            await asyncio.wait(workers, timeout=max(0.0, grace_s))
        lost = len(self._waiting) + self._busy
        self._waiting.clear()
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)
        return lost
