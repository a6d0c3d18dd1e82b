"""Processes that die or stand still."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Protocol

WAIT_S = 5.0
"""How long a signal may take to show, in seconds."""


class HasPid(Protocol):
    @property
    def pid(self) -> int: ...


def kill(process: int | HasPid) -> None:
    """SIGKILL: the process dies at whatever instruction it is. Returns when it does nothing any more.

    `process` is a process id, or anything with a `pid` (`subprocess.Popen`, a supervised child, a `LocalServer`).
    Of a child of this process the exit code is still to be fetched. Raises ProcessLookupError, PermissionError.
    """
    pid = pid_of(process)
    os.kill(pid, signal.SIGKILL)
    _await_state(pid, "ZX")


@contextmanager
def frozen(process: int | HasPid) -> Iterator[None]:
    """SIGSTOP for the length of the block: nothing runs, and connections stay open. Then SIGCONT.

    The worst of peers: it is not dead, and wakes up with what it was about to do. A process that ends meanwhile
    is no error.
    """
    pid = pid_of(process)
    os.kill(pid, signal.SIGSTOP)
    try:
        _await_state(pid, "TtZX")
        yield
    finally:
        with suppress(ProcessLookupError):  # it was killed while it stood still
            os.kill(pid, signal.SIGCONT)


def pid_of(process: int | HasPid) -> int:
    return process if isinstance(process, int) else process.pid


def _await_state(pid: int, states: str) -> None:
    """Wait until the system says that the process is in one of these states, or is gone."""
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        state = _state(pid)
        if not state or state in states:
            return
        time.sleep(0.002)
    raise TimeoutError(f"process {pid} did not follow a signal within {WAIT_S:g} s; it may hang on a disk")


def _state(pid: int) -> str:
    """One letter, as `ps` has it; nothing when there is no such process, or no /proc to tell."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except (OSError, IndexError):
        return ""
