"""`roost demo` from its arguments to its exit code: check, start server and team, order, wait, sum up.

0: every task ended well, whatever the audit found. 1: a task ended as a dead letter, or the audit did not get to its
end. 2: the arguments cannot be used, and nothing was started. 130: interrupted.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import NoReturn

from roost._text import clean
from roost.agent import Agent
from roost.bus import Bus, connect
from roost.demo import contracts
from roost.demo.arguments import Unusable, check_any_text, check_folder, check_out
from roost.demo.contracts import Folder, Progress, ReportOrder, Written
from roost.demo.gather import gather
from roost.demo.progress import View, notice, view
from roost.demo.report import TaskTotals, totals
from roost.errors import RoostError, ServerUnavailable
from roost.runtime import AgentSpec, Supervisor, SupervisorOptions
from roost.server import LocalServer

NAMESPACE = "demo"
START_S = 60.0
GRACE_S = 1.0
"""Only an interrupted audit has work left when its team is stopped, and nobody waits for that."""


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
            counts = asyncio.run(_audit(root, target, workers, shown))
    except KeyboardInterrupt:
        sys.stderr.write("roost demo: interrupted; its agents and its server are stopped\n")
        return 130
    except (RoostError, TimeoutError, OSError) as error:
        sys.stderr.write(f"roost demo: {clean(str(error), 1000)}\n")
        return 1
    sys.stdout.write(f"{_last_line(counts, as_json=as_json)}\n")
    sys.stdout.flush()
    return 0 if counts.submitted and counts.done == counts.submitted else 1


def _last_line(counts: TaskTotals, *, as_json: bool) -> str:
    fields = counts.model_dump(include={"submitted", "done", "dead", "cancelled", "retries", "seconds"})
    return json.dumps(fields) if as_json else " ".join(f"{name}={value}" for name, value in fields.items())


async def _audit(root: Path, out: Path, workers: int, shown: View) -> TaskTotals:
    """The whole job; how its tasks ended."""
    audience = Agent("audience")

    @audience.handles(contracts.progress, concurrency=1, deliver="every")
    async def hear(value: Progress) -> None:
        shown.progress(value)

    audit = secrets.token_hex(6)
    shown.say(f"auditing {clean(str(root), 300)}")
    async with (
        _server() as server,
        _team(server.url, workers),
        connect(server.url, namespace=NAMESPACE, name="demo") as bus,
        bus.serving(audience),
    ):
        shown.say(f"{workers + 3} processes are ready: {workers} digester(s), linker, reporter, coordinator")
        job = asyncio.create_task(_order(bus, audit, root, out), name="roost-demo-order")
        fault = asyncio.create_task(_ended(server), name="roost-demo-server")
        try:
            await asyncio.wait({job, fault}, return_when=asyncio.FIRST_COMPLETED)
            written = await (job if job.done() else fault)
        finally:
            job.cancel()
            fault.cancel()
            await asyncio.gather(job, fault, return_exceptions=True)
        if isinstance(written, Written):
            shown.say(
                f"{written.digested} files read, {written.broken_links} broken links, "
                f"{written.marks} TODO or FIXME marks, {written.skipped} skipped"
            )
            shown.say("\n".join(f"wrote {clean(one, 300)}" for one in written.files))
        else:
            sys.stderr.write(f"roost demo: {written}\n")
        return totals((await gather(bus.log, audit)).histories)


async def _order(bus: Bus, audit: str, root: Path, out: Path) -> Written | str:
    """Have the folder audited, then the report written; a sentence if one of them ended without."""
    try:
        folder = Folder(audit=audit, root=str(root), out=str(out))
        found = await (await bus.submit(contracts.audit, folder, key=audit)).result()
        order = ReportOrder(
            audit=audit, root=str(root), out=str(out), skipped=found.skipped, more_skipped=found.more_skipped
        )
        return await (await bus.submit(contracts.report, order, key=audit)).result()
    except RoostError as error:
        return clean(str(error), 1000)


@asynccontextmanager
async def _server() -> AsyncIterator[LocalServer]:
    """The local server itself, rather than its address: the job must not wait for a server that is gone."""
    server = LocalServer()
    try:
        await asyncio.to_thread(server.start)
        yield server
    finally:
        await asyncio.to_thread(server.stop)


async def _ended(server: LocalServer) -> NoReturn:
    """Raises ServerUnavailable when the server has ended by itself."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    descriptor = server.fileno()
    loop.add_reader(descriptor, ended.set)
    try:
        await ended.wait()
    finally:
        loop.remove_reader(descriptor)
    raise server.ended() or ServerUnavailable("the local server has ended")


@asynccontextmanager
async def _team(url: str, workers: int) -> AsyncIterator[Supervisor]:
    """Everybody who works, each in a process of its own."""
    team = "roost.demo.team"
    supervisor = Supervisor(
        [
            AgentSpec(target=f"{team}:digester", processes=workers),
            AgentSpec(target=f"{team}:linker"),
            AgentSpec(target=f"{team}:reporter"),
            AgentSpec(target=f"{team}:coordinator"),
        ],
        url=url,
        namespace=NAMESPACE,
        options=SupervisorOptions(grace_s=GRACE_S, log_level="error"),
        tell=notice,
    )
    async with supervisor:
        await supervisor.wait_ready(START_S)
        yield supervisor
