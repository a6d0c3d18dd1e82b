"""`roost runs`: which workflows ran, what they did, and a new run from the middle of an old one."""

from __future__ import annotations

import shutil
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from roost.cli._tasks_json import history_json
from roost.cli.options import AsJson, Namespace, Url
from roost.cli.running import command, reading, say_unreadable, wait_for
from roost.cli.terminal import lasted, print_fields, print_json, print_table, stamp, when
from roost.pictures import Timeline
from roost.runs.cancelling import cancel
from roost.runs.fork import fork_run
from roost.runs.reading import (
    Operation,
    RunInfo,
    Takeover,
    find_run,
    list_runs,
    operations,
    run_histories,
    takeovers,
)
from roost.tasks import Ref, TaskHistory

app = typer.Typer(no_args_is_help=True, help="Runs of workflows: list, show, draw, fork, cancel.")

RunId = Annotated[str, typer.Argument(metavar="RUN", help="As `Handle.id` of a started workflow gives it.")]


@app.callback()
def runs_command() -> None:
    """Runs of workflows: list, show, draw, fork, cancel."""


@app.command("ls")
@command
def ls(
    workflow: Annotated[str | None, typer.Argument(metavar="WORKFLOW", help="Only runs of this one.")] = None,
    limit: Annotated[int, typer.Option(min=1, help="The newest so many.")] = 50,
    url: Url = None,
    namespace: Namespace = None,
    json: AsJson = False,
) -> None:
    """List the runs that have begun, the newest first.

    \b
    Example:
      roost runs ls audit
    """
    infos = wait_for(_list(workflow, limit, url, namespace))
    if json:
        print_json([_info_json(info) for info in infos])
        return
    if not infos:
        sys.stderr.write("no runs have begun in this namespace\n")
        return
    rows = [(info.id, info.status, when(info.begun_s), _took(info), info.by, info.reason) for info in infos]
    print_table(("RUN", "STATUS", "BEGUN", "TOOK", "BY", "REASON"), rows)


@app.command("show")
@command
def show(run: RunId, url: Url = None, namespace: Namespace = None, json: AsJson = False) -> None:
    """Show what a run has on record: its coordinators, its operations, its tasks by outcome.

    \b
    Example:
      roost runs show audit:docs-1
    """
    info, began, recorded, tasks = wait_for(_show(run, url, namespace))
    counts = _counts(tasks)
    if json:
        print_json(
            {
                **_info_json(info),
                "coordinators": [{"by": one.by, "at": stamp(one.at_s)} for one in began],
                "operations": [{**asdict(one), "at": stamp(one.at_s)} for one in recorded],
                "tasks": counts,
            }
        )
        return
    took = _took(info)
    print_fields(
        [
            ("run", info.id),
            ("workflow", info.workflow),
            *([("below", info.task)] if info.task != info.id else []),
            ("begun", when(info.begun_s)),
            ("status", info.status + (f" after {took}" if took else "")),
            *([("reason", info.reason)] if info.reason else []),
            ("coordinators", ", ".join(one.by for one in began)),
            ("tasks", "  ".join(f"{name} {count}" for name, count in counts.items()) or "none"),
        ]
    )
    if recorded:
        sys.stdout.write("\n")
        print_table(
            ("OPERATION", "KIND", "AT", "TOOK", "BY", "DETAIL"),
            [
                (one.name, one.kind, when(one.at_s), lasted(one.took_s), one.by, one.detail)
                for one in recorded
            ],
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
    tasks = wait_for(_histories(run, url, namespace))
    picture = Timeline(tasks, title=f"Run {run}")
    if json:
        print_json([history_json(one, str(Ref(one.run, one.name, one.id))) for one in tasks])
    elif svg is not None:
        svg.write_text(picture.svg(), encoding="utf-8")
        sys.stderr.write(f"{svg}: {len(tasks)} task(s)\n")
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
    """Cancel a run and all below it."""
    if not wait_for(_cancel(run, reason, url, namespace)):
        sys.stderr.write(f"run {run} had ended already\n")
        raise typer.Exit(1)


def _took(info: RunInfo) -> str:
    return lasted(info.ended_s - info.begun_s if info.ended_s is not None else None)


def _counts(tasks: list[TaskHistory]) -> dict[str, int]:
    counts: dict[str, int] = {}
    for one in tasks:
        counts[one.status] = counts.get(one.status, 0) + 1
    return counts


def _info_json(info: RunInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "workflow": info.workflow,
        "task": info.task,
        "status": info.status,
        "reason": info.reason,
        "begun": stamp(info.begun_s),
        "ended": stamp(info.ended_s),
        "by": info.by,
    }


async def _list(workflow: str | None, limit: int, url: str | None, namespace: str | None) -> list[RunInfo]:
    async with reading(url, namespace) as bus:
        found = await list_runs(bus.log, workflow, limit=limit)
        say_unreadable(bus)
        return found


async def _show(
    run: str, url: str | None, namespace: str | None
) -> tuple[RunInfo, list[Takeover], list[Operation], list[TaskHistory]]:
    async with reading(url, namespace) as bus:
        info = await find_run(bus.log, run)
        tasks = await run_histories(bus.log, run, below=False)
        own = Ref.parse(info.task, info.workflow)
        below = [one for one in tasks if Ref(one.run, one.name, one.id) != own]
        found = info, await takeovers(bus.log, run), await operations(bus.log, run), below
        say_unreadable(bus)
        return found


async def _histories(run: str, url: str | None, namespace: str | None) -> list[TaskHistory]:
    async with reading(url, namespace) as bus:
        found = await run_histories(bus.log, run)
        say_unreadable(bus)
        return found


async def _fork(run: str, before: str, workflow: str | None, url: str | None, namespace: str | None) -> str:
    async with reading(url, namespace) as bus:
        return str(await fork_run(bus.log, run, before=before, workflow=workflow))


async def _cancel(run: str, reason: str, url: str | None, namespace: str | None) -> bool:
    async with reading(url, namespace) as bus:
        info = await find_run(bus.log, run)
        return await cancel(bus.log, Ref.parse(info.task, info.workflow), by="roost-cli", reason=reason)
