"""A local server, or a cluster, in the foreground of a terminal or a script: prints its URL, lasts until a signal.

The URL is the first line, printed when the server is ready, so that a script can wait for the line and read it. A
server that ends by itself is a failure with its last words, never a silent exit. One of a cluster is started again:
that the others go on meanwhile is what a cluster is for, and killing one is how to see it.
"""

from __future__ import annotations

import os
import select
import signal
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

from roost.errors import ServerUnavailable
from roost.server.cluster import LocalCluster
from roost.server.local import LocalServer
from roost.server.options import ServerOptions

__all__ = ["run", "run_cluster"]

_ENDS, _ENDS_WITHIN_S = 10, 60.0
"""So many ends of a cluster's servers within so many seconds are no accident: give up."""


def run(options: ServerOptions | None = None, *, out: TextIO, promise: str = "") -> int:
    """Runs a local server until SIGINT or SIGTERM, and gives the exit code: 0, or 1 if it ended by itself.

    `promise`: a line that follows the first two. To be called in the main thread. Raises ServerUnavailable when it
    cannot be started.
    """
    with _signals() as wake, LocalServer(options) as server:
        kept = "kept" if server.options.store_dir else "removed at the end"
        _say(
            out,
            server.url,
            f"ready in {server.ready_s * 1000:.0f} ms, store {server.store_dir} ({kept}); Ctrl-C stops it",
            *([promise] if promise else []),
        )
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        poll.register(server, select.POLLIN)
        while wake not in (descriptor for descriptor, _ in poll.poll()):
            problem = server.ended()
            if problem is not None:
                _say(out, str(problem))
                return 1
    return 0


def run_cluster(servers: int, options: ServerOptions | None = None, *, out: TextIO, promise: str = "") -> int:
    """Runs a local cluster until SIGINT or SIGTERM; the exit code: 0, or 1 if its servers keep ending by themselves.

    The first line has all URLs, separated by commas; then follows a line for each server, with its process number.
    To be called in the main thread. Raises ServerUnavailable when it cannot be started, ConfigError.
    """
    ends: deque[float] = deque(maxlen=_ENDS)
    with _signals() as wake, LocalCluster(servers, options) as cluster:
        kept = f"stores in {cluster.store_dir} (kept)" if cluster.store_dir else "stores removed at the end"
        _say(
            out,
            cluster.url,
            f"{servers} servers ready in {cluster.ready_s * 1000:.0f} ms, {kept}; Ctrl-C stops them",
            *(f"n{n} is process {server.pid}, {server.url}" for n, server in enumerate(cluster.servers)),
            *([promise] if promise else []),
        )
        while True:
            poll = select.poll()
            poll.register(wake, select.POLLIN)
            for server in cluster.servers:
                poll.register(server, select.POLLIN)
            if wake in (descriptor for descriptor, _ in poll.poll()):
                return 0
            for n, server in enumerate(cluster.servers):
                problem = server.ended()
                if problem is None:
                    continue
                ends.append(time.monotonic())
                if len(ends) == _ENDS and ends[-1] - ends[0] < _ENDS_WITHIN_S:
                    _say(out, f"n{n}: {problem}", "the servers keep ending; all are stopped")
                    return 1
                _say(out, f"n{n}: {str(problem).partition('. ')[0]}; it is started again")
                try:
                    server.restart()
                except ServerUnavailable as failed:
                    _say(out, f"n{n}: {failed}", "all servers are stopped")
                    return 1
                _say(out, f"n{n} is process {server.pid}, {server.url}")


def _say(out: TextIO, *lines: str) -> None:
    out.write("".join(f"{line}\n" for line in lines))
    out.flush()


@contextmanager
def _signals() -> Iterator[int]:
    """A descriptor that becomes readable at SIGINT or SIGTERM, also at one that came during the start."""
    wake, wake_end = os.pipe()
    os.set_blocking(wake_end, False)

    def note(number: int, frame: FrameType | None) -> None:
        try:
            os.write(wake_end, b"!")
        except BlockingIOError:
            return  # full of earlier signals: it is readable already

    before = {number: signal.signal(number, note) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield wake
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        os.close(wake)
        os.close(wake_end)
