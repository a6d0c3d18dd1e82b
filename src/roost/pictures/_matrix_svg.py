"""The delivery matrix as SVG: a row for each subject, a column for each subscription.

A point is a message that arrived. What differs from the server's word has another shape, not only another colour.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from roost.pictures._frame import EDGE, RIGHT, WIDTH, legend, nothing, page
from roost.pictures._matrix import Cell, Column, Look, Matrix, Row
from roost.pictures._svg import fit, foreign, number, tag, width
from roost.pictures._words import counted

MOST = 60
"""Rows that are drawn; those that differ first of all."""
_TOLD = 12
_TOP, _ROW, _SPACE = 84, 30, 4
_NARROW, _BROAD, _LABEL = 26.0, 190.0, 330.0  # least and most of a column, most of a subject
_VERDICT = 84
_LONG = 210.0  # of a slanted heading
_SLANT = math.radians(52)
_MEANING: dict[Look, str] = {
    "got": "arrived",
    "could": "another of its queue group got it",
    "none": "nothing arrived",
    "missing": "less than the server said",
    "surplus": "more than the server said",
}


def draw(found: Matrix, title: str) -> str:
    """The whole picture, wider than usual only if there are very many subscriptions."""
    return _Drawing(found, title).svg()


class _Drawing:
    def __init__(self, found: Matrix, title: str) -> None:
        self.found = found
        self.title = title
        self.rows = _chosen(found.rows)
        labels = [width(_label(row), 12, bold=True) for row in self.rows]
        self.left = EDGE + math.ceil(min(max(labels, default=0.0), _LABEL)) + 18
        room = WIDTH - RIGHT - _VERDICT - self.left
        self.column = min(max(room / max(1, len(found.columns)), _NARROW), _BROAD)
        self.right = self.left + self.column * len(found.columns)
        self.wide = max(float(WIDTH), self.right + _VERDICT + RIGHT)
        heads = [width(text, size, bold=size > 11) for one in found.columns for text, _, size in _lines(one)]
        self.slanted = max(heads, default=0.0) > self.column - 10

    def svg(self) -> str:
        found = self.found
        if not self.rows or not found.columns:
            return self._page(nothing("No messages, or no subscriptions."), 120)
        top = _TOP + self._head_height()
        content = [self._head(top)]
        y = top
        for row in self.rows:
            content.append(self._row(row, y))
            y += _ROW + _SPACE
        hidden = len(found.rows) - len(self.rows)
        if hidden:
            text = f"and {counted(hidden, 'more subject')}, as the server said or not checked"
            content.append(tag("text", text, class_="muted", x=EDGE, y=y + 12))
            y += 24
        signs, height = self._legend(y + 12)
        content += signs
        y += 12 + height
        differences = found.differences
        for one in differences[:_TOLD]:
            text = foreign(fit(one, self.wide - 2 * EDGE, 11), 400)
            content.append(tag("text", text, class_="ink", x=EDGE, y=y + 16))
            y += 18
        if len(differences) > _TOLD:
            text = f"and {counted(len(differences) - _TOLD, 'more difference')}"
            content.append(tag("text", text, class_="muted", x=EDGE, y=y + 16))
            y += 18
        if found.besides:
            content.append(tag("text", found.besides, class_="muted", x=EDGE, y=y + 16))
            y += 18
        return self._page(content, y + 18)

    def _page(self, content: Sequence[str], height: float) -> str:
        return page(
            content,
            scope="roost-matrix",
            title=self.title,
            summary=self.found.summary(),
            told=" ".join(self.found.tale()),
            height=math.ceil(height),
            wide=self.wide,
        )

    def _head_height(self) -> float:
        if not self.slanted:
            return 20.0 + 14 * (max(len(_lines(one)) for one in self.found.columns) - 1)
        longest = max(_slanted_width(one) for one in self.found.columns)
        return min(longest, _LONG) * math.sin(_SLANT) + 20

    def _head(self, top: float) -> str:
        parts = []
        for at, column in enumerate(self.found.columns):
            x = self.left + self.column * (at + 0.5)
            texts = self._slanted(column, x, top) if self.slanted else self._upright(column, x, top)
            parts.append(tag("g", tag("title", foreign(_joined(column), 400)) + texts))
        return "".join(parts)

    def _upright(self, column: Column, x: float, top: float) -> str:
        y = top - self._head_height() + 10
        texts = ""
        for text, look, _ in _lines(column):
            texts += tag("text", foreign(text, 400), class_=look, x=x, y=y, text_anchor="middle")
            y += 14
        return texts

    def _slanted(self, column: Column, x: float, top: float) -> str:
        """The name and, as far as there is room, what it subscribed to."""
        room = min(_LONG, (self.wide - x - 8) / math.cos(_SLANT))
        name = fit(column.name, room, 12, bold=True)
        rest = room - width(name, 12, bold=True) - 8
        more = fit("  ".join(text for text, _, _ in _lines(column)[1:]), rest, 11) if rest > 50 else ""
        spans = tag("tspan", foreign(name, 400), class_="ink name")
        spans += tag("tspan", foreign(more, 400), class_="muted", dx=8) if more else ""
        place = f"translate({number(x + 3)} {number(top - 8)}) rotate({number(-math.degrees(_SLANT))})"
        return tag("text", spans, transform=place)

    def _row(self, row: Row, y: float) -> str:
        middle = y + _ROW / 2
        room = self.left - EDGE - 18
        times = f" × {row.sent:,}" if row.sent > 1 else ""
        label = fit(row.subject, room - width(times, 12, bold=True), 12, bold=True) + times
        ground = {"x": EDGE - 8, "y": y, "width": self.wide - EDGE - RIGHT + 16, "height": _ROW, "rx": 4}
        parts = [
            tag("rect", class_="track", **ground),
            tag("g", tag("title", foreign(row.subject, 400)) + self._name(label, middle)),
        ]
        for at, (column, cell) in enumerate(zip(self.found.columns, row.cells, strict=True)):
            x = self.left + self.column * (at + 0.5)
            told = f"{row.subject} at {column.name}: {_MEANING[cell.look]}"
            if cell.arrived > 1:
                told += f", {cell.arrived} times"
            parts.append(tag("g", tag("title", foreign(told, 400)) + _sign(cell, x, middle)))
        verdict = "ink name" if row.differences else "muted"
        x = self.wide - RIGHT - 4
        parts.append(tag("text", row.verdict, class_=verdict, x=x, y=middle + 4, text_anchor="end"))
        return tag("g", "".join(parts))

    def _name(self, label: str, middle: float) -> str:
        return tag("text", foreign(label, 400), class_="ink name", x=EDGE, y=middle + 4)

    def _legend(self, top: float) -> tuple[list[str], float]:
        used = {cell.look for row in self.rows for cell in row.cells} | {"got", "none"}
        return legend(
            ((text, 16.0, _sign(Cell(0, look), 8, 7)) for look, text in _MEANING.items() if look in used),
            top=top,
        )


def _chosen(rows: Sequence[Row]) -> list[Row]:
    """At most MOST, in their order: those that differ, then the first ones."""
    ranked = sorted(range(len(rows)), key=lambda at: (not rows[at].differences, at))
    return [rows[at] for at in sorted(ranked[:MOST])]


def _label(row: Row) -> str:
    return row.subject + (f" × {row.sent:,}" if row.sent > 1 else "")


def _lines(column: Column) -> list[tuple[str, str, float]]:
    """What stands above a column: text, class, size of the font."""
    lines = [(column.name, "ink name", 12.0), (column.pattern, "muted", 11.0)]
    if column.queue:
        lines.append((f"queue {column.queue}", "muted", 11.0))
    return lines


def _slanted_width(column: Column) -> float:
    name, *others = _lines(column)
    return width(name[0], 12, bold=True) + sum(width(text, 11) + 8 for text, _, _ in others)


def _joined(column: Column) -> str:
    return "  ".join(text for text, _, _ in _lines(column))


def _sign(cell: Cell, x: float, y: float) -> str:
    figure = f"{cell.arrived:,}" if cell.arrived > 1 else ""
    if cell.look == "none":
        return tag("circle", class_="queue", cx=x, cy=y, r=2.2)
    if cell.look == "could":
        return tag("circle", class_="running", cx=x, cy=y, r=6)
    half = max(7.0, width(figure, 10.5, bold=True) / 2 + 5) if figure else 7.0
    if cell.look == "got":
        box = {"x": x - half, "y": y - 7, "width": 2 * half, "height": 14, "rx": 7}
        return tag("rect", class_="done", **box) + _figure(figure, "on-done", x, y)
    if cell.look == "missing":
        line = f"M{number(x - 4)} {number(y - 4)}l8 8m-8 0l8 -8"
        beside = tag("text", figure, class_="muted label", x=x + 9, y=y + 4) if figure else ""
        return tag("path", class_="cross", d=line) + beside
    edge = 9.0 if not figure else half + 4
    corners = ((x - edge, y), (x, y - 10), (x + edge, y), (x, y + 10))
    shape = "M" + "L".join(f"{number(across)} {number(down)}" for across, down in corners) + "z"
    return tag("path", class_="failed", d=shape) + _figure(figure or "!", "on-failed", x, y)


def _figure(text: str, look: str, x: float, y: float) -> str:
    if not text:
        return ""
    return tag("text", foreign(text), class_=f"{look} percent", x=x, y=y + 3.8, text_anchor="middle")
