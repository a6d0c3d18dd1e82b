"""A thread that notices when the event loop is blocked, and says by whom while it still is.

A handler that computes, or calls something that waits without `await`, stops everything in its process: heartbeats,
other handlers, the connection. The loop cannot say so itself. Its tasks are then done elsewhere after the ack wait,
which looks like a death and is none.

A process that is suspended looks the same from within, but then nobody is to blame: this thread stood still as well,
and no processor time was used.
"""

from __future__ import annotations

import asyncio
import logging
import sys
import sysconfig
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from types import FrameType

from roost.observe.journal import Journal

log = logging.getLogger("roost")

BLOCKED_S = 1.0
"""So long without a turn is called blocked: well above a pause of the garbage collector, below a third of the least
usual ack wait, at which heartbeats would be missed."""
LOOK_S = 0.25
IDLE_SHARE = 0.5
"""A whole process that stood still used less than this share of one processor; code that computes uses all of it."""

_OWN = str(Path(__file__).parents[1])
_LIBRARIES = tuple({sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")})


class LoopWatch:
    """Watches one loop. `on_blocked` gets a sentence, on the watching thread; `on_free` is called on the loop."""

    def __init__(self, journal: Journal) -> None:
        self.on_blocked: Callable[[str], None] | None = None
        self.on_free: Callable[[], None] | None = None
        self._journal = journal
        self._users = 0
        self._ended = threading.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread_id = 0
        self._turn_s = 0.0  # of the last turn of the loop, monotonic
        self._blocked_by = ""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Watch the running loop for the length of the block. Blocks may overlap."""
        self._users += 1
        if self._users == 1:
            self._start()
        try:
            yield
        finally:
            self._users -= 1
            if not self._users:
                self._ended.set()
                self._loop = None

    def _start(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._thread_id = threading.get_ident()
        self._ended = threading.Event()
        self._turn(self._ended)
        threading.Thread(
            target=self._watch, args=(self._ended,), name="roost-loop-watch", daemon=True
        ).start()

    def _turn(self, ended: threading.Event) -> None:
        now = time.monotonic()
        lasted_s, self._turn_s = now - self._turn_s, now
        by, self._blocked_by = self._blocked_by, ""
        if by:
            self._journal.record("loop_blocked", subject=by, reason=f"for {lasted_s:.1f} s; it goes on now")
            if self.on_free is not None:
                self.on_free()
        if self._loop is not None and not ended.is_set():
            self._loop.call_later(LOOK_S, self._turn, ended)

    # The thread -----------------------------------------------------------------------------------

    def _watch(self, ended: threading.Event) -> None:
        looked_s, used_s = time.monotonic(), time.process_time()
        while not ended.wait(LOOK_S):
            lasted_s, looked_s = time.monotonic() - looked_s, time.monotonic()
            worked_s, used_s = time.process_time() - used_s, time.process_time()
            if lasted_s > 2 * LOOK_S and worked_s < IDLE_SHARE * lasted_s:
                if lasted_s > BLOCKED_S:
                    self._stood_still(lasted_s)
                continue  # the loop had no turn, as this thread had none: it gets one first
            if not self._blocked_by and time.monotonic() - self._turn_s > BLOCKED_S:
                self._blocked_by = by = self._who()
                text = (
                    f"the event loop has been blocked for {BLOCKED_S:g} s by {by}: heartbeats and other handlers of "
                    "this process stand still, and its tasks run elsewhere after their ack wait. Make the handler a "
                    "plain `def` (it runs on a thread), or use asyncio.to_thread."
                )
                log.warning(text)
                if self.on_blocked is not None:
                    self.on_blocked(text)

    def _stood_still(self, seconds: float) -> None:
        loop = self._loop
        reason = (
            f"for {seconds:.1f} s: it was suspended, its machine slept, or it got no memory or processor time. Its "
            "tasks run elsewhere after their ack wait; what it stores of them then is refused"
        )
        if loop is not None:
            with suppress(RuntimeError):  # the loop is closed
                loop.call_soon_threadsafe(partial(self._journal.record, "process_stood_still", reason=reason))

    def _who(self) -> str:
        """What runs on the loop's thread: whose handler, and where in its code."""
        loop = self._loop
        task = asyncio.current_task(loop) if loop is not None else None
        name = (
            task.get_name().removeprefix("roost-").replace("-", " ", 1) if task is not None else "a callback"
        )
        frame = _own_code(sys._current_frames().get(self._thread_id))
        if frame is None:
            return name
        return f"{name}, in {frame.f_code.co_name} ({Path(frame.f_code.co_filename).name}:{frame.f_lineno})"


def _own_code(frame: FrameType | None) -> FrameType | None:
    """The innermost frame that is the user's own code, or just the innermost."""
    innermost = frame
    while frame is not None:
        file = frame.f_code.co_filename
        if not file.startswith((_OWN, "<", *_LIBRARIES)):
            return frame
        frame = frame.f_back
    return innermost
