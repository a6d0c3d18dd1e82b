"""A bounded pool of handler tasks with a bounded queue before it.

Handlers run side by side up to a stated number, so a slow one does not hold up others; beyond that,
messages wait in a queue of a stated length; beyond that, the pool refuses and its owner applies the policy
it names. A worker takes one message after another without a task per message: a handler that does not
wait for anything costs no switch of tasks. Each message still finds the context variables of the pool's
maker: a worker in whose context a handler left something makes room for a new one, so that one message
never reads what another has set.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Awaitable, Callable
from contextvars import Context, copy_context
from typing import Generic, NamedTuple, TypeVar

log = logging.getLogger("roost.messaging")

T = TypeVar("T")

TURN = 100
"""Messages that one worker handles before it lets the rest of the loop run."""
CANCEL_S = 2.0
"""Seconds that a cancelled handler has to end; after that it is left behind."""


class Lost(NamedTuple, Generic[T]):
    """What a pool could not finish: items that no handler saw, and how many handlers were cut short."""

    waiting: list[T]
    running: int


class Pool(Generic[T]):
    """Runs `handle(item)` for each item, at most `concurrency` at once; `handle` must deal with its own errors."""

    def __init__(
        self, handle: Callable[[T], Awaitable[None]], *, concurrency: int, backlog: int, name: str
    ) -> None:
        self._handle = handle
        self._concurrency = concurrency
        self._room = concurrency + backlog
        self._name = name
        self._context = copy_context()
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
        """Take an item, or return False when as many run and wait as may, or the pool is closed."""
        if self._closed or len(self._waiting) + self._busy >= self._room:
            return False
        self._waiting.append(item)
        self._more()
        return True

    def _more(self) -> None:
        """Have one more worker look at the queue, if there is one to be had."""
        while self._idle:
            wake = self._idle.pop()
            if not wake.done():
                wake.set_result(None)
                return
        if len(self._workers) < self._concurrency:
            worker = asyncio.get_running_loop().create_task(
                self._work(), name=self._name, context=self._context.copy()
            )
            self._workers.add(worker)
            worker.add_done_callback(self._ended)

    def _ended(self, worker: asyncio.Task[None]) -> None:
        """A worker that ended early (a handler cancelled it, or changed its context) leaves its place to another."""
        self._workers.discard(worker)
        error = None if worker.cancelled() else worker.exception()
        if error is not None and not isinstance(error, KeyboardInterrupt):  # that one has reached the loop
            log.error("a worker of %s failed; another takes its place", self._name, exc_info=error)
        if self._waiting:
            self._more()

    async def _work(self) -> None:
        loop = asyncio.get_running_loop()
        before = copy_context()
        turn = 0
        while True:
            while self._waiting:
                item = self._waiting.popleft()
                self._busy += 1
                try:
                    await self._handle(item)
                except (Exception, SystemExit):
                    log.exception("a handler of %s failed outside its own error handling", self._name)
                finally:
                    self._busy -= 1
                if _changed(before):
                    return
                turn += 1
                if turn >= TURN:
                    turn = 0
                    await asyncio.sleep(0)
            if self._closed:
                return
            wake: asyncio.Future[None] = loop.create_future()
            self._idle.append(wake)
            await wake

    async def close(self, grace_s: float) -> Lost[T]:
        """Take nothing new, work off what is there for `grace_s` seconds, then cancel; returns what was lost.

        A second call with less grace hurries the first.
        """
        self._closed = True
        for wake in self._idle:
            if not wake.done():
                wake.set_result(None)
        self._idle.clear()
        loop = asyncio.get_running_loop()
        until = loop.time() + max(0.0, grace_s)
        try:
            while self._workers and (left_s := until - loop.time()) > 0:
                await asyncio.wait(self._workers, timeout=left_s)
        finally:  # also when whoever closes is cancelled: no handler outlives its pool
            lost = Lost(list(self._waiting), self._busy)
            self._waiting.clear()
            for worker in self._workers:
                worker.cancel()
        if self._workers:
            _, stuck = await asyncio.wait(self._workers, timeout=CANCEL_S)
            for worker in stuck:
                log.error("%s: a handler ignores its cancellation and is left behind", worker.get_name())
        return lost


def _changed(before: Context) -> bool:
    """Whether a handler left something in the context; a value that cannot be compared is a change."""
    try:
        return copy_context() != before
    except Exception:
        return True
