"""One local server from start to end, with the faults that a test needs: killed, frozen, restarted.

Calls block for as long as the server takes (a start some 40 ms, the others a few); `local_server` is for an
event loop. Calls may come from any thread; one at a time is served. However the user of a server ends, the
guard (`_guard.py`) stops the server and removes its directory.
"""

from __future__ import annotations

import os
import threading
import time
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from roost.errors import ServerUnavailable
from roost.server._files import ServerFiles
from roost.server._guarded import Guarded
from roost.server._process import PortTaken, ServerProcess, failure
from roost.server._store_lock import lock_store
from roost.server.find import find_server
from roost.server.options import ServerOptions

__all__ = ["LocalServer"]

_PORT_PATIENCE_S = 5.0  # a passing connection of somebody else may hold the port when the server comes back


class LocalServer:
    """A nats-server with JetStream on loopback, in its own process.

    `with LocalServer() as server:` starts and stops it. A method that does not get what it wants raises
    ServerUnavailable, with the last lines of the server's log where they may help.
    """

    def __init__(self, options: ServerOptions | None = None, *, proved: bool = True) -> None:
        """`proved` False: it counts as started when it listens. One server of a cluster does not answer for
        JetStream before the others are there; `LocalCluster` waits for that."""
        self.options = options or ServerOptions()
        self._proved = proved
        self._lock = threading.RLock()
        self._user = os.getpid()
        self._files: ServerFiles | None = None
        self._process: ServerProcess | None = None
        self._stopped = False
        self._port = 0
        self._ready_s = 0.0

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- start and stop -------------------------------------------------------------------------------

    def start(self) -> Self:
        """Finds the program, starts it and returns when JetStream has answered.

        Raises ServerUnavailable if there is no program, or if it is not ready within `start_timeout_s`; then
        nothing is left behind. One object is started once; `restart` brings a killed server back.
        """
        with self._lock:
            began = time.monotonic()
            if self._stopped or self._process:
                raise ServerUnavailable(
                    "this local server has been started before. Use restart() to run it again on its store, or "
                    "make another LocalServer."
                )
            if os.name != "posix":
                raise ServerUnavailable(
                    "local servers run on Linux and macOS only. Start a nats-server yourself and set NATS_URL."
                )
            try:
                self._process = self._prepare()
                self._port = self._process.launch(self.options.port)
            except BaseException as problem:
                self.stop()
                if isinstance(problem, OSError):
                    raise ServerUnavailable(
                        f"the local server could not be started: {problem}. Nothing was left behind. Mend that, or "
                        "start a nats-server yourself and set NATS_URL."
                    ) from problem
                raise
            self._ready_s = time.monotonic() - began
            return self

    def _prepare(self) -> ServerProcess:
        program = find_server()
        options = self.options
        lock = lock_store(options.store_dir, wait_s=_PORT_PATIENCE_S) if options.store_dir else None
        try:
            self._files = ServerFiles.create(options)
            guarded = Guarded(
                command=self._files.command(program, options.host),
                run_dir=self._files.root,
                stderr=self._files.stderr,
                grace_s=options.stop_grace_s,
                inherit=[] if lock is None else [lock],
            )
        finally:
            if lock is not None:
                os.close(lock)  # guard and server keep theirs
        return ServerProcess(guarded, self._files, options, proved=self._proved)

    def stop(self) -> None:
        """Stops it (SIGTERM, after `stop_grace_s` SIGKILL) and removes everything but a `store_dir` of yours.

        Returns when the process is gone. May be called at any time, also twice; afterwards it cannot be
        started again. In a forked child of its user it does nothing: the server is the parent's.
        """
        if os.getpid() != self._user:
            return
        with self._lock:
            self._stopped = True
            process, self._process = self._process, None
            if process is None and self._files is not None:
                self._files.remove()  # no guard was started that would do it
            if process is not None and not process.end():
                raise ServerUnavailable(
                    f"the local server (process {process.pid}) could not be ended, not even by SIGKILL: it may hang "
                    "on a broken disk. Its temporary directory was removed."
                )

    def restart(self) -> None:
        """Starts it again on the same port and store; one that still runs is stopped orderly before."""
        with self._lock:
            began = time.monotonic()
            process = self._the_process()
            if process.alive():
                process.order("halt", "exited")
            while True:
                try:
                    process.launch(self.port)
                    break
                except PortTaken:
                    if time.monotonic() - began > _PORT_PATIENCE_S:
                        raise
            self._ready_s = time.monotonic() - began

    # --- faults ---------------------------------------------------------------------------------------

    def kill(self) -> None:
        """SIGKILL, as if it crashed. Returns when the process is gone; `restart` brings it back."""
        with self._lock:
            self._the_process(alive=True).order("kill", "exited")

    def pause(self) -> None:
        """SIGSTOP: it freezes and its connections stay open. Returns when it stands still."""
        with self._lock:
            self._the_process(alive=True).order("pause", "paused")

    def resume(self) -> None:
        """SIGCONT after `pause`. Returns when it goes on."""
        with self._lock:
            self._the_process(alive=True).order("resume", "resumed")

    def reload(self, extra_config: str) -> None:
        """Has it read other `extra_config` while it runs, as after a change by its administrator.

        Raises ServerUnavailable when it refuses that; then it goes on as before.
        """
        with self._lock:
            options = replace(self.options, extra_config=extra_config)
            self._the_process(alive=True).reload(options)
            self.options = options

    # --- what it is -----------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """What to connect to, such as `nats://127.0.0.1:40123`; the same after a restart."""
        host = f"[{self.options.host}]" if ":" in self.options.host else self.options.host
        return f"nats://{host}:{self.port}"

    @property
    def port(self) -> int:
        """The port it listens on; known from the first start on."""
        if not self._port:
            raise ServerUnavailable("this local server has no port yet: call start() first.")
        return self._port

    @property
    def pid(self) -> int:
        """The number of its process. Raises ServerUnavailable when it does not run."""
        with self._lock:
            number = self._the_process(alive=True).pid
        assert number is not None
        return number

    @property
    def store_dir(self) -> Path:
        """Where the streams are kept."""
        if self._files is None:
            raise ServerUnavailable("this local server has no store yet: call start() first.")
        return self._files.store

    @property
    def running(self) -> bool:
        """Whether its process is alive; a frozen one is."""
        with self._lock:
            return self._process is not None and self._process.alive()

    @property
    def ready_s(self) -> float:
        """Seconds that the last start or restart took, until JetStream answered."""
        return self._ready_s

    def fileno(self) -> int:
        """A descriptor that becomes readable when the server ends by itself; `ended()` says how."""
        with self._lock:
            return self._the_process().fileno()

    def ended(self) -> ServerUnavailable | None:
        """None while it runs; otherwise an error, not raised, which says how it ended and has the end of its log."""
        with self._lock:
            process = self._the_process()
            if process.alive():
                return None
            return failure("the local server has ended", process.exit_code, self.log_tail())

    def log_tail(self, lines: int = 12) -> list[str]:
        """The last lines of its log, safe to print; empty once it has been stopped."""
        return self._files.log_tail(lines) if self._files else []

    def _the_process(self, *, alive: bool = False) -> ServerProcess:
        if self._process is None or os.getpid() != self._user:
            raise ServerUnavailable(
                "this local server was stopped; make another LocalServer."
                if self._stopped
                else "this local server is not running here: call start() first, in this process."
            )
        if alive and not self._process.alive():
            raise failure("the local server is not running", self._process.exit_code, self.log_tail())
        return self._process
