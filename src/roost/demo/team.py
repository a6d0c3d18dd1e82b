"""The agents of the demo. Each can be run by itself: `roost up roost.demo.team:digester --processes 2`."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from roost.agent import Agent
from roost.bus import Bus
from roost.connecting import connect
from roost.context import Context
from roost.demo.contracts import (
    AtWork,
    Digest,
    FileRef,
    Folder,
    LinkReport,
    Progress,
    ReportOrder,
    Written,
    at_work,
    audit,
    digest,
    links,
    progress,
    report,
)
from roost.demo.coordinate import Tell, run_audit
from roost.demo.digest import digest_text
from roost.demo.faults import digest_planted
from roost.demo.gather import Findings, gather
from roost.demo.links import check_links
from roost.demo.report import build, title
from roost.demo.scan import NotText, read_text
from roost.demo.summary import resumptions
from roost.demo.write import write
from roost.errors import RoostError
from roost.pictures import Timeline
from roost.runs import Run
from roost.tasks import Attempt, TaskHistory


@asynccontextmanager
async def a_bus() -> AsyncIterator[Bus]:
    """A connection of its own for the reporter, which reads the log besides doing tasks."""
    async with connect() as bus:
        yield bus


@asynccontextmanager
async def a_voice() -> AsyncIterator[Tell]:
    """For the coordinator, which tells how far it is; nothing depends on it, and the next word says more."""
    async with connect() as bus:

        async def tell(audit: str, value: Progress) -> None:
            with contextlib.suppress(RoostError):
                await bus.publish(progress.at(audit=audit), value)

        yield tell


coordinator = Agent("coordinator", lifespan=a_voice, calls=[digest, links, report, progress])
digester = Agent("digester", calls=[at_work])
linker = Agent("linker")
reporter = Agent("reporter", lifespan=a_bus)


@coordinator.handles(audit, concurrency=4)
async def coordinate(folder: Folder, run: Run[Tell]) -> Written:
    return await run_audit(folder, run)


@digester.handles(digest, concurrency=8)
async def digest_file(file: FileRef, ctx: Context) -> Digest:
    """An OSError that may pass is tried again."""
    if file.fault:
        here = AtWork(instance=ctx.instance)
        return await digest_planted(
            file, ctx.attempt, lambda: ctx.publish(at_work.at(audit=file.audit), here)
        )
    await asyncio.sleep(file.pause_s)
    return await asyncio.to_thread(_digest, file)


def _digest(file: FileRef) -> Digest:
    try:
        text, size = read_text(file.root, file.path)
    except NotText as error:
        return Digest(path=file.path, skipped=str(error))
    return digest_text(file.path, text, size)


@linker.handles(links, concurrency=8)
def check_file(file: FileRef) -> LinkReport:
    """On a thread of its own: reading a file blocks."""
    time.sleep(file.pause_s)
    try:
        text, _ = read_text(file.root, file.path)
    except NotText as error:
        return LinkReport(path=file.path, skipped=str(error))
    return check_links(file.root, file.path, text)


@reporter.handles(report, concurrency=2)
async def write_report(order: ReportOrder, ctx: Context[Bus]) -> Written:
    began_s = time.time()
    found = await gather(ctx.deps.log, order.run)
    return await asyncio.to_thread(_write, order, found, ctx.instance, began_s)


def _write(order: ReportOrder, found: Findings, instance: str, began_s: float) -> Written:
    others = [one for one in found.histories if one.name != report.name]
    ended = [one for one in others if one.name != audit.name]
    first_s = min((one.submitted_s for one in others), default=began_s)
    whole = build(
        folder=Path(order.root).name or order.root,
        began=datetime.fromtimestamp(first_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        digests=found.digests,
        link_reports=found.link_reports,
        skipped=order.skipped,
        more_skipped=order.more_skipped,
        dead=found.dead,
        histories=ended,
        resumptions=resumptions(others),
    )
    own = [_running(one, instance, began_s) for one in found.histories if one.name == report.name]
    picture = Timeline([*others, *own], title(Path(order.root)), until_s=time.time())
    return Written(
        files=write(whole, picture.svg(), Path(order.out)),
        digested=len(whole.files),
        broken_links=len(whole.links.broken) + whole.links.more_broken,
        marks=len(whole.marks) + whole.more_marks,
        skipped=len(whole.skipped) + whole.more_skipped,
    )


def _running(task: TaskHistory, instance: str, began_s: float) -> TaskHistory:
    """The reporter's own task: the log has nothing yet of the attempt that is drawing this picture."""
    number = len(task.attempts) + 1
    now = Attempt(number=number, by=instance, started_s=began_s, ended_s=None, result="running")
    return replace(task, attempts=(*task.attempts, now))
