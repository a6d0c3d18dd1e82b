"""Ends the processes that cells have started when the kernel itself is killed and no last cell can run.

It is a process of its own that waits for the end of its standard input, which comes however the kernel ends; then it
kills the kernel's process group. (A server of Roost has a guard like that of its own.)
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys

DONE = b"done"


class Guard:
    """`dismiss` it when the lesson is closed. A process that leads no group, as a kernel does, has none."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        if os.name == "posix" and os.getpgrp() == os.getpid():
            self._process = subprocess.Popen(
                [sys.executable, "-I", "-S", __file__, str(os.getpid())],
                stdin=subprocess.PIPE,
                start_new_session=True,
            )

    def dismiss(self) -> None:
        if self._process is not None:
            self._process.communicate(DONE)


if __name__ == "__main__":
    if sys.stdin.buffer.read() != DONE:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(int(sys.argv[1]), signal.SIGKILL)
