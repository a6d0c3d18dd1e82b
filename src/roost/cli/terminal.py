"""What commands print: tables for people, tabs for pipes, JSON for programs.

Names, reasons and payloads come from the log, and so from strangers: nothing of that reaches a terminal with
control characters in it, and nothing is taken for markup.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Mapping, Sequence
from typing import Any

from rich.cells import cell_len
from rich.console import Console
from rich.text import Text

from roost._text import clean
from roost.cli._fit import GAP, Moment, cut, fit
from roost.tasks.log import parse_time
from roost.tasks.pausing import FOREVER

CELL = 2000
"""Characters of one cell that are ever printed."""
NAMES = 20
"""Names listed in one sentence."""
NO_LIMIT = 1_000_000
READABLE = 30
"""Cells below which a text in several lines gets lines of its own."""
INDENT = 4


def console() -> Console:
    """Standard output; as wide as it takes when that is no terminal."""
    return Console(soft_wrap=not sys.stdout.isatty(), highlight=False)


def print_json(value: Any) -> None:
    """One JSON document. Only ASCII, so that no text in it can move a cursor."""
    sys.stdout.write(json.dumps(value, indent=2) + "\n")
    sys.stdout.flush()


def print_table(
    columns: Sequence[str],
    rows: Sequence[Sequence[str]],
    *,
    styles: Sequence[str] = (),
    spare: Sequence[str] = (),
    wide: bool = False,
    full: bool = False,
) -> None:
    """Rows under headings; without a terminal, with tabs between the cells and nothing cut off.

    On a terminal each row is one line, cut where it has no room, after the columns that are `spare` have gone. With
    `wide` lines are as long as they are. With `full` the last column is not cut but goes on in further lines.
    """
    if not sys.stdout.isatty():
        for row in [columns, *rows]:
            sys.stdout.write("\t".join(clean(cell, CELL) for cell in row) + "\n")
        sys.stdout.flush()
        return
    out = console()
    texts = [[_cleaned(cell) for cell in row] for row in rows]
    fitted = fit(columns, texts, NO_LIMIT if wide else out.width, spare=() if full else spare)
    own = [styles[number] if number < len(styles) else "" for number in fitted.columns]
    heads = [columns[number] for number in fitted.columns]
    if full and fitted.widths[-1] < READABLE:  # each text below its row, in the whole width
        _print_line(out, heads[:-1], fitted.widths[:-1], ["bold"] * len(own))
        for *row, text in fitted.rows:
            _print_line(out, row, fitted.widths[:-1], own)
            for line in _wrapped(out, text, max(READABLE, out.width - INDENT)):
                out.print(Text(" " * INDENT + line), soft_wrap=True)
        return
    _print_line(out, heads, fitted.widths, ["bold"] * len(own))
    indent = sum(width + GAP for width in fitted.widths[:-1])
    for *row, text in fitted.rows:
        lines = _wrapped(out, text, fitted.widths[-1]) if full else [text]
        _print_line(out, [*row, cut(lines[0], fitted.widths[-1])], fitted.widths, own)
        for more in lines[1:]:
            out.print(Text(" " * indent + more, own[-1]), soft_wrap=True)


def _wrapped(out: Console, text: str, width: int) -> list[str]:
    """At least one line."""
    return [line.plain.rstrip() for line in Text(text).wrap(out, width)] or [""]


def _cleaned(cell: str) -> str:
    return cell if isinstance(cell, Moment) else clean(cell, CELL)


def _print_line(out: Console, cells: Sequence[str], widths: Sequence[int], styles: Sequence[str]) -> None:
    line = Text()
    for number, cell in enumerate(cells):
        last = number == len(cells) - 1
        line.append(cell, styles[number])
        if not last:
            line.append(" " * (widths[number] - cell_len(cell) + GAP))
    out.print(line, soft_wrap=True)


def print_fields(fields: Sequence[tuple[str, str]]) -> None:
    """Names and values below each other."""
    width = max(len(name) for name, _ in fields)
    for name, value in fields:
        console().print(Text.assemble((name.ljust(width + 2), "dim"), clean(value, CELL)))


def none_of(what: str, name: str | None, others: Mapping[str, int]) -> str:
    """That there are none, of this name or at all, and which names have some."""
    if name is None:
        return f"no {what}"
    listed = ", ".join(f"{clean(one)} ({count:,})" for one, count in sorted(others.items())[:NAMES])
    more = f" and {len(others) - NAMES:,} more" if len(others) > NAMES else ""
    there = f"there are some of {listed}{more}" if listed else "and of no other either"
    return f"no {what} of {clean(name)}; {there}"


def when(seconds: float) -> str:
    """A time in this machine's time zone; empty when it is not known. A narrow terminal shows less of it."""
    if not seconds:
        return ""
    try:
        at, now = time.localtime(seconds), time.localtime()
        short = "%H:%M:%S" if at[:3] == now[:3] else "%m-%d %H:%M" if at[0] == now[0] else "%Y-%m-%d"
        return Moment(time.strftime("%Y-%m-%d %H:%M:%S", at), time.strftime(short, at))
    except (OverflowError, ValueError, OSError):
        return f"{seconds:g}"


def until(stamp: str) -> str:
    """When a pause ends, for people."""
    if stamp == FOREVER:
        return "until resumed"
    at = when(parse_time(stamp))
    return f"until {at.short if isinstance(at, Moment) else at}"


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
