"""`roost upkeep` and `roost prune`: what a namespace needs from time to time, by hand or in a process only for that."""

from __future__ import annotations

import asyncio
import signal
import sys
from contextlib import nullcontext
from typing import Annotated, Any

import typer

from roost.bus import Bus
from roost.cli.options import AsJson, Namespace, Url
from roost.cli.running import command, reading, usage, wait_for
from roost.cli.terminal import print_json
from roost.cli.units import parse_duration
from roost.connecting import connect
from roost.errors import ConfigError
from roost.runtime.logs import set_up
from roost.tasks.retention import Retention
from roost.upkeep import Prune, Pruned

BAR_S = 0.2
"""How often the bar moves."""


@command
def upkeep_command(url: Url = None, namespace: Namespace = None) -> None:
    """Do the upkeep of a namespace until Ctrl-C: remove runs after their retention, end what is overdue.

    Every process that serves agents does this too, if its user may, and one of all at a time. So this is for an
    installation whose agents have least privilege: run it as the user of `roost permissions --role upkeep`. Several
    may run; the others wait for the one that is at it. Exit code 1: this user may not.

    \b
    Example:
      roost --context upkeep upkeep
    """
    set_up("upkeep", "info")
    wait_for(_upkeep(url, namespace))


async def _upkeep(url: str | None, namespace: str | None) -> None:
    async with connect(url, namespace=namespace, name="roost-upkeep") as bus:
        await bus.upkeep.check()
        await bus.log.ensure()
        stop = asyncio.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            asyncio.get_running_loop().add_signal_handler(number, stop.set)
        async with bus.upkeep.running(start_s=0.0):
            await stop.wait()


@command
def prune_command(
    older_than: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Runs that ended so long ago.", show_default="as provisioned"),
    ] = None,
    dead_older_than: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Runs with dead letters that were not replayed.",
            show_default="as provisioned; kept if that says nothing",
        ),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Count them, and remove nothing.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask.")] = False,
    url: Url = None,
    namespace: Namespace = None,
    json: AsJson = False,
) -> None:
    """Remove ended runs now, whole, with their outcomes. Never one with open work.

    What was removed cannot be read, replayed or forked any more, and its key stands for a new task. On a terminal it
    counts them first, and asks.

    \b
    Examples:
      roost prune --dry-run
      roost prune --older-than 1d
    """
    with usage():
        ended_s = parse_duration(older_than, option="--older-than") if older_than is not None else None
        dead_s = (
            parse_duration(dead_older_than, option="--dead-older-than")
            if dead_older_than is not None
            else None
        )
    if not (dry_run or yes or json) and sys.stdin.isatty() and sys.stdout.isatty():
        there = wait_for(_prune(ended_s, dead_s, url, namespace, dry_run=True, quiet=False))
        if there.runs:
            typer.confirm(f"Remove {_described(there)}?", abort=True)
    pruned = wait_for(_prune(ended_s, dead_s, url, namespace, dry_run=dry_run, quiet=json))
    if json:
        print_json(
            {
                "runs": pruned.runs,
                "records": pruned.records,
                "dead_letters": pruned.letters,
                "removed": not dry_run,
            }
        )
        return
    done = "would be removed; nothing was done" if dry_run else "removed"
    sys.stdout.write(f"{_described(pruned)} {done}\n")


def _described(pruned: Pruned) -> str:
    letters = f", with {pruned.letters:,} dead letters" if pruned.letters else ""
    return f"{pruned.runs:,} ended runs of {pruned.records:,} records{letters}"


async def _prune(
    ended_s: float | None,
    dead_s: float | None,
    url: str | None,
    namespace: str | None,
    *,
    dry_run: bool,
    quiet: bool,
) -> Pruned:
    async with reading(url, namespace) as bus:
        prune = Prune(bus.log, retention=await _retention(bus, ended_s, dead_s), dry_run=dry_run)
        bar = _bar() if sys.stdout.isatty() and not quiet else None
        with bar or nullcontext():
            work = asyncio.get_running_loop().create_task(prune.run_once(), name="roost-prune")
            job = bar.add_task("prune", total=None) if bar is not None else None
            try:
                while not work.done():
                    await asyncio.wait([work], timeout=BAR_S)
                    if bar is not None:
                        text = f"{prune.total.runs:,} runs"
                        bar.update(job, completed=prune.at, total=prune.last or None, description=text)
                await work
            finally:
                work.cancel()
        return prune.total


async def _retention(bus: Bus, ended_s: float | None, dead_s: float | None) -> Retention:
    """What was asked for, else what the namespace has. Raises ConfigError when neither says anything."""
    own = await bus.upkeep.retention() or Retention()
    ended_s = ended_s if ended_s is not None else own.ended_s
    if ended_s is None:
        raise ConfigError(
            f"namespace {bus.namespace} keeps its runs for ever; give --older-than, or let them go by themselves "
            "after `roost provision --retention 7d`"
        )
    if dead_s is None and own.dead_s is not None:
        dead_s = max(own.dead_s, ended_s)
    return Retention(ended_s=ended_s, dead_s=dead_s)


def _bar() -> Any:
    from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TextColumn("of the log"),
        TimeRemainingColumn(),
    )
