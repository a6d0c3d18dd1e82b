"""`roost status`: which server this is, and how it is reached."""

from __future__ import annotations

import dataclasses
import sys
from typing import Annotated, Any

import typer
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from roost._text import clean
from roost.cli.options import AsJson, Namespace, Url
from roost.cli.running import command, wait_for
from roost.cli.terminal import CELL, console, print_fields, print_json, stamp
from roost.connecting import connect
from roost.transport import ServerStatus


@command
def status(
    timeout: Annotated[
        float, typer.Option(metavar="SECONDS", min=0.1, help="How long connecting may take.")
    ] = 5.0,
    url: Url = None,
    namespace: Namespace = None,
    json: AsJson = False,
) -> None:
    """Show the server: name, version, JetStream, round trip, how the connection is protected.

    Exit code 1: no connection; standard error says why.

    \b
    Examples:
      roost status
      roost --context prod status --json
    """
    found = wait_for(_status(url, namespace, timeout))
    if json:
        print_json(_as_json(found))
    elif sys.stdout.isatty():
        _print_card(found)
    else:
        print_fields(found.fields())


async def _status(url: str | None, namespace: str | None, timeout_s: float) -> ServerStatus:
    async with connect(url, namespace=namespace, name="roost-cli", connect_timeout_s=timeout_s) as bus:
        return await bus.status(timeout_s=timeout_s)


def _as_json(found: ServerStatus) -> dict[str, Any]:
    fields = dataclasses.asdict(found)
    fields["expires"] = stamp(fields.pop("expires_s"))
    return fields


def _print_card(found: ServerStatus) -> None:
    rows = Table.grid(padding=(0, 2))
    rows.add_column(style="dim", no_wrap=True)
    rows.add_column(overflow="fold")
    for name, value in found.fields():
        good = (name == "JetStream" and found.jetstream is not None) or (name == "connection" and found.tls)
        rows.add_row(name, Text(clean(value, CELL), "green" if good else ""))
    console().print(Panel(rows, title="connected", title_align="left", expand=False, border_style="green"))
