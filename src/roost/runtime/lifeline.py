"""The thread that knows when its process has to end, and sees to it that the process does.

An event loop that a handler blocks sees no signal, and a thread that a handler left behind keeps Python alive
for ever. So neither decides about the end: this thread does. It hears signals, the supervisor's word, and the
end of the supervisor itself: the kernel closes the socket, whatever killed it. (A process forked off the
supervisor may keep the socket open, so the parent's number is looked at as well.) Then it tells the event
loop, and if the loop has not got to the end in time, it ends the process without it.

What it cannot help against is native code that never lets go of the interpreter's lock; a supervisor ends
such a process by SIGKILL.
"""

from __future__ import annotations

import contextlib
import logging
import os
import select
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from types import FrameType

from roost._text import clean
from roost.runtime.words import Lines, Word, parse_stop

log = logging.getLogger("roost.runtime")

MARGIN_S = 5.0
"""Seconds beyond the grace for handing back, closing the connection and the agent's lifespan."""
PARENT_CHECK_S = 1.0
HURRY_S = 3.0
"""The same margin when there is no grace (left), as after a second Ctrl-C."""

SUPERVISOR = "the supervisor"
OnStop = Callable[[float, str], None]
"""Called on this thread with the seconds of grace and who wants the end; more than once if it gets urgent."""


class Lifeline:
    """One per process. `start` it early: until `attach` has told it whom to ask, a stop ends the process at once."""

    def __init__(self, connection: socket.socket | None, *, grace_s: float) -> None:
        self.grace_s = grace_s
        self.settled = False
        """Set when every handler has finished or been handed back: a forced end is then none to complain about."""
        self.ready = False
        """Set when the agent served for the first time."""
        self._connection = connection
        self._pid = os.getpid()
        self._parent = os.getppid()
        self._lines = Lines()
        self._main = threading.main_thread().ident
        self._wake, self._wake_end = os.pipe()
        os.set_blocking(self._wake_end, False)
        self._on_stop: OnStop | None = None
        self._asked: tuple[float, str] | None = None
        self._signals = 0
        self._deadline: float | None = None
        self._lock = threading.Lock()
        self._ended = False
        self._before: dict[int, signal._HANDLER] = {}
        self._thread = threading.Thread(target=self._watch, name="roost-lifeline", daemon=True)

    @property
    def supervised(self) -> bool:
        """Whether somebody listens to `say`."""
        return self._connection is not None

    def start(self) -> None:
        """Take over SIGTERM and SIGINT. To be called in the main thread."""
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._signalled)
        self._thread.start()

    def attach(self, on_stop: OnStop) -> None:
        """From now on a stop is for `on_stop` to carry out; one that came already is passed on."""
        with self._lock:
            self._on_stop = on_stop
            asked = self._asked
        if asked is not None:
            on_stop(*asked)

    def close(self) -> None:
        """The process goes on without it: give back the signals, end the thread."""
        self._ended = True
        self._nudge(b".")
        self._thread.join()
        for number, handler in self._before.items():
            signal.signal(number, handler)
        os.close(self._wake)
        os.close(self._wake_end)
        if self._connection is not None:
            self._connection.close()

    def say(self, word: Word) -> None:
        """Tell the supervisor, if there is one."""
        if self._connection is not None:
            # If it is gone, or does not listen, this process goes on all the same.
            with contextlib.suppress(OSError):
                self._connection.send(word.encode(), socket.MSG_DONTWAIT)

    # The thread ---------------------------------------------------------------------------------

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() == self._pid:
            self._nudge(b"!")
            return
        # A process that a handler forked has inherited this handler and the pipe, but is not this process.
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)

    def _nudge(self, byte: bytes) -> None:
        with contextlib.suppress(BlockingIOError):  # full of earlier ones: the thread wakes up anyway
            os.write(self._wake_end, byte)

    def _watch(self) -> None:
        poll = select.poll()
        poll.register(self._wake, select.POLLIN)
        if self._connection is not None:
            poll.register(self._connection, select.POLLIN)
        while True:
            ready = {descriptor for descriptor, _ in poll.poll(self._patience_s() * 1000)}
            if self._wake in ready:
                self._signals += os.read(self._wake, 4096).count(b"!")
                if self._signals:
                    self._begin(self.grace_s if self._signals == 1 else 0.0, "a signal")
            if self._ended:
                return
            if self._connection is not None and self._connection.fileno() in ready and not self._heard():
                poll.unregister(self._connection)
                self._begin(self.grace_s, "the end of the supervisor")
            if self._connection is not None and os.getppid() != self._parent:
                self._begin(self.grace_s, "the end of the supervisor")
            if self._deadline is not None and time.monotonic() >= self._deadline:
                self._end_at_once()

    def _patience_s(self) -> float:
        if self._deadline is None:
            return PARENT_CHECK_S
        return min(PARENT_CHECK_S, max(0.0, self._deadline - time.monotonic()))

    def _heard(self) -> bool:
        """Obey what the supervisor said; False at the end of the socket."""
        assert self._connection is not None
        try:
            data = self._connection.recv(4096, socket.MSG_DONTWAIT)
        except BlockingIOError:
            return True
        except ConnectionResetError:
            return False
        for line in self._lines.feed(data):
            grace_s = parse_stop(line)
            if grace_s is not None:
                self._begin(grace_s, SUPERVISOR)
        return bool(data)

    def _begin(self, grace_s: float, by: str) -> None:
        """The process is to end within `grace_s` seconds; what was asked before counts if it was sooner."""
        deadline = time.monotonic() + grace_s + (MARGIN_S if grace_s > 0 else HURRY_S)
        with self._lock:
            if self._deadline is not None and self._deadline <= deadline:
                return
            self._deadline = deadline
            self._asked = (grace_s, by)
            tell = self._on_stop
        if tell is None:
            os._exit(0)  # nothing has begun yet
        tell(grace_s, by)

    def _end_at_once(self) -> None:
        kept = (
            "all work was finished or handed back"
            if self.settled
            else "what was not handed back is delivered again after its ack wait"
        )
        log.error(
            "the end took too long (the main thread is at %s); ended all the same, %s", self._place(), kept
        )
        os._exit(0 if self.settled else 1)

    def _place(self) -> str:
        frame = sys._current_frames().get(self._main or 0)
        if frame is None:
            return "an unknown place"
        return clean(f"{frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}")
