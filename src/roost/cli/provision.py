"""`roost provision`: the stream and its consumers, made as the code asks for."""

from __future__ import annotations

import math
import os
import re
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.text import Text

from roost._text import clean, quoted
from roost.agent import Agent
from roost.cli.options import AsJson, Namespace, Url
from roost.cli.running import command, usage, wait_for
from roost.cli.terminal import console, print_json
from roost.cli.units import parse_duration
from roost.connecting import connect
from roost.contracts import Task, Workflow
from roost.errors import ConfigError
from roost.instance import reported
from roost.runtime.load import load
from roost.tasks.administer import Change, Contracted, Size, provision
from roost.tasks.provision import Reported

STYLES = {"created": "green", "changed": "yellow", "unchanged": "dim", "refused": "red"}
UNLIMITED = (
    "roost: the log has no limit. When the server has no room left (max_file_store, its disk), accepted work cannot "
    "end either; --max-bytes SIZE below that room refuses new work in time\n"
)
FUTURE = {"created": "would be created", "changed": "would be changed"}
UNITS = {
    "": 1,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
}


@command
def provision_command(
    agents: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODULE:NAME", help="Agents, or contracts, whose consumers are wanted too."),
    ] = None,
    max_bytes: Annotated[
        str | None,
        typer.Option(
            metavar="SIZE",
            help="The most that the log may take, such as 10GB: less than the server has room for. New work stops at "
            "80 %.",
        ),
    ] = None,
    object_bytes: Annotated[
        str | None,
        typer.Option(metavar="SIZE", help="The most that large payloads may take, in a stream of their own."),
    ] = None,
    replicas: Annotated[
        int | None, typer.Option(metavar="N", help="Servers of a cluster that hold the log: 1, 3 or 5.")
    ] = None,
    retention: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Remove runs so long after their end, such as 7d; `keep`: never, as at first.",
        ),
    ] = None,
    dead_retention: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="The same for runs with dead letters that were not replayed."),
    ] = None,
    schedules: Annotated[
        bool, typer.Option("--schedules", help="The stream of schedules too, for users who may not make it.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="List what would be done, and do nothing.")
    ] = False,
    url: Url = None,
    namespace: Namespace = None,
    json: AsJson = False,
) -> None:
    """Make the log and its consumers as the code asks for.

    An administrator's act: programs create what is missing, if they may, and never change what is there. This does,
    and lists each field. Exit code 1: the server refused a part of it.

    \b
    Examples:
      roost provision --max-bytes 10GB --retention 7d --dead-retention 30d
      roost provision shop.agents:packer --dry-run
    """
    with usage():
        size = Size(
            max_bytes=parse_size(max_bytes) if max_bytes is not None else None,
            object_bytes=parse_size(object_bytes) if object_bytes is not None else None,
            replicas=replicas,
            retention_s=parse_retention(retention, option="--retention"),
            dead_retention_s=parse_retention(dead_retention, option="--dead-retention"),
        )
    sys.path.insert(0, os.getcwd())  # as for `roost up`
    contracts, reports = wanted(agents or [])
    changes, limited = wait_for(
        _provision(contracts, reports, size, url, namespace, schedules=schedules, dry_run=dry_run)
    )
    if json:
        print_json([_as_json(change, dry_run=dry_run) for change in changes])
    else:
        _print(changes, dry_run=dry_run)
        if not limited:
            sys.stderr.write(UNLIMITED)
    raise typer.Exit(1 if any(change.action == "refused" for change in changes) else 0)


async def _provision(
    contracts: Sequence[Contracted],
    reports: Sequence[Reported],
    size: Size,
    url: str | None,
    namespace: str | None,
    *,
    schedules: bool,
    dry_run: bool,
) -> tuple[list[Change], bool]:
    """What was done, and whether the log has a limit then."""
    async with connect(url, namespace=namespace, name="roost-cli") as bus:
        changes = await provision(
            bus.log, contracts, reports=reports, size=size, schedules=schedules, dry_run=dry_run
        )
        info = await bus.log._seen()
        there = info["config"].get("max_bytes", -1) if info is not None else -1
        return changes, max(there, size.max_bytes or -1 if dry_run else -1) > 0


def wanted(targets: Sequence[str]) -> tuple[list[Contracted], list[Reported]]:
    """The contracts that the targets name, or that agents they name handle, and what those agents report."""
    contracts: list[Contracted] = []
    reports: list[Reported] = []
    for target in targets:
        found = load(target)
        if isinstance(found, Agent):
            contracts += [one.contract for one in found.handlers if isinstance(one.contract, Task | Workflow)]
            reports += [reported(found.name, one.contract, one.of) for one in found.followers]
        elif isinstance(found, Task | Workflow):
            contracts.append(found)
        else:
            raise ConfigError(f"{target} is no Agent, Task or Workflow of roost but {quoted(found)}")
    return contracts, reports


def parse_size(text: str) -> int:
    """Bytes in a text such as ``500MB``, ``10GiB`` or ``1000000``; -1 for no limit. Raises ConfigError."""
    if text == "-1":
        return -1
    found = re.fullmatch(r"(\d{1,15})\s*([KMGT]i?|)B?", text.strip(), re.IGNORECASE)
    if found is None:
        raise ConfigError(
            f"--max-bytes {quoted(text)}: write a number of bytes, 500MB, 10GB or 10GiB; -1 for no limit"
        )
    return int(found[1]) * UNITS[found[2].capitalize()]


def parse_retention(text: str | None, *, option: str) -> float | None:
    """Seconds in a text such as ``7d``; infinite for ``keep``. Raises ConfigError."""
    if text is None:
        return None
    return math.inf if text == "keep" else parse_duration(text, option=option)


def _as_json(change: Change, *, dry_run: bool) -> dict[str, Any]:
    return {
        "what": change.what,
        "action": change.action,
        "applied": not dry_run and change.action in ("created", "changed"),
        "differences": [
            {"field": one.field, "found": one.found, "wanted": one.wanted} for one in change.differences
        ],
        "reason": change.reason,
    }


def _print(changes: Sequence[Change], *, dry_run: bool) -> None:
    out = console()
    width = max(len(change.what) for change in changes)
    for change in changes:
        word = FUTURE.get(change.action, change.action) if dry_run else change.action
        line = Text(clean(change.what).ljust(width + 2))
        line.append(word, STYLES[change.action])
        if change.reason:
            line.append(f": {clean(change.reason, 500)}")
        out.print(line)
        for one in change.differences:
            wanted = "stays" if change.action == "refused" else f"-> {quoted(one.wanted, 200)}"
            out.print(Text(f"  {clean(one.field)}: {quoted(one.found, 200)} {wanted}"))
