"""An event loop in virtual time, and processes that can be killed or paused between any two of its steps.

Time jumps to the next timer, so hours of waiting cost nothing and nothing depends on this machine. Every
callback belongs to the process in whose context it was made: one that is dead runs none any more (no
``finally`` cleans up after a SIGKILL), one that is paused finds all of them due when it is resumed.
"""

from __future__ import annotations

import asyncio
import contextvars
from asyncio import events
from collections import deque
from collections.abc import Callable, Coroutine
from heapq import heappop, heappush
from typing import Any, cast

STEPS = 400_000
"""Callbacks after which a simulation is taken to run in circles."""


class Process:
    """One simulated process: what it has running, and whether it may."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alive = True
        self.paused = False
        self.tasks: list[asyncio.Task[Any]] = []  # kept to the end: what is collected would run its `finally`
        self.held: list[Handle] = []
        self.context = contextvars.copy_context()
        self.context.run(PROCESS.set, self)

    def __repr__(self) -> str:
        return self.name


PROCESS: contextvars.ContextVar[Process | None] = contextvars.ContextVar("process", default=None)
"""The process that runs just now; None outside of all (the server, the network, the world)."""
NOWHERE = contextvars.Context()
"""The context of what belongs to no process."""


class Stuck(Exception):
    """The simulation does not come to its end."""


class Handle:
    """A callback to be run. With `when`, a timer."""

    __slots__ = ("_args", "_callback", "_cancelled", "_context", "_when", "process")

    def __init__(
        self,
        when: float,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: contextvars.Context,
    ) -> None:
        self._when = when
        self._callback = callback
        self._args = args
        self._context = context
        self.process = context.get(PROCESS)
        self._cancelled = False

    def cancel(self) -> None:
        self._cancelled = True

    def cancelled(self) -> bool:
        return self._cancelled

    def when(self) -> float:
        return self._when


class SimLoop(asyncio.AbstractEventLoop):
    """Only what the code under test uses; anything else raises NotImplementedError."""

    def __init__(self) -> None:
        self._now = 1000.0
        self._ready: deque[Handle] = deque()
        self._timers: list[tuple[float, int, Handle]] = []
        self._count = 0
        self.steps = 0
        self.closed = False
        self.complaints: list[str] = []
        """What asyncio would log: exceptions of callbacks."""

    @classmethod
    def make(cls) -> SimLoop:
        """A loop; its type has many methods more, which nothing here needs."""
        loop: SimLoop = cast(Any, cls)()
        return loop

    # What asyncio asks for ------------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def get_debug(self) -> bool:
        return False

    def is_closed(self) -> bool:
        return self.closed

    def is_running(self) -> bool:
        return not self.closed

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(  # type: ignore[override]
        self,
        coro: Coroutine[Any, Any, Any],
        *,
        name: object = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[Any]:
        task: asyncio.Task[Any] = asyncio.Task(coro, loop=self, name=str(name), context=context)
        process = PROCESS.get() if context is None else context.get(PROCESS)
        if process is not None:
            process.tasks.append(task)
        return task

    def call_soon(  # type: ignore[override]
        self, callback: Callable[..., object], *args: Any, context: contextvars.Context | None = None
    ) -> Handle:
        handle = Handle(
            self._now, callback, args, context if context is not None else contextvars.copy_context()
        )
        self._ready.append(handle)
        return handle

    def call_at(  # type: ignore[override]
        self,
        when: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        handle = Handle(when, callback, args, context if context is not None else contextvars.copy_context())
        self._count += 1
        heappush(self._timers, (when, self._count, handle))
        return handle

    def call_later(  # type: ignore[override]
        self,
        delay: float,
        callback: Callable[..., object],
        *args: Any,
        context: contextvars.Context | None = None,
    ) -> Handle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        if not self.closed:
            self.complaints.append(f"{context.get('message')}: {context.get('exception')!r}")

    # Running --------------------------------------------------------------------------------------

    def start(self, process: Process, coro: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """Begin the main task of a process."""
        return self.create_task(coro, name=process.name, context=process.context.copy())

    def run(self, over: Callable[[], bool], *, until: float) -> bool:
        """Run until `over()`; False when virtual time reached `until` first. Raises Stuck."""
        ready, timers = self._ready, self._timers
        events._set_running_loop(self)
        try:
            while True:
                while ready:
                    handle = ready.popleft()
                    if handle._cancelled:
                        continue
                    process = handle.process
                    if process is not None and not process.alive:
                        continue
                    if process is not None and process.paused:
                        process.held.append(handle)
                        continue
                    self.steps += 1
                    try:
                        handle._context.run(handle._callback, *handle._args)
                    except Exception as error:
                        self.complaints.append(f"a callback raised {error!r}")
                if over():
                    return True
                if self.steps > STEPS:
                    raise Stuck(f"{STEPS} steps, and no end")
                while timers and timers[0][2]._cancelled:
                    heappop(timers)
                if not timers:
                    raise Stuck("nothing is left to happen")
                self._now = max(self._now, timers[0][0])
                if self._now > until:
                    return False
                while timers and timers[0][0] <= self._now:
                    ready.append(heappop(timers)[2])
        finally:
            events._set_running_loop(None)

    def kill(self, process: Process) -> None:
        """SIGKILL: nothing of it runs any more."""
        process.alive = False
        process.held.clear()

    def pause(self, process: Process) -> None:
        """SIGSTOP."""
        process.paused = True

    def resume(self, process: Process) -> None:
        """SIGCONT."""
        process.paused = False
        held, process.held = process.held, []
        self._ready.extend(held)

    def close(self) -> None:
        """End of the simulation: what is left of its tasks is forgotten quietly."""
        self.closed = True
        self._ready.clear()
        self._timers.clear()
