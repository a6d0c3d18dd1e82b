"""`roost doctor`: what is wrong, and what to do about it."""

from __future__ import annotations

import os
import sys
import textwrap
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer
from rich.text import Text

from roost._text import clean
from roost.cli._checks import Check
from roost.cli._examine import examine
from roost.cli.options import AsJson, Namespace, Url
from roost.cli.provision import wanted
from roost.cli.running import command, wait_for
from roost.cli.terminal import CELL, console, print_json
from roost.connecting import connect
from roost.errors import ConnectError
from roost.observe import Event
from roost.tasks.administer import Contracted
from roost.tasks.provision import Reported

STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red", "unknown": "magenta"}
INDENT = 23
"""Cells before what was found."""


@command
def doctor(
    agents: Annotated[
        list[str] | None,
        typer.Argument(metavar="MODULE:NAME", help="Agents, or contracts, whose consumers are compared too."),
    ] = None,
    monitor: Annotated[
        list[str] | None,
        typer.Option(
            metavar="URL",
            help="Monitoring port of a server, such as http://10.0.0.1:8222; once for each server of a cluster.",
        ),
    ] = None,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="How long connecting may take.")
    ] = 5.0,
    url: Url = None,
    namespace: Namespace = None,
    json: AsJson = False,
) -> None:
    """Check the server, the log and the agents, and say what to do. It changes nothing.

    Each check is ok, warn, fail, or unknown where this user cannot know. Exit code 1: a check failed.

    \b
    Examples:
      roost doctor
      roost --context prod doctor shop.agents:packer --monitor http://127.0.0.1:8222
    """
    sys.path.insert(0, os.getcwd())  # as for `roost up`
    contracts, reports = wanted(agents or [])
    found = wait_for(_examine(contracts, reports, monitor or [], url, namespace, timeout))
    if json:
        print_json([asdict(one) for one in found])
    else:
        _print(found)
    raise typer.Exit(1 if any(one.verdict == "fail" for one in found) else 0)


async def _examine(
    contracts: Sequence[Contracted],
    reports: Sequence[Reported],
    monitors: Sequence[str],
    url: str | None,
    namespace: str | None,
    timeout_s: float,
) -> list[Check]:
    soon: list[str] = []

    def told(event: Event) -> None:
        if event.kind == "login_expires_soon":
            soon.append(event.reason)

    try:
        async with connect(
            url, namespace=namespace, name="roost-cli", connect_timeout_s=timeout_s, watch=told
        ) as bus:
            return await examine(bus, contracts, reports, monitors=monitors, soon="".join(soon[-1:]))
    except ConnectError as error:
        advice = "look whether it runs, and whether this machine gets there"
        return [Check(name="server", verdict="fail", found=clean(str(error), 500), advice=advice)]


def _print(found: Sequence[Check]) -> None:
    """One line for each check, with tabs; on a terminal as many as it takes, and how many there were of each kind."""
    if not sys.stdout.isatty():
        for one in found:
            print("\t".join(clean(part, CELL) for part in (one.verdict, one.name, one.found, one.advice)))
        return
    out = console()
    width = max(30, out.width - INDENT)
    for one in found:
        head = Text.assemble((f"{one.verdict:<9}", STYLES[one.verdict]), (f"{one.name:<14}", "bold"))
        first, *more = textwrap.wrap(clean(one.found, CELL), width, break_on_hyphens=False) or [""]
        out.print(head + Text(first), soft_wrap=True)
        for line in more:
            out.print(Text(" " * INDENT + line), soft_wrap=True)
        for line in textwrap.wrap(
            f"-> {clean(one.advice, CELL)}" if one.advice else "",
            width,
            subsequent_indent="   ",
            break_on_hyphens=False,
        ):
            out.print(Text(" " * INDENT + line, "cyan"), soft_wrap=True)
    counts = Counter[str](one.verdict for one in found)
    out.print(Text(", ".join(f"{counts[verdict]} {verdict}" for verdict in STYLES if counts[verdict])))
