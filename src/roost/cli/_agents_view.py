"""The table of `roost agents` on a terminal: an instance a line or two, and no more lines than it is given.

What somebody looks for is who is in trouble, so those are never among the ones that find no room.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions
from rich.text import Text

from roost._text import clean
from roost.cli._fit import GAP, cut, fit, middle
from roost.discovery import AgentInfo, HandlerInfo

COLUMNS = ("INSTANCE", "STATE", "RUNNING", "WAITING", "DONE", "ERRORS", "VERSION", "UP", "HOST", "SERVES")
SPARE = ("HOST", "VERSION", "UP", "DONE")
STYLES = {"INSTANCE": "bold", "ERRORS": "red", "UP": "dim", "HOST": "dim"}
STATE_STYLES = {"ready": "green", "busy": "yellow", "draining": "yellow", "silent": "red", "gone": "red"}
CALM = ("ready", "busy", "left")
KINDS = {"stream_endpoint": "stream", "report": "outcomes"}
CELL = 200
"""Characters of one cell at most."""
ALL = 1000
"""Lines for what a single instance serves."""
MORE = 5
"""Cells for the number of contracts that find no room, such as `` +12``."""
NAME = 24
"""To which an instance's name is cut on 80 columns, so that one long name takes no column from all the others."""


@dataclass(frozen=True, slots=True)
class AgentsView:
    """The table, as wide as the terminal.

    With `whole` all instances are there, and what they serve has two lines, of a single one as many as it takes;
    else as many as there are lines, one each, and how many more there are.
    """

    found: Sequence[AgentInfo]
    whole: bool = True

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> Iterator[Text]:
        size = options.size
        for line in self.lines(size.width, None if self.whole else size.height - 1):
            line.no_wrap = True
            yield line

    def lines(self, width: int, height: int | None) -> list[Text]:
        """At most `height` of them; None: as many as it takes. The last cell of a terminal's line stays free."""
        shown = list(self.found) if height is None else fewest(self.found, height - 1)
        most = 1 if height is not None else 2 if len(shown) > 1 else ALL
        rows = [[clean(cell, CELL) for cell in row(one)[:-1]] for one in shown]
        names = [serves(one) for one in shown]
        for cells in rows:
            cells[0] = middle(cells[0], max(NAME, width * 3 // 10))
        whole = [[*cells, ", ".join(each)] for cells, each in zip(rows, names, strict=True)]
        fitted = fit(COLUMNS, whole, width - 1, spare=SPARE)
        heads = [COLUMNS[number] for number in fitted.columns]
        lines = [_line(heads, fitted.widths, ["bold"] * len(heads))]
        indent = " " * sum(size + GAP for size in fitted.widths[:-1])
        for one, cut_cells, each in zip(shown, fitted.rows, names, strict=True):
            styles = [
                STATE_STYLES.get(one.state, "") if head == "STATE" else STYLES.get(head, "") for head in heads
            ]
            first, *more = flow(each, fitted.widths[-1], most)
            lines.append(_line([*cut_cells[:-1], first], fitted.widths, styles))
            lines += [Text(indent + rest) for rest in more]
        if len(shown) < len(self.found):
            lines.append(Text(_more(self.found, shown), "dim"))
        return lines


def fewest(found: Sequence[AgentInfo], room: int) -> list[AgentInfo]:
    """Those that are shown when there are `room` lines, one of which says how many more there are; in their order."""
    if len(found) <= room:
        return list(found)
    order = sorted(range(len(found)), key=lambda number: (found[number].state in CALM, number))
    return [found[number] for number in sorted(order[: max(1, room - 1)])]


def flow(names: Sequence[str], width: int, lines: int) -> list[str]:
    """Names in at most so many lines; those that find no room as a number at the end, such as ``+3``."""
    short = [cut(name, max(2, width - MORE)) for name in names]
    for count in range(len(short), 0, -1):
        left = len(short) - count
        words = [f"{name}," for name in short[: count - 1]] + [
            short[count - 1] + (f" +{left}" if left else "")
        ]
        found = [words[0]]
        for word in words[1:]:
            if cell_len(found[-1]) + 1 + cell_len(word) <= width:
                found[-1] += f" {word}"
            else:
                found.append(word)
        if len(found) <= lines:
            return found
    return [""]


def row(one: AgentInfo) -> tuple[str, ...]:
    """Its cells, for people."""
    return (
        one.instance,
        one.state,
        f"{one.running}/{one.limit}",
        str(one.waiting or ""),
        str(sum(handler.handled for handler in one.handlers) or ""),
        str(sum(handler.errors for handler in one.handlers) or ""),
        one.version,
        _up(time.time() - one.started_s),
        one.host,
        ", ".join(map(served, one.handlers)),
    )


def serves(one: AgentInfo) -> list[str]:
    """The names of its contracts; of whom it takes only the outcomes, that too."""
    return [
        clean(served(handler) if handler.kind == "report" else handler.name, CELL) for handler in one.handlers
    ]


def served(handler: HandlerInfo) -> str:
    return f"{handler.name} ({KINDS.get(handler.kind, handler.kind)})"


def _more(found: Sequence[AgentInfo], shown: Sequence[AgentInfo]) -> str:
    states = Counter(one.state for one in found)
    states.subtract(one.state for one in shown)
    told = ", ".join(f"{count} {state}" for state, count in states.items() if count)
    return f"and {len(found) - len(shown)} more: {told}"


def _line(cells: Sequence[str], widths: Sequence[int], styles: Sequence[str]) -> Text:
    line = Text()
    for cell, width, style in zip(cells, widths, styles, strict=True):
        line.append(cell, style)
        line.append(" " * (width - cell_len(cell) + GAP))
    line.rstrip()
    return line


def _up(seconds: float) -> str:
    """A duration in its largest unit; clocks of two machines may differ, so less than nothing is nothing."""
    for unit, size in (("d", 86_400), ("h", 3600), ("min", 60)):
        if seconds >= 2 * size:
            return f"{int(seconds // size)} {unit}"
    return f"{max(0, int(seconds))} s"
