"""Several local servers as one cluster: streams with three copies, and servers to kill while work goes on.

Each server has a process, a store and a guard of its own (`local.py`), so none survives its user. All are started
at once: JetStream answers only when most of them are there. A cluster counts as ready when each server is healthy
and the leader hears from all; before that a stream with three copies may be refused.
"""

from __future__ import annotations

import os
import secrets
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from types import TracebackType
from typing import Self

from roost._text import clean, quoted
from roost.errors import ConfigError, ServerUnavailable
from roost.server._members import Member, cluster_lines
from roost.server._ports import choose_ports
from roost.server._process import PortTaken
from roost.server.local import LocalServer
from roost.server.options import ServerOptions

__all__ = ["LocalCluster"]

SIZES = (3, 5)
_START_TRIES = 5  # a port may be taken between its choice and its use
_LOOK_S = 0.02
_LEADER_S = 15.0  # an election takes up to 9 s


class LocalCluster:
    """Three (or five) nats-servers on loopback that keep streams together.

    `with LocalCluster() as cluster:` starts and stops it. Calls block until it is done: `kill` some milliseconds,
    `start` until the server has caught up. In an event loop use `asyncio.to_thread(cluster.start, 1)`. A call that
    does not get what it wants raises ServerUnavailable, with the end of a server's log where that may help.
    """

    def __init__(self, servers: int = 3, options: ServerOptions | None = None) -> None:
        """`options` are those of each server, but for these: `port` is the first server's, the next ones follow;
        in `store_dir` each has a folder (`n0`, `n1`, …). `start_timeout_s` is for all of them together.

        Raises ConfigError when `servers` is not 3 or 5.
        """
        if servers not in SIZES:
            raise ConfigError(
                f"servers = {quoted(servers)}: a cluster has 3 or 5. Most of them must be up for it to work, so an "
                "even number stands no more failures than one less."
            )
        self.options = options or ServerOptions(start_timeout_s=30.0)
        if self.options.port and self.options.port + servers - 1 > 65535:
            raise ConfigError(f"port = {self.options.port}: {servers} ports from there on are needed.")
        self._count = servers
        self._lock = threading.RLock()
        self._user = os.getpid()
        self._members: tuple[Member, ...] = ()
        self._servers: tuple[LocalServer, ...] = ()
        self._frozen: set[int] = set()
        self._stopped = False
        self._ready_s = 0.0

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # --- start and stop -------------------------------------------------------------------------------

    def start(self, *numbers: int) -> Self:
        """Starts the servers of these numbers again (default: all that do not run); at first, the cluster.

        Returns when they have caught up with the others, if most servers run; with fewer there is nothing to catch
        up with, and it returns when they listen. One object that was stopped never starts again.
        """
        with self._lock:
            began = time.monotonic()
            if self._stopped or os.getpid() != self._user:
                raise ServerUnavailable("this local cluster was stopped; make another LocalCluster.")
            if not self._servers:
                self._start_first()
            else:
                down = [n for n in numbers or range(self._count) if not self._server(n).running]
                self._each([self._server(n).restart for n in down])
                self._wait_healthy(down, began)
            self._ready_s = time.monotonic() - began
            return self

    def _start_first(self) -> None:
        began = time.monotonic()
        self._check_store()
        for last in (*[False] * (_START_TRIES - 1), True):
            self._configure()
            try:
                self._each([server.start for server in self._servers])
                self._wait_healthy(range(self._count), began)
                return
            except BaseException as problem:
                servers, self._servers = self._servers, ()
                self._each([server.stop for server in servers])
                taken = isinstance(problem, PortTaken) and not self.options.port
                if last or not (taken or "address already in use" in str(problem)):
                    raise

    def _configure(self) -> None:
        options, count = self.options, self._count
        ports = choose_ports(3 * count, host=options.host if options.host != "localhost" else "127.0.0.1")
        first = range(options.port, options.port + count) if options.port else ports[:count]
        self._members = tuple(
            Member(
                number=n,
                host=options.host,
                port=first[n],
                route_port=ports[count + n],
                http_port=ports[2 * count + n],
            )
            for n in range(count)
        )
        password = secrets.token_hex(16)
        self._servers = tuple(
            LocalServer(
                replace(
                    options,
                    port=one.port,
                    store_dir=options.store_dir / one.name if options.store_dir else None,
                    extra_config=f"{cluster_lines(one, self._members, password)}\n{options.extra_config}",
                ),
                proved=False,
            )
            for one in self._members
        )

    def _check_store(self) -> None:
        store = self.options.store_dir
        if store is None:
            return
        if (store / "jetstream").exists():
            raise ServerUnavailable(
                f"the store {clean(str(store), 500)} is that of a single server. Nothing was started. A "
                "cluster needs a folder (--store, store_dir) of its own."
            )
        beyond = [n for n in range(self._count, max(SIZES)) if (store / f"n{n}").exists()]
        if beyond:
            raise ServerUnavailable(
                f"the store {clean(str(store), 500)} is that of {beyond[-1] + 1} servers, not {self._count}. Nothing "
                "was started. Start as many, or choose another folder (--store, store_dir)."
            )

    def stop(self) -> None:
        """Stops all servers and removes everything but a `store_dir` of yours. May be called at any time, and twice."""
        if os.getpid() != self._user:
            return
        with self._lock:
            self._stopped = True
            self._each([server.stop for server in self._servers])

    def _each(self, calls: Sequence[Callable[[], object]]) -> None:
        """All calls at once. Raises the first error when each has come to an end."""
        if not calls:
            return
        with ThreadPoolExecutor(len(calls), thread_name_prefix="roost-cluster") as threads:
            results = [threads.submit(call) for call in calls]
        for result in results:
            result.result()

    def _wait_healthy(self, numbers: Sequence[int], began: float) -> None:
        """Until these have caught up with the others, if there are enough of them for that."""
        working = [self._members[n] for n in self.running if n not in self._frozen]
        if 2 * len(working) <= self._count:
            return
        while late := self._late([self._members[n] for n in numbers], working):
            for n in numbers:
                problem = self._servers[n].ended()
                if problem is not None:
                    raise problem
            if time.monotonic() - began > self.options.start_timeout_s:
                said = "".join(f"\n  {line}" for line in self._servers[late.number].log_tail())
                raise ServerUnavailable(
                    f"the local cluster was not ready within {self.options.start_timeout_s:g} s; {late.name} has not "
                    "caught up. If its store is large, allow more with start_timeout_s. The end of the log of "
                    f"{late.name}:{said}"
                )
            time.sleep(_LOOK_S)  # a server tells nobody when it has caught up

    def _late(self, started: Sequence[Member], working: Sequence[Member]) -> Member | None:
        """One of the servers that were started which is not there yet."""
        for one in started:
            if not one.healthy():
                return one
        if len(working) == self._count and not any(one.complete(self._count) for one in working):
            return working[0]
        groups = [(one, group) for one in working for group in one.groups()]
        led = {group.identity: group for one, group in groups if group.leader == one.name}
        for one, group in groups:
            if group.identity not in led:
                return one
        behind = {name for group in led.values() for name in group.behind}
        return next((one for one in started if one.name in behind), None)

    # --- faults ---------------------------------------------------------------------------------------

    def kill(self, number: int) -> None:
        """SIGKILL to one server, as if it crashed. Returns when it is gone; `start` brings it back."""
        self._server(number).kill()
        self._frozen.discard(number)

    def pause(self, number: int) -> None:
        """SIGSTOP to one server: it freezes, and its connections stay open."""
        self._server(number).pause()
        self._frozen.add(number)

    def resume(self, number: int) -> None:
        """SIGCONT after `pause`."""
        self._server(number).resume()
        self._frozen.discard(number)

    # --- what it is -----------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """What to connect to: the URLs of all servers, separated by commas; the same after a restart."""
        return ",".join(self.urls)

    @property
    def urls(self) -> tuple[str, ...]:
        """The URL of each server."""
        return tuple(server.url for server in self.servers)

    @property
    def servers(self) -> tuple[LocalServer, ...]:
        """Each server, for its process number, its log or its store."""
        if not self._servers:
            raise ServerUnavailable("this local cluster has no servers yet: call start() first.")
        return self._servers

    @property
    def running(self) -> tuple[int, ...]:
        """The numbers of the servers whose process is alive; a frozen one is."""
        return tuple(n for n, server in enumerate(self._servers) if server.running)

    @property
    def ready_s(self) -> float:
        """Seconds that the last start took, until the servers had caught up."""
        return self._ready_s

    @property
    def store_dir(self) -> Path | None:
        """Where the stores of the servers are, if they are kept."""
        return self.options.store_dir

    def leader_of(self, stream: str | None = None, *, timeout_s: float = _LEADER_S) -> int:
        """The number of the server that leads `stream`, or without one the cluster; waits for an election.

        Raises ServerUnavailable when none says so of itself within `timeout_s` seconds.
        """
        until = time.monotonic() + timeout_s
        while True:
            for number in self.running:
                if self._members[number].leads(stream):
                    return number
            if time.monotonic() > until:
                what = f"the stream {quoted(stream)}" if stream is not None else "the cluster"
                raise ServerUnavailable(
                    f"no server led {what} within {timeout_s:g} s; running: "
                    f"{', '.join(self._members[n].name for n in self.running) or 'none'}."
                )
            time.sleep(_LOOK_S)

    def _server(self, number: int) -> LocalServer:
        servers = self.servers
        if not 0 <= number < len(servers):
            raise ConfigError(f"server {quoted(number)}: there are 0 to {len(servers) - 1}.")
        return servers[number]
