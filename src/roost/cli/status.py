"""`roost status`: which server this is, and how it is reached."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Sequence
from typing import Annotated, Any

import typer
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from roost._text import clean
from roost.cli.options import AsJson, Namespace, Url
from roost.cli.running import command, wait_for
from roost.cli.terminal import CELL, console, print_fields, print_json, stamp, until
from roost.connecting import connect
from roost.errors import JetStreamError, RoostError
from roost.pictures._axis import duration
from roost.tasks.backlog import paused as paused_contracts
from roost.tasks.retention import Retention
from roost.transport import ServerStatus


@command
def status(
    context: typer.Context,
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="How long connecting may take.")
    ] = 5.0,
    url: Url = None,
    namespace: Namespace = None,
    json: AsJson = False,
) -> None:
    """Show the server: name, version, JetStream, round trip, how the connection is protected, what is paused.

    Exit code 1: no connection; standard error says why.

    \b
    Examples:
      roost status
      roost --context prod status --json
    """
    found, paused, kept = wait_for(_status(url, namespace, timeout))
    if context.find_root().params.get("context") is not None:  # which reaches `resolve` as NATS_CONTEXT
        found = dataclasses.replace(found, source=found.source.replace("(NATS_CONTEXT)", "(--context)"))
    fields = found.fields()
    if kept is not None:
        fields.append(("retention", _kept(kept)))
    if paused:
        fields.append(("paused", ", ".join(f"{name} {until(ends)}" for name, ends in paused)))
    if json:
        stopped = [{"name": name, "until": ends} for name, ends in paused or ()]
        print_json(
            {
                **_as_json(found),
                "paused": stopped if paused is not None else None,
                "retention_s": kept.ended_s if kept is not None else None,
                "dead_retention_s": kept.dead_s if kept is not None else None,
            }
        )
    elif sys.stdout.isatty():
        _print_card(found, fields)
    else:
        print_fields(fields)


async def _status(
    url: str | None, namespace: str | None, timeout_s: float
) -> tuple[ServerStatus, list[tuple[str, str]] | None, Retention | None]:
    """The server, the contracts that are paused, the retention of the log; None: it is not known to this user."""
    async with connect(url, namespace=namespace, name="roost-cli", connect_timeout_s=timeout_s) as bus:
        found = await bus.status(timeout_s=timeout_s)
        try:
            kept = await bus.upkeep.retention() if found.jetstream is not None else None
        except RoostError:
            kept = None
        try:
            return found, await paused_contracts(bus.log) if found.jetstream is not None else [], kept
        except JetStreamError:  # there is no log yet
            return found, [], kept
        except RoostError:
            return found, None, kept


def _kept(retention: Retention) -> str:
    if retention.ended_s is None:
        return "ended runs are kept for ever"
    letters = "for ever" if retention.dead_s is None else duration(retention.dead_s)
    return f"{duration(retention.ended_s)} after the end of a run; with dead letters {letters}"


def _as_json(found: ServerStatus) -> dict[str, Any]:
    fields = dataclasses.asdict(found)
    fields["expires"] = stamp(fields.pop("expires_s"))
    return fields


def _print_card(found: ServerStatus, fields: Sequence[tuple[str, str]]) -> None:
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    for name, value in fields:
        good = (name == "JetStream" and found.jetstream is not None) or (name == "connection" and found.tls)
        style = "green" if good else "yellow" if name == "paused" else ""
        rows.add_row(name, Text(clean(value, CELL), style))
    console().print(Panel(rows, title="connected", title_align="left", expand=False, border_style="green"))
