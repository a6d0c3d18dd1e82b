"""`roost tasks`: what is open, what happened to one task, and pausing."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from roost.cli._fit import Moment
from roost.cli._tasks_json import history_json
from roost.cli.naming import named_task
from roost.cli.options import AsJson, Namespace, Url
from roost.cli.running import command, listing, reading, say_unreadable, usage, wait_for
from roost.cli.terminal import lasted, print_fields, print_json, print_table, until, when
from roost.cli.units import parse_duration
from roost.errors import ConfigError
from roost.subjects import token
from roost.tasks import Attempt, Ref, TaskHistory
from roost.tasks.backlog import PAGE, Backlog, backlog
from roost.tasks.pausing import pause, resume
from roost.tasks.reading import read_history

app = typer.Typer(no_args_is_help=True, help="Tasks: what is open, what happened to one, and pausing.")


@app.callback()
def tasks_command() -> None:
    """Tasks: what is open, what happened to one, and pausing."""


@app.command("ls")
@command
def ls(url: Url = None, namespace: Namespace = None, json: AsJson = False) -> None:
    """Show what is open: for each contract, how many tasks wait, may not begin yet, are in work, have died.

    In work is whatever a worker was given and has not ended, also in backoff; a workflow that waits too; of how many,
    if the contract has a limit. CONSUMER is what its workers share; without one no worker was ever started.

    \b
    Example:
      roost tasks ls
    """
    with listing(json=json):
        found, complete = wait_for(_backlog(url, namespace))
        if json:
            print_json([asdict(one) for one in found])
        elif found:
            rows = [
                (
                    one.name,
                    f"{one.waiting:,}",
                    _delayed(one),
                    f"{one.in_work:,}" + (f" of {one.max_running:,}" if one.max_running else ""),
                    f"{one.dead:,}",
                    consumer_words(one),
                )
                for one in found
            ]
            print_table(("TASK", "WAITING", "DELAYED", "IN WORK", "DEAD", "CONSUMER"), rows, styles=("bold",))
        else:
            sys.stderr.write("no tasks\n")
        if not complete:
            sys.stderr.write(
                f"roost: more than {PAGE:,} tasks; a contract that no worker ever served may be missing\n"
            )


def _delayed(one: Backlog) -> str:
    return f"{one.delayed:,}, from {_short(one.next_s)}" if one.next_s is not None else "0"


def _short(seconds: float) -> str:
    at = when(seconds)
    return at.short if isinstance(at, Moment) else at


def consumer_words(one: Backlog) -> str:
    """What its workers share, and whether somebody asks for work."""
    if not one.consumer:
        return "none: no worker was ever started"
    if one.paused_until:
        return f"paused {until(one.paused_until)}, {one.consumer}"
    return one.consumer + (
        ", nobody pulls just now" if one.waiting and not one.pulls and not one.in_work else ""
    )


async def _backlog(url: str | None, namespace: str | None) -> tuple[list[Backlog], bool]:
    async with reading(url, namespace) as bus:
        return await backlog(bus.log)


Name = Annotated[str, typer.Argument(metavar="NAME", help="Of the task or workflow contract.")]


@app.command("pause")
@command
def pause_command(
    name: Name,
    for_: Annotated[
        str | None,
        typer.Option("--for", metavar="TIME", help="Such as 30s, 15m or 1h30m. Without it: until resumed."),
    ] = None,
    url: Url = None,
    namespace: Namespace = None,
    json: AsJson = False,
) -> None:
    """Let no worker be given anything more of a contract. What runs is finished, and submissions go on.

    It outlasts restarts of workers and of the server. An earlier pause of the contract is replaced.

    \b
    Example:
      roost tasks pause digest --for 1h
    """
    with usage():
        token(name, name="NAME")
        for_s = parse_duration(for_, option="--for") if for_ is not None else None
    ends, one = wait_for(_pause(name, for_s, url, namespace))
    if json:
        print_json({"name": name, "paused_until": ends})
    else:
        waiting = f"; {one.waiting:,} waiting, {one.in_work:,} in work" if one is not None else ""
        sys.stdout.write(f"{name} is paused {until(ends)}{waiting}\n")


async def _pause(
    name: str, for_s: float | None, url: str | None, namespace: str | None
) -> tuple[str, Backlog | None]:
    async with reading(url, namespace) as bus:
        ends = await pause(bus.log, name, for_s)
        found, _ = await backlog(bus.log)
        return ends, next((one for one in found if one.name == name), None)


@app.command("resume")
@command
def resume_command(name: Name, url: Url = None, namespace: Namespace = None, json: AsJson = False) -> None:
    """End the pause of a contract: its workers are given what has waited. Also when it was not paused.

    \b
    Example:
      roost tasks resume digest
    """
    with usage():
        token(name, name="NAME")
    was = wait_for(_resume(name, url, namespace))
    if json:
        print_json({"name": name, "was_paused": was})
    else:
        sys.stdout.write(f"{name} goes on\n" if was else f"{name} was not paused\n")


async def _resume(name: str, url: str | None, namespace: str | None) -> bool:
    async with reading(url, namespace) as bus:
        return await resume(bus.log, name)


@app.command("show")
@command
def show(
    id: Annotated[str, typer.Argument(metavar="ID", help="As `Handle.id` gives it, or NAME:KEY.")],
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
        print_json(history_json(history, str(Ref(history.run, history.name, history.id))))
        return
    print_fields(
        [
            ("id", str(Ref(history.run, history.name, history.id))),
            ("task", history.name),
            ("submitted", when(history.submitted_s)),
            ("status", _status(history)),
            *([("reason", history.reason)] if history.reason else []),
        ]
    )
    if history.attempts:
        sys.stdout.write("\n")
        print_attempts(history.attempts)


def _status(history: TaskHistory) -> str:
    if history.ended_s is not None:
        return f"{history.status} after {lasted(history.ended_s - history.submitted_s)}"
    if history.attempts:
        return history.status
    if history.begins_s is not None and history.begins_s > time.time():
        return f"{history.status}, delayed until {_short(history.begins_s)}"
    # A first attempt is noted when it has ended, or lasts; that of a process that died is noted by the next one.
    return f"{history.status}, no attempt on record yet: it waits, or is in its first one, or its process has died"


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
    print_table(("ATTEMPT", "BY", "STARTED", "TOOK", "RESULT", "ERROR"), rows, full=True)


async def _read(id: str, url: str | None, namespace: str | None) -> TaskHistory:
    async with reading(url, namespace) as bus:
        history = await read_history(bus.log, await named_task(bus.log, id))
        say_unreadable(bus)
        if history is None:
            raise ConfigError(f"task {id!r} has been removed from the log just now")
        return history
