"""`roost demo` from its arguments to its exit code: check, start server and team, order, wait, sum up.

0: every task ended well, whatever the audit found; with faults: all but the planted one that cannot. 1: another task
ended as a dead letter, or the audit did not get to its end. 2: the arguments cannot be used, and nothing was started.
130: interrupted.
"""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from roost._text import clean
from roost.agent import Agent
from roost.connecting import connect
from roost.demo import contracts
from roost.demo.arguments import Unusable, check_any_text, check_folder, check_out
from roost.demo.contracts import AtWork, Folder, Progress, Written
from roost.demo.faults import RAISES
from roost.demo.gather import gather
from roost.demo.progress import View, notice, view
from roost.demo.report import TaskTotals, by_kind, title, totals
from roost.demo.saboteur import Saboteur
from roost.demo.summary import incidents, kinds_line, resumptions
from roost.demo.write import PICTURE, put
from roost.errors import RoostError, ServerUnavailable, TaskDead
from roost.pictures import Timeline
from roost.runtime import AgentSpec, Supervisor, SupervisorOptions
from roost.server import LocalServer
from roost.tasks import Handle, TaskHistory

NAMESPACE = "demo"
START_S = 60.0
GRACE_S = 1.0
"""Only an interrupted audit has work left when its team is stopped, and nobody waits for that."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    """How an audit ended."""

    counts: TaskTotals
    kinds: dict[str, TaskTotals]
    """Of each kind of task; those for files are `digest` and `links`."""
    files: list[str]
    """What was written."""
    as_it_should: bool


def run_demo(path: Path, *, out: Path, workers: int, as_json: bool, faults: bool = False) -> int:
    """Audit the folder `path` and write the report to `out`; the exit code."""
    try:
        root, target = check_folder(path), check_out(out)
        check_any_text(root, target, shown=path)
    except Unusable as error:
        sys.stderr.write(f"roost demo: {error}\n")
        return 2
    try:
        with view(as_json=as_json) as shown:
            ended = asyncio.run(_audit(root, target, workers, shown, faults=faults))
    except KeyboardInterrupt:
        sys.stderr.write("roost demo: interrupted; its agents and its server are stopped\n")
        return 130
    except (RoostError, TimeoutError, OSError) as error:
        sys.stderr.write(f"roost demo: {clean(str(error), 1000)}\n")
        return 1
    sys.stdout.write(f"{_last_line(ended, as_json=as_json)}\n")
    sys.stdout.flush()
    return 0 if ended.as_it_should else 1


def _last_line(ended: Ended, *, as_json: bool) -> str:
    fields = _numbers(ended.counts)
    if not as_json:
        return " ".join(f"{name}={value}" for name, value in fields.items())
    kinds = {kind: _numbers(counts) for kind, counts in ended.kinds.items()}
    return json.dumps({**fields, "kinds": kinds, "files": ended.files})


def _numbers(counts: TaskTotals) -> dict[str, float]:
    return counts.model_dump(include={"submitted", "done", "dead", "cancelled", "retries", "seconds"})


async def _audit(root: Path, out: Path, workers: int, shown: View, *, faults: bool) -> Ended:
    """The whole job."""
    audience = Agent("audience")
    saboteur = Saboteur(shown.say)

    @audience.handles(contracts.progress, concurrency=1, deliver="every")
    async def hear(value: Progress) -> None:
        shown.progress(value)
        saboteur.hear_progress(value)

    @audience.handles(contracts.at_work, concurrency=1, deliver="every")
    async def hear_at_work(value: AtWork) -> None:
        saboteur.hear_at_work(value)

    folder = Folder(audit=secrets.token_hex(6), root=str(root), out=str(out), faults=faults)
    shown.say(f"auditing {clean(str(root), 300)}")
    async with (
        _server() as server,
        _team(server.url, workers) as team,
        connect(server.url, namespace=NAMESPACE, name="demo") as bus,
        bus.serving(audience),
    ):
        shown.say(f"{workers + 3} processes are ready: {workers} digester(s), linker, reporter, coordinator")
        handle = await bus.start(contracts.audit, folder, key=folder.audit)
        job = asyncio.create_task(_result(handle), name="roost-demo-result")
        fault = asyncio.create_task(_ended(server), name="roost-demo-server")
        helpers: list[asyncio.Task[None]] = []
        if faults:
            helpers.append(asyncio.create_task(saboteur.strike(team), name="roost-demo-saboteur"))
        try:
            await asyncio.wait({job, fault}, return_when=asyncio.FIRST_COMPLETED)
            written = await (job if job.done() else fault)
        finally:
            for one in (job, fault, *helpers):
                one.cancel()
            await asyncio.gather(job, fault, *helpers, return_exceptions=True)
        found = await gather(bus.log, handle.id)
        for line in incidents(found.histories):
            shown.say(line)
        if isinstance(written, Written):
            shown.say(
                f"{written.digested} files read, {written.broken_links} broken links, "
                f"{written.marks} TODO or FIXME marks, {written.skipped} skipped"
            )
            await asyncio.to_thread(_finished, root, out, found.histories)
            shown.say("\n".join(f"wrote {clean(one, 300)}" for one in written.files))
        else:
            sys.stderr.write(f"roost demo: {written}\n")
        counts, kinds = totals(found.histories), by_kind(found.histories)
        shown.say(f"{counts.submitted} tasks in all: {kinds_line(kinds)}")
        well = isinstance(written, Written) and counts.done + counts.dead == counts.submitted
        if faults:
            well = well and saboteur.struck and resumptions(found.histories) > 0
        dead = [one.path for one in found.dead]
        return Ended(
            counts=counts,
            kinds=kinds,
            files=written.files if isinstance(written, Written) else [],
            as_it_should=well and dead == ([RAISES] if faults else []),
        )


def _finished(root: Path, out: Path, histories: Sequence[TaskHistory]) -> None:
    """Draw the picture once more: in the reporter's, its own task and the whole audit were still at work."""
    put(out / PICTURE, Timeline(histories, title(root)).svg())


async def _result(handle: Handle[Written]) -> Written | str:
    """What the reporter wrote; a sentence if the audit ended without."""
    try:
        return await handle.result()
    except TaskDead as error:  # that the letter can be replayed is no help: its server ends with this
        return f"the audit failed: {clean(error.letter.reason, 1000)}"
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
