"""The user's side of the guard: sends its words, and waits for what it says.

`_guard.py` says why there is such a process. Here every wait ends: with the event that was waited for, with
the end of the guard, or at a deadline.
"""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from roost.errors import ServerUnavailable

__all__ = ["Event", "Guarded"]

_PROGRAM = Path(__file__).with_name("_guard.py")


@dataclass(frozen=True, slots=True)
class Event:
    """What happened to the server: `started` (value: process number), `paused`, `resumed`, `exited` (value:
    exit code, negative for a signal), `gone` (neither guard nor server is left)."""

    kind: str
    value: int = 0


class Guarded:
    """One guard process. Not to be used from several threads at once."""

    def __init__(
        self, *, command: Sequence[str], run_dir: Path, stderr: Path, grace_s: float, inherit: Sequence[int]
    ) -> None:
        """Starts the guard, not yet the server. It removes `run_dir` when it ends.

        `command`: the server's program and arguments, all but the port. `inherit`: descriptors of open files
        that guard and server keep open. Raises ServerUnavailable or OSError if there can be no guard.
        """
        if not sys.executable:
            raise ServerUnavailable(
                "a local server needs a Python program to watch over it, and sys.executable is empty here (an "
                "embedded Python?). Start a nats-server yourself and set NATS_URL."
            )
        self._events: deque[Event] = deque()
        self._unread = b""
        self._gone = False
        with stderr.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", _PROGRAM, str(os.getpid()), str(grace_s), run_dir, *command],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                bufsize=0,
                start_new_session=True,
                pass_fds=inherit,
            )

    @property
    def pid(self) -> int:
        return self._process.pid

    def fileno(self) -> int:
        """Becomes readable when something happens to the server."""
        assert self._process.stdout is not None
        return self._process.stdout.fileno()

    def send(self, words: str) -> None:
        """One command to the guard; lost without harm if it has gone (`next_event` tells)."""
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(words.encode() + b"\n")
        except BrokenPipeError:
            return

    def next_event(self, timeout_s: float) -> Event | None:
        """The next thing that happened, or None after `timeout_s` seconds. `gone` is reported each time."""
        deadline = time.monotonic() + timeout_s
        while not self._events:
            if self._gone:
                return Event("gone")
            if not readable(self.fileno(), max(0.0, deadline - time.monotonic())):
                return None
            self._read()
        return self._events.popleft()

    def _read(self) -> None:
        data = os.read(self.fileno(), 4096)
        if not data:
            self._gone = True
            return
        *lines, self._unread = (self._unread + data).split(b"\n")
        for line in lines:
            kind, _, value = line.decode().partition(" ")
            self._events.append(Event(kind, int(value or 0)))

    def end(self, timeout_s: float, *, server: int | None) -> bool:
        """Has the guard stop the server, clean up and exit, and waits until both are gone.

        If the guard does not get there within `timeout_s` (it may have been frozen or killed), guard and
        server are killed from here. False if even that did not end them.
        """
        self.send("end")
        gone = self._wait_until_gone(timeout_s)
        if not gone:
            self._process.kill()
            gone = self._wait_until_gone(1.0)
        if not gone and server is not None:
            os.kill(server, signal.SIGKILL)  # not a stranger's number: somebody still holds the pipe
            gone = self._wait_until_gone(5.0)
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()
        if gone:
            self._process.wait()
        return gone

    def _wait_until_gone(self, timeout_s: float) -> bool:
        deadline = time.monotonic() + timeout_s
        while not self._gone:
            if self.next_event(max(0.0, deadline - time.monotonic())) is None:
                return False
        return True


def readable(descriptor: int, timeout_s: float) -> bool:
    """Waits until a file descriptor can be read or has ended. (`select` refuses numbers above 1023.)"""
    poll = select.poll()
    poll.register(descriptor, select.POLLIN)
    return bool(poll.poll(timeout_s * 1000))
