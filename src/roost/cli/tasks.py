"""`roost tasks`: what happened to one task."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from roost.cli._tasks_json import history_json
from roost.cli.options import AsJson, Namespace, Url
from roost.cli.running import command, reading, say_unreadable, wait_for
from roost.cli.terminal import lasted, print_fields, print_json, print_table, when
from roost.errors import ConfigError
from roost.tasks import Attempt, Ref, TaskHistory
from roost.tasks.reading import find_task, read_history

app = typer.Typer(no_args_is_help=True, help="Tasks: what happened to them.")


@app.callback()
def tasks_command() -> None:
    """Tasks: what happened to them."""


@app.command("show")
@command
def show(
    id: Annotated[str, typer.Argument(metavar="ID", help="As `Handle.id` gives it.")],
    url: Url = None,
    namespace: Namespace = None,
    json: AsJson = False,
) -> None:
    """Show the history of a task: who tried it when, and what came of it.

    \b
    Example:
      roost tasks show digest:docs-readme
    """
    history = wait_for(_read(id, url, namespace))
    if json:
        print_json(history_json(history, id))
        return
    took = history.ended_s - history.submitted_s if history.ended_s is not None else None
    print_fields(
        [
            ("id", str(Ref(history.run, history.name, history.id))),
            ("task", history.name),
            ("submitted", when(history.submitted_s)),
            ("status", history.status + (f" after {lasted(took)}" if took is not None else "")),
            *([("reason", history.reason)] if history.reason else []),
        ]
    )
    if history.attempts:
        sys.stdout.write("\n")
        print_attempts(history.attempts)


def print_attempts(attempts: Sequence[Attempt]) -> None:
    rows = [
        (
            str(one.number),
            one.by,
            when(one.started_s),
            lasted(one.ended_s - one.started_s if one.ended_s is not None else None),
            one.result,
            one.error,
        )
        for one in attempts
    ]
    print_table(("ATTEMPT", "BY", "STARTED", "TOOK", "RESULT", "ERROR"), rows)


async def _read(id: str, url: str | None, namespace: str | None) -> TaskHistory:
    async with reading(url, namespace) as bus:
        history = await read_history(bus.log, await find_task(bus.log, id))
        say_unreadable(bus)
        if history is None:
            raise ConfigError(f"task {id!r} has been removed from the log just now")
        return history
