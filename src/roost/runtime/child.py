"""A supervisor's side of one process: starting it, hearing it, stopping it, and no policy.

Each process runs in a session of its own, so that Ctrl-C in a terminal reaches the supervisor alone: otherwise
every process would begin to stop before the supervisor knows of it, and would be started again.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Callable, Mapping

from roost.errors import ConfigError
from roost.runtime.words import Lines, Word, stop_line

PROGRAM = "roost.runtime.process"
KILL_WAIT_S = 5.0


class Child:
    """One started process. Made by `spawn`; `ended` gives its exit code."""

    def __init__(self, process: asyncio.subprocess.Process, connection: socket.socket) -> None:
        self._process = process
        self._connection = connection
        self._killing: asyncio.TimerHandle | None = None

    @property
    def pid(self) -> int:
        return self._process.pid

    @classmethod
    async def spawn(cls, target: str, environment: Mapping[str, str], *, directory: str | None) -> Child:
        """Start a process. Raises OSError when there can be none."""
        if not sys.executable:
            raise ConfigError(
                "sys.executable is empty (an embedded Python?): there is no program to start agents with"
            )
        ours, theirs = socket.socketpair()
        try:
            ours.setblocking(False)
            with theirs:
                process = await asyncio.create_subprocess_exec(
                    sys.executable,
                    *("-m", PROGRAM, target),
                    stdin=asyncio.subprocess.DEVNULL,
                    stdout=2,  # what a handler prints must not mix with what this program prints
                    env={**environment, "ROOST_LIFELINE": str(theirs.fileno())},
                    cwd=directory,
                    pass_fds=[theirs.fileno()],
                    start_new_session=True,
                )
        except BaseException:
            ours.close()
            raise
        return cls(process, ours)

    async def ended(self, hear: Callable[[Word], None]) -> int:
        """Pass on what the process says until it has ended; its exit code, negative for a signal."""
        lines = Lines()
        hearing = asyncio.create_task(self._listen(lines, hear), name="roost-hear-process")
        try:
            code = await self._process.wait()
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)
            # Its last words may have come together with its end. Not until the end of the socket: a process
            # that it forked may still hold that.
            with contextlib.suppress(OSError):
                while data := self._connection.recv(4096):
                    self._pass_on(lines, data, hear)
            return code
        finally:
            if self._killing is not None:
                self._killing.cancel()
            hearing.cancel()
            await asyncio.gather(hearing, return_exceptions=True)
            self._connection.close()

    async def _listen(self, lines: Lines, hear: Callable[[Word], None]) -> None:
        loop = asyncio.get_running_loop()
        try:
            while data := await loop.sock_recv(self._connection, 4096):
                self._pass_on(lines, data, hear)
        except ConnectionResetError:
            return  # it died with our words unread

    def _pass_on(self, lines: Lines, data: bytes, hear: Callable[[Word], None]) -> None:
        for line in lines.feed(data):
            word = Word.decode(line)
            if word is not None:
                hear(word)

    def stop(self, grace_s: float, *, kill_at: float) -> None:
        """Ask it to stop within `grace_s` seconds; SIGKILL at `kill_at` (loop time) if it is still there."""
        if self._killing is not None:
            self._killing.cancel()
        self._killing = asyncio.get_running_loop().call_at(kill_at, self.send_signal, signal.SIGKILL)
        try:
            self._connection.send(stop_line(grace_s))
        except OSError:  # it has closed its end, or never reads it
            self.send_signal(signal.SIGTERM)

    def send_signal(self, number: int) -> None:
        """Send a signal, if it is still there."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    async def kill(self) -> None:
        """SIGKILL, and wait until it is gone."""
        self.send_signal(signal.SIGKILL)
        async with asyncio.timeout(KILL_WAIT_S):
            await self._process.wait()


def environment(
    extra: Mapping[str, str], *, url: str | None, namespace: str | None, grace_s: float, log_level: str
) -> dict[str, str]:
    """What all processes of a supervisor have in their environment: its own, and what it was told."""
    given = {"NATS_URL": url, "ROOST_NAMESPACE": namespace}
    return {
        **{key: value for key, value in os.environ.items() if key not in ("ROOST_INSTANCE", "ROOST_PLACE")},
        **{key: value for key, value in given.items() if value is not None},
        "ROOST_GRACE_S": repr(grace_s),
        "ROOST_LOG_LEVEL": log_level,
        "PYTHONUNBUFFERED": "1",  # what a handler printed must not be lost when its process is killed
        **extra,
    }
