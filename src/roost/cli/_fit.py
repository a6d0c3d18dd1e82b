"""Rows that fit a terminal: what gives way first when there is no room. Pure.

A table whose last column gets what the others leave may leave it six characters, and a reason of a line then takes
ten. So the times give way first, then columns that are empty or can be done without, then the longest names, and
what is still too long is cut: one line for each row, whatever the terminal.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size

GAP = 2
LEAST = 30
"""Cells that the last column has, if it needs them, before anything is cut or left out for it."""
NAME = 36
"""To which names are cut before whole columns are left out."""
NARROWEST = 10
"""To which a column is cut at most; its heading may be longer."""


class Moment(str):
    """A time as text; `short` is what of it a narrow terminal shows."""

    short: str

    def __new__(cls, text: str, short: str) -> Moment:
        one = super().__new__(cls, text)
        one.short = short
        return one


@dataclass(frozen=True, slots=True)
class Fitted:
    """What is left of a table: the numbers of the columns that stay, their widths, and the rows of those."""

    columns: tuple[int, ...]
    widths: tuple[int, ...]
    rows: tuple[tuple[str, ...], ...]


def fit(
    heads: Sequence[str], rows: Sequence[Sequence[str]], width: int, *, spare: Sequence[str] = ()
) -> Fitted:
    """`rows` for `width` cells. `spare` names the columns that can be done without, the first to go first.

    The last column is not cut here: it has the last of the widths. Its texts may be longer.
    """
    columns = list(range(len(heads)))
    cells = [list(row) for row in rows]

    def need(number: int) -> int:
        return max([cell_len(heads[number]), *(cell_len(row[number]) for row in cells)])

    def room() -> int:
        return width - sum(need(number) + GAP for number in columns[:-1])

    def fits(least: int | None = None) -> bool:
        needed = need(columns[-1])
        return room() >= (needed if least is None else min(needed, least))

    def shrink(narrowest: int, least: int) -> None:
        """Cut the widest column but the last, cell by cell."""
        while not fits(least) and len(columns) > 1:
            widest = max(columns[:-1], key=need)
            size = need(widest) - 1
            if size < max(narrowest, cell_len(heads[widest])):
                return
            for row in cells:
                row[widest] = middle(row[widest], size)

    if not fits():
        cells = [[one.short if isinstance(one, Moment) else one for one in row] for row in cells]
    if not fits(LEAST):
        columns = [n for n in columns if n in (0, columns[-1]) or any(row[n] for row in cells)]
    shrink(NAME, LEAST)
    for name in spare:
        if not fits(LEAST):
            columns = [number for number in columns if heads[number] != name]
    shrink(NARROWEST, LEAST * 2 // 3)
    widths = [*(need(number) for number in columns[:-1]), max(NARROWEST, room())]
    return Fitted(tuple(columns), tuple(widths), tuple(tuple(row[n] for n in columns) for row in cells))


def cut(text: str, size: int) -> str:
    """`text`, or its beginning and an ellipsis."""
    return text if cell_len(text) <= size else set_cell_size(text, size - 1).rstrip() + "…"


def middle(text: str, size: int) -> str:
    """`text`, or its ends around an ellipsis: both ends of an id say something."""
    if cell_len(text) <= size:
        return text
    before = text.replace("…", "")
    tail = (size - 1) // 2
    return cut(set_cell_size(before, size - 1 - tail) + "…" + before[len(before) - tail :], size)
