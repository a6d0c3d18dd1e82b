"""`roost demo` from its arguments to its exit code: check, start server and team, order, wait, sum up.

0: every task ended well, whatever the audit found. 1: something ended as a dead letter, or the audit did not get to
its end. 2: the arguments cannot be used; nothing was started. 130: interrupted.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from roost._text import clean
from roost.agent import Agent
from roost.bus import Bus, connect
from roost.demo import contracts
from roost.demo.contracts import Folder, Progress, ReportOrder, Written
from roost.demo.gather import gather
from roost.demo.progress import View, notice, view
from roost.demo.report import TaskTotals, totals
from roost.demo.scan import scan
from roost.demo.write import outputs
from roost.errors import RoostError, ServerUnavailable, TaskDead
from roost.runtime import AgentSpec, Supervisor, SupervisorOptions
from roost.server import LocalServer

NAMESPACE = "demo"
START_S = 60.0
GRACE_S = 5.0


class Unusable(Exception):
    """The arguments cannot be used; for people."""


def run_demo(path: Path, *, out: Path, workers: int, as_json: bool) -> int:
    """Audit the folder `path` and write the report to `out`; the exit code."""
    try:
        root, target = check_folder(path), check_out(out)
        check_any_text(root, target, shown=path)
    except Unusable as error:
        sys.stderr.write(f"roost demo: {error}\n")
        return 2
    try:
        with view(as_json=as_json) as shown:
            counts, written = asyncio.run(_audit(root, target, workers, shown))
    except KeyboardInterrupt:
        sys.stderr.write("roost demo: interrupted; the team and its server are stopped, no report was written\n")
        return 130
    except* (RoostError, TimeoutError, OSError) as errors:
        for error in errors.exceptions:
            sys.stderr.write(f"roost demo: {clean(str(error), 1000)}\n")
        return 1
    _sum_up(counts, written, as_json=as_json)
    return 0 if counts.done == counts.submitted else 1


# --- arguments --------------------------------------------------------------------------------------


def check_folder(path: Path) -> Path:
    """The folder to audit, absolute and without symbolic links. Raises Unusable."""
    shown = clean(str(path), 300)
    try:
        root = path.expanduser().resolve(strict=True)
        if not root.is_dir():
            raise Unusable(f"{shown} is a file; give the folder that is to be audited")
        os.listdir(root)
    except FileNotFoundError as error:
        raise Unusable(f"there is no folder {shown}") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise Unusable(f"{shown} cannot be read: {clean(str(error), 300)}") from error
    return root


def check_out(out: Path) -> Path:
    """The folder for the report, made and writable. Raises Unusable."""
    shown = clean(str(out), 300)
    try:
        target = Path(os.path.abspath(out.expanduser()))
        target.mkdir(parents=True, exist_ok=True)
        if not os.access(target, os.W_OK | os.X_OK):
            raise Unusable(f"nothing can be written to {shown}; name another folder with --out")
        return target.resolve()
    except (OSError, RuntimeError, ValueError) as error:
        raise Unusable(f"{shown} cannot be made a folder for the report: {clean(str(error), 300)}") from error


def check_any_text(root: Path, out: Path, *, shown: Path) -> None:
    """Raises Unusable, with what is there instead, if a folder holds no text file."""
    reasons: Counter[str] = Counter()
    for found in scan(root, exclude=outputs(root, out)):
        if isinstance(found, str):
            return
        reasons[found.reason] += 1
    there = ", ".join(f"{number} {clean(reason, 60)}" for reason, number in reasons.most_common(5))
    raise Unusable(
        f"no text files found under {clean(str(shown), 300)}"
        + (f" (left out: {there})" if there else "; hidden folders, node_modules, venv and __pycache__ do not count")
    )


# --- the job ----------------------------------------------------------------------------------------


async def _audit(root: Path, out: Path, workers: int, shown: View) -> tuple[TaskTotals, Written | None]:
    began = time.monotonic()
    audit = secrets.token_hex(6)
    audience = Agent("audience")

    @audience.handles(contracts.progress, concurrency=1, deliver="every")
    def hear(value: Progress) -> None:
        shown.progress(value)

    shown.say(f"auditing {clean(str(root), 300)}")
    async with _server() as server, _team(server.url, workers), connect(server.url, namespace=NAMESPACE) as bus:
        async with bus.serving(audience):
            shown.say(f"server, coordinator, {workers} digesters, linker and reporter started", )
            job = asyncio.create_task(_order(bus, audit, root, out), name="roost-demo-order")
            broken = asyncio.create_task(_ended(server), name="roost-demo-server")
            try:
                await asyncio.wait({job, broken}, return_when=asyncio.FIRST_COMPLETED)
                written = await job if job.done() else await broken
            finally:
                job.cancel()
                broken.cancel()
                await asyncio.gather(job, broken, return_exceptions=True)
        return totals((await gather(bus.log, audit)).histories), written
