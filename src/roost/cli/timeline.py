"""`roost timeline`: which instance did what when."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from roost._text import clean
from roost.bus import Bus
from roost.cli.naming import named_task
from roost.cli.options import Namespace, Url
from roost.cli.running import command, reading, say_unreadable, wait_for
from roost.errors import ConfigError
from roost.pictures import Timeline
from roost.runs.records import RunSubjects, inner_run
from roost.tasks import Ref, TaskHistory
from roost.tasks.reading import NEWEST, read_histories, read_history


@command
def timeline(
    ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="ID", help="Tasks, as `Handle.id` gives them, or NAME:KEY."),
    ] = None,
    all: Annotated[
        bool, typer.Option("--all", help=f"All tasks in the newest {NEWEST:,} records of the log.")
    ] = False,
    svg: Annotated[Path | None, typer.Option(metavar="FILE", help="Write a picture instead.")] = None,
    url: Url = None,
    namespace: Namespace = None,
) -> None:
    """Draw who did what when: a lane for each instance.

    \b
    Example:
      roost timeline --all --svg timeline.svg
    """
    if bool(ids) == all:
        raise typer.BadParameter("name tasks by their IDs, or take --all")
    tasks = wait_for(_read(ids or [], url, namespace))
    picture = Timeline(tasks)
    if svg is None:
        sys.stdout.write(picture.text(shutil.get_terminal_size((100, 24)).columns) + "\n")
        return
    svg.write_text(picture.svg(), encoding="utf-8")
    sys.stderr.write(f"{svg}: {len(tasks)} task(s)\n")


async def _read(ids: list[str], url: str | None, namespace: str | None) -> list[TaskHistory]:
    async with reading(url, namespace) as bus:
        if ids:
            refs = [await named_task(bus.log, id) for id in ids]
            found = [await read_history(bus.log, ref) for ref in refs]
            tasks = [one for one in found if one is not None]
            await _hint(bus, refs)
        else:
            tasks = await read_histories(bus.log)
        say_unreadable(bus)
    if not tasks:
        raise ConfigError(
            f"no task is among the newest {NEWEST:,} records of this log; older ones by their IDs"
        )
    return tasks


async def _hint(bus: Bus, refs: Sequence[Ref]) -> None:
    """A run drawn as the one task it is looks as if nothing had happened in it."""
    epochs = {RunSubjects(bus.namespace, inner_run(ref)).epoch: ref for ref in refs}
    for subject in await bus.log.newest(list(epochs)):
        ref = clean(str(epochs[subject]))
        sys.stderr.write(
            f"roost: {ref} is a run, of which this shows the coordination only; all of it: "
            f"roost runs timeline {ref}\n"
        )
