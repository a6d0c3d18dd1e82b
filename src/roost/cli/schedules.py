"""`roost schedules`: what is submitted again and again, and when."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from roost.bus import Bus
from roost.cli._tasks_json import payload_json
from roost.cli.options import AsJson, Namespace, Url
from roost.cli.running import command, listing, reading, say_unreadable, usage, wait_for
from roost.cli.terminal import print_json, print_table, stamp, when
from roost.subjects import token
from roost.tasks.schedules import Schedule

app = typer.Typer(no_args_is_help=True, help="Schedules: what is submitted again and again, and when.")

Name = Annotated[str, typer.Argument(metavar="NAME", help="As `roost schedules ls` gives it.")]


@app.command("ls")
@command
def ls(url: Url = None, namespace: Namespace = None, json: AsJson = False) -> None:
    """List schedules: what for, at what times, when next and when last. Times are those of this machine's zone.

    \b
    Example:
      roost schedules ls --json | jq -r '.[] | select(.paused) | .name'
    """
    with listing(json=json):
        found = wait_for(_list(url, namespace))
        if json:
            print_json([_as_json(one) for one in found])
        elif found:
            _print(found)
        else:
            sys.stderr.write("no schedules\n")


def _print(found: Sequence[Schedule]) -> None:
    rows = [
        (
            one.name,
            one.task,
            one.cron or f"every {one.every_s} s",
            one.timezone if one.cron else "",
            "paused" if one.paused else when(one.next_s) if one.next_s is not None else "",
            when(one.last_s) if one.last_s is not None else "never",
        )
        for one in found
    ]
    print_table(("SCHEDULE", "TASK", "TIMES", "ZONE", "NEXT", "LAST"), rows, styles=("bold",))


async def _list(url: str | None, namespace: str | None) -> list[Schedule]:
    async with reading(url, namespace) as bus:
        found = await bus.schedules()
        say_unreadable(bus)
        return found


@app.command("pause")
@command
def pause(name: Name, url: Url = None, namespace: Namespace = None, json: AsJson = False) -> None:
    """Keep a schedule and fire no more. What it has fired is still done.

    \b
    Example:
      roost schedules pause nightly
    """
    _changed(name, "paused", url, namespace, json=json)


@app.command("resume")
@command
def resume(name: Name, url: Url = None, namespace: Namespace = None, json: AsJson = False) -> None:
    """Fire again, from the next time on.

    \b
    Example:
      roost schedules resume nightly
    """
    _changed(name, "resumed", url, namespace, json=json)


@app.command("cancel")
@command
def cancel(name: Name, url: Url = None, namespace: Namespace = None, json: AsJson = False) -> None:
    """Remove a schedule, with what it has fired and no worker has taken. Tasks that it made stay.

    \b
    Example:
      roost schedules cancel nightly
    """
    _changed(name, "cancelled", url, namespace, json=json)


def _changed(name: str, what: str, url: str | None, namespace: str | None, *, json: bool) -> None:
    with usage():
        token(name, name="NAME")
    schedule = wait_for(_change(name, what, url, namespace))
    if json:
        print_json(_as_json(schedule) if schedule is not None else {"name": name, "cancelled": True})
        return
    next_s = schedule.next_s if schedule is not None else None
    sys.stdout.write(f"{name} {what}" + (f", next {when(next_s)}" if next_s is not None else "") + "\n")


async def _change(name: str, what: str, url: str | None, namespace: str | None) -> Schedule | None:
    async with reading(url, namespace) as bus:
        return await _done(bus, name, what)


async def _done(bus: Bus, name: str, what: str) -> Schedule | None:
    if what == "paused":
        return await bus.pause_schedule(name)
    if what == "resumed":
        return await bus.resume_schedule(name)
    await bus.cancel_schedule(name)
    return None


def _as_json(one: Schedule) -> dict[str, Any]:
    return {
        "name": one.name,
        "task": one.task,
        "cron": one.cron or None,
        "every_s": one.every_s or None,
        "timezone": one.timezone if one.cron else None,
        "paused": one.paused,
        "next": stamp(one.next_s),
        "last": stamp(one.last_s),
        "last_id": one.last_id or None,
        "input": payload_json(one.input),
    }
