"""A file that says how a supervisor is: for probes of Kubernetes and compose, which ask from outside.

It is written anew every two seconds as long as the supervisor works, so its age tells whether it does; its first line
tells whether all processes are ready. A file needs no port, and nothing to answer on it. That NATS is away is no
reason to be called unhealthy: the processes wait for it, and to restart them would mend nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

from roost._text import clean, quoted
from roost.errors import ConfigError
from roost.runtime.keeper import AgentProcess

log = logging.getLogger("roost.runtime")

WRITE_EVERY_S = 2.0


def health(processes: Sequence[AgentProcess]) -> str:
    """``ready``, or ``not ready:`` and the processes that are not, with their states."""
    missing = [f"{clean(one.name)} ({one.state})" for one in processes if one.state != "ready"]
    return f"not ready: {', '.join(missing)}" if missing else "ready"


@asynccontextmanager
async def health_file(path: Path | None, processes: Sequence[AgentProcess]) -> AsyncIterator[None]:
    """Keeps the file for the length of the block, and removes it at the end. None: nothing is written.

    Raises ConfigError when it cannot be written at the beginning; later that is logged, and the file grows old.
    """
    if path is None:
        yield
        return
    try:
        _write(path, health(processes))
    except OSError as error:
        raise ConfigError(f"the health file {quoted(str(path), 300)} cannot be written: {error}") from error
    keeping = asyncio.create_task(_keep(path, processes), name="roost-health-file")
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.gather(keeping, return_exceptions=True)
        _remove(path)


async def _keep(path: Path, processes: Sequence[AgentProcess]) -> None:
    failed = False
    while True:
        try:
            _write(path, health(processes))
            failed = False
        except OSError as error:
            if not failed:
                log.warning("the health file %s cannot be written: %s", clean(str(path), 300), error)
            failed = True
        await asyncio.sleep(WRITE_EVERY_S)


def _write(path: Path, text: str) -> None:
    """In one step: a probe never reads half a line."""
    new = path.with_name(f".{path.name}.{os.getpid()}")
    new.write_text(f"{text}\n", encoding="utf-8")
    new.replace(path)


def _remove(path: Path) -> None:
    with contextlib.suppress(OSError):
        path.unlink(missing_ok=True)
