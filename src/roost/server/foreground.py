"""A local server in the foreground of a terminal or a script: it prints its URL and lasts until a signal.

The URL is the first word of the first line, printed when the server is ready, so that a script can wait for
the line and read it. The server ending by itself is a failure with its last words, never a silent exit.
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import TextIO

from roost.server.local import LocalServer
from roost.server.options import ServerOptions

__all__ = ["run"]


def run(options: ServerOptions | None = None, *, out: TextIO) -> int:
    """Runs a local server until SIGINT or SIGTERM, and gives the exit code: 0, or 1 if it ended by itself.

    To be called in the main thread. Raises ServerUnavailable when it cannot be started.
    """
    with _signals() as wake, LocalServer(options) as server:
        kept = "kept" if server.options.store_dir else "removed at the end"
        out.write(
            f"{server.url}\nready in {server.ready_s * 1000:.0f} ms, store {server.store_dir} ({kept}); "
            "Ctrl-C stops it\n"
        )
        out.flush()
        poll = select.poll()
        poll.register(wake, select.POLLIN)
        poll.register(server, select.POLLIN)
        while wake not in (descriptor for descriptor, _ in poll.poll()):
            problem = server.ended()
            if problem is not None:
                out.write(f"{problem}\n")
                out.flush()
                return 1
    return 0


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
