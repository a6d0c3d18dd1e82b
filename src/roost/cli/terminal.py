"""What commands print: tables for people, tabs for pipes, JSON for programs.

Names, reasons and payloads come from the log, and so from strangers: nothing of that reaches a terminal with
control characters in it, and nothing is taken for markup.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table
from rich.text import Text

from roost._text import clean

CELL = 2000
"""Characters of one cell that are ever printed."""


def console() -> Console:
    """Standard output; as wide as it takes when that is no terminal."""
    return Console(soft_wrap=not sys.stdout.isatty(), highlight=False)


def print_json(value: Any) -> None:
    """One JSON document. Only ASCII, so that no text in it can move a cursor."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
    sys.stdout.flush()


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, styles: Sequence[str] = ()) -> None:
    """Rows under headings; without a terminal, with tabs between the cells and nothing cut off."""
    if not sys.stdout.isatty():
        for row in [columns, *rows]:
            sys.stdout.write("\t".join(clean(cell, CELL) for cell in row) + "\n")
        sys.stdout.flush()
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    for number, column in enumerate(columns):
        last = number == len(columns) - 1
        table.add_column(column, no_wrap=not last, overflow="fold", style=styles[number] if styles else "")
    for row in rows:
        table.add_row(*(Text(clean(cell, CELL)) for cell in row))
    console().print(table)


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Names and values below each other."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        console().print(Text.assemble((name.ljust(width + 2), "dim"), clean(value, CELL)))


def when(seconds: float) -> str:
    """A time in this machine's time zone; empty when it is not known."""
    if not seconds:
        return ""
    try:
        return time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(seconds))
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g}"


def stamp(seconds: float | None) -> str | None:
    """A time for programs: RFC 3339, UTC; None when it is not known."""
    if not seconds:
        return None
    try:
        return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{int(seconds % 1 * 1000):03d}Z"
    except (OverflowError, ValueError, OSError):
        return None


def lasted(seconds: float | None) -> str:
    """A duration for people."""
    if seconds is None:
        return ""
    if seconds < 0.001:
        return "< 1 ms"
    if seconds < 1:
        return f"{seconds * 1000:.0f} ms"
    if seconds < 120:
        return f"{seconds:.1f} s"
    minutes = int(seconds // 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"
