"""`roost runs`: which workflows ran, what they did, and a new run from the middle of an old one."""

from __future__ import annotations

import gc
import shutil
import sys
from collections import Counter
from itertools import groupby
from pathlib import Path
from typing import Annotated

import typer

from roost._text import clean
from roost.cli._runs_json import info_json, print_histories_json, report_json
from roost.cli.naming import named_run
from roost.cli.options import AsJson, Namespace, Url
from roost.cli.running import command, listing, reading, say_unreadable, wait_for
from roost.cli.terminal import lasted, none_of, print_fields, print_json, print_table, when
from roost.pictures import Timeline
from roost.pictures.of_run import timeline as timeline_of
from roost.runs.cancelling import cancel
from roost.runs.fork import fork_run
from roost.runs.reading import RunInfo, RunReport, find_run, list_runs, read_run
from roost.tasks import Ref

SHOWN = 200
"""Operations that `show` prints."""

app = typer.Typer(no_args_is_help=True, help="Runs of workflows: list, show, draw, signal, fork, cancel.")

RunId = Annotated[str, typer.Argument(metavar="RUN", help="As `Handle.id` gives it, or NAME:KEY.")]


@app.callback()
def runs_command() -> None:
    """Runs of workflows: list, show, draw, signal, fork, cancel."""


@app.command("ls")
@command
def ls(
    workflow: Annotated[str | None, typer.Argument(metavar="WORKFLOW", help="Only runs of this one.")] = None,
    limit: Annotated[int, typer.Option(metavar="N", min=1, help="The newest so many.")] = 50,
    url: Url = None,
    namespace: Namespace = None,
    json: AsJson = False,
) -> None:
    """List the runs that have begun, the newest first.

    \b
    Example:
      roost runs ls audit
    """
    with listing(json=json):
        infos, others = wait_for(_list(workflow, limit, url, namespace))
        if json:
            print_json([info_json(info) for info in infos])
            return
        if not infos:
            sys.stderr.write(none_of("runs", workflow, others) + "\n")
            return
        rows = [(one.id, one.status, when(one.begun_s), _took(one), one.by, one.reason) for one in infos]
        print_table(("RUN", "STATUS", "BEGUN", "TOOK", "BY", "REASON"), rows, spare=("BY",))


@app.command("show")
@command
def show(run: RunId, url: Url = None, namespace: Namespace = None, json: AsJson = False) -> None:
    """Show what a run has on record: its coordinators, its operations, its tasks by outcome.

    \b
    Example:
      roost runs show audit:docs-1
    """
    report = wait_for(_show(run, url, namespace))
    if json:
        print_json(report_json(report))
        return
    info, took = report.info, _took(report.info)
    print_fields(
        [
            ("run", info.id),
            ("workflow", info.workflow),
            *([("below", info.task)] if info.task != info.id else []),
            ("begun", when(info.begun_s)),
            ("status", info.status + (f" after {took}" if took else "")),
            *([("reason", info.reason)] if info.reason else []),
            ("coordinators", ", ".join(_coordinators(report)) or "none yet"),
            ("tasks", ", ".join(f"{count:,} {status}" for status, count in report.counts.items()) or "none"),
        ]
    )
    if report.operations:
        sys.stdout.write("\n")
        print_table(
            ("OPERATION", "KIND", "CONTRACT", "BEGUN", "TOOK", "BY", "DETAIL"),
            [
                (one.name, one.kind, one.contract, when(one.at_s), lasted(one.took_s), one.by, one.detail)
                for one in report.operations[:SHOWN]
            ],
            styles=("bold",),
            spare=("CONTRACT", "BY"),
        )
    if len(report.operations) > SHOWN:
        sys.stderr.write(
            f"roost: {len(report.operations) - SHOWN:,} more operations; --json has all of them\n"
        )


@app.command("timeline")
@command
def timeline(
    run: RunId,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a picture instead.")] = None,
    mermaid: Annotated[bool, typer.Option("--mermaid", help="Print Mermaid text instead.")] = False,
    url: Url = None,
    namespace: Namespace = None,
    json: AsJson = False,
) -> None:
    """Draw who did what when in a run and the runs below it, from the log alone.

    \b
    Example:
      roost runs timeline audit:docs-1 --svg timeline.svg
    """
    picture = wait_for(_timeline(run, url, namespace))
    if json:
        print_histories_json(picture.tasks)
    elif svg is not None:
        svg.write_text(picture.svg(), encoding="utf-8")
        sys.stderr.write(f"{svg}: {', '.join(picture.summary())}\n")
    elif mermaid:
        sys.stdout.write(picture.mermaid() + "\n")
    else:
        sys.stdout.write(picture.text(shutil.get_terminal_size((100, 24)).columns) + "\n")


@app.command("fork")
@command
def fork(
    run: RunId,
    before: Annotated[
        str, typer.Option("--from", metavar="STEP", help="The first operation to be done anew.")
    ],
    workflow: Annotated[
        str | None, typer.Option(metavar="NAME", help="Another workflow with the same input.")
    ] = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Start a new run that reuses what a run has on record before STEP; prints its id.

    The original is untouched.

    \b
    Example:
      roost runs fork audit:docs-1 --from report
    """
    sys.stdout.write(wait_for(_fork(run, before, workflow, url, namespace)) + "\n")


@app.command("cancel")
@command
def cancel_command(
    run: RunId,
    reason: Annotated[str, typer.Option(metavar="TEXT", help="Kept in the record.")] = "",
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Cancel a run and all below it.

    \b
    Example:
      roost runs cancel audit:docs-1 --reason "wrong folder"
    """
    if not wait_for(_cancel(run, reason, url, namespace)):
        sys.stderr.write(f"roost: run {clean(run)} had ended already; nothing was cancelled\n")
        raise typer.Exit(1)
    sys.stderr.write(f"run {clean(run)} is cancelled, and all below it\n")


def _took(info: RunInfo) -> str:
    return lasted(info.ended_s - info.begun_s if info.ended_s is not None else None)


def _coordinators(report: RunReport) -> list[str]:
    """Who coordinated it, in turn; somebody who took over from themselves, say after a pause, stands there once."""
    told = [f"{one.by} (cancelled it)" if one.kind == "cancel" else one.by for one in report.takeovers]
    counted = [(by, len(list(times))) for by, times in groupby(told)]
    return [f"{by} ({times} times)" if times > 1 else by for by, times in counted]


async def _list(
    workflow: str | None, limit: int, url: str | None, namespace: str | None
) -> tuple[list[RunInfo], Counter[str]]:
    """The runs; if there are none, how many other workflows have."""
    async with reading(url, namespace) as bus:
        found = await list_runs(bus.log, workflow, limit=limit)
        say_unreadable(bus)
        others = await list_runs(bus.log) if not found and workflow is not None else []
        return found, Counter(one.workflow for one in others)


def _reads_much() -> None:
    """A process that reads 100,000 tasks and ends has no use for looking through them for cycles: a second less."""
    gc.disable()


async def _show(run: str, url: str | None, namespace: str | None) -> RunReport:
    _reads_much()
    async with reading(url, namespace) as bus:
        found = await read_run(bus.log, await named_run(bus.log, run))
        say_unreadable(bus)
        return found


async def _timeline(run: str, url: str | None, namespace: str | None) -> Timeline:
    _reads_much()
    async with reading(url, namespace) as bus:
        found = await timeline_of(bus, await named_run(bus.log, run))
        say_unreadable(bus)
        return found


async def _fork(run: str, before: str, workflow: str | None, url: str | None, namespace: str | None) -> str:
    async with reading(url, namespace) as bus:
        return str(await fork_run(bus.log, await named_run(bus.log, run), before=before, workflow=workflow))


async def _cancel(run: str, reason: str, url: str | None, namespace: str | None) -> bool:
    async with reading(url, namespace) as bus:
        info = await find_run(bus.log, await named_run(bus.log, run))
        return await cancel(bus.log, Ref.parse(info.task, info.workflow), by="roost-cli", reason=reason)
