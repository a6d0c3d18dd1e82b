"""The server's process as its user sees it: started until ready, told to do something, and what became of it.

Between this and the operating system stands the guard; between this and the public `LocalServer`, a lock.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Sequence
from contextlib import suppress

from roost.errors import ServerUnavailable
from roost.server._files import ServerFiles
from roost.server._guarded import Event, Guarded
from roost.server._probe import prove_ready
from roost.server.options import ServerOptions

__all__ = ["PortTaken", "ServerProcess", "failure"]

_PORTS_FILE_CHECK_S = 0.001  # a file that is written wakes nobody
_ANSWER_S = 10.0  # for what the guard does at once, on a machine under load


class PortTaken(ServerUnavailable):
    """The port asked for is in use."""


class ServerProcess:
    """One server after the other on the same files, under one guard. For one thread at a time."""

    def __init__(
        self, guarded: Guarded, files: ServerFiles, options: ServerOptions, *, proved: bool = True
    ) -> None:
        """`proved` False: `launch` does not wait until JetStream answers."""
        self._guarded = guarded
        self._files = files
        self._options = options
        self._proved = proved
        self.pid: int | None = None
        self.exit_code: int | None = None

    def launch(self, port: int) -> int:
        """Starts a server on `port` (0: any) and gives its port when JetStream has answered.

        Raises PortTaken, or ServerUnavailable with the end of the log.
        """
        deadline = time.monotonic() + self._options.start_timeout_s
        self._files.forget_port()
        mark = self._files.log_size()
        self._guarded.send(f"start {port or -1}")
        self._wait_for("started", _ANSWER_S)
        while (listening := self._files.port()) is None:
            self.note_events(_PORTS_FILE_CHECK_S)
            if self.pid is None:
                raise self._died(port, mark)
            if time.monotonic() > deadline:
                raise self._not_ready("it does not listen yet", mark)
        if not self._proved or "handshake_first" in self._options.extra_config:
            return listening  # without TLS the latter keeps silent
        try:
            prove_ready(self._options.host, listening, timeout_s=max(0.1, deadline - time.monotonic()))
        except OSError as problem:
            raise self._not_ready(str(problem) or type(problem).__name__, mark) from problem
        return listening

    def order(self, words: str, event: str) -> None:
        """Tells the guard something and returns when it has happened. Raises ServerUnavailable if it does not."""
        self._guarded.send(words)
        self._wait_for(event, self._options.stop_grace_s + _ANSWER_S)

    def reload(self, options: ServerOptions) -> None:
        """Have the server read these options. Raises ServerUnavailable when it refuses them and goes on as before."""
        mark = self._files.log_size()
        self._files.configure(options)
        self.order("reload", "signalled")
        deadline = time.monotonic() + _ANSWER_S
        said: list[str] = []
        while time.monotonic() < deadline:
            said = self._files.log_tail(50, since=mark)
            if any("Reloaded server configuration" in line for line in said):
                self._options = options
                return
            if any("Failed to reload" in line for line in said):
                self._files.configure(self._options)
                raise failure("the local server refused the configuration and goes on as before", None, said)
            self.note_events(_PORTS_FILE_CHECK_S)
            if self.pid is None:
                raise failure("the local server has ended", self.exit_code, said)
        raise failure("the local server did not say whether it took the configuration", None, said)

    def note_events(self, timeout_s: float = 0.0) -> Event | None:
        """Takes note of the next thing that happened, if any does within `timeout_s`."""
        event = self._guarded.next_event(timeout_s)
        if event is not None and event.kind == "started":
            self.pid, self.exit_code = event.value, None
        elif event is not None and event.kind in ("exited", "gone"):
            self.pid = None
            if event.kind == "exited":
                self.exit_code = event.value
        return event

    def alive(self) -> bool:
        """Whether there is a server, a frozen one included, after all that has happened so far."""
        while self.pid is not None and self.note_events() is not None:
            continue
        return self.pid is not None

    def fileno(self) -> int:
        return self._guarded.fileno()

    def end(self) -> bool:
        """Stops server and guard, removes the files. False if the server could not be ended."""
        ended = self._guarded.end(self._options.stop_grace_s + _ANSWER_S, server=self.pid)
        self._files.remove()  # the guard has done it, unless it was killed
        if ended:
            self.pid = None
        return ended

    def _wait_for(self, kind: str, timeout_s: float) -> None:
        deadline = time.monotonic() + timeout_s
        while (event := self.note_events(max(0.0, deadline - time.monotonic()))) is not None:
            if event.kind == kind:
                return
            if event.kind == "exited":
                raise failure("the local server has ended", self.exit_code, self._files.log_tail())
            if event.kind == "gone":
                raise failure("the local server and its guard were killed from outside", None, [])
        raise failure(
            f"the local server's guard does not answer ({kind} expected)", None, self._files.log_tail()
        )

    def _died(self, port: int, mark: int) -> ServerUnavailable:
        said = self._files.log_tail(since=mark)
        if port and any("address already in use" in line and f":{port}:" in line for line in said):
            return PortTaken(
                f"port {port} on {self._options.host} is in use by another program, so the local server could not "
                "start. Nothing was left behind. Choose another port, or 0 for any free one."
            )
        return failure("the local server ended while starting", self.exit_code, said)

    def _not_ready(self, reason: str, mark: int) -> ServerUnavailable:
        return failure(
            f"the local server was not ready within {self._options.start_timeout_s:g} s ({reason}). It was stopped; "
            "if its store is large, allow more with start_timeout_s",
            None,
            self._files.log_tail(since=mark),
        )


def failure(what: str, exit_code: int | None, said: Sequence[str]) -> ServerUnavailable:
    """An error with the end of the server's log."""
    how = "" if exit_code is None else f" with exit code {exit_code}"
    with suppress(ValueError):
        if exit_code is not None and exit_code < 0:
            how = f" by {signal.Signals(-exit_code).name}"
    log = "".join(f"\n  {line}" for line in said)
    return ServerUnavailable(f"{what}{how}. " + (f"The end of its log:{log}" if log else "Its log is empty."))
