"""The delivery matrix in characters. Columns have numbers, which are explained below: names would not fit."""

from __future__ import annotations

from roost._text import clean
from roost.pictures._matrix import Cell, Matrix
from roost.pictures._timeline_text import cells, flowed, shorten

SIGNS = {"got": "●", "none": "·", "could": "○", "missing": "×", "surplus": "!"}
_MEANING = {
    "got": "arrived",
    "could": "another of its queue group got it",
    "none": "nothing arrived",
    "missing": "less than the server said",
    "surplus": "more than the server said",
}
_VERDICT = 15  # characters at the right
_LEAST = 12  # of a subject


def draw(found: Matrix, title: str, width: int) -> str:
    """The whole picture as lines joined by line feeds, without one at the end."""
    head = [shorten(clean(title, 400), width), *flowed(found.summary(), width)]
    if not found.rows or not found.columns:
        return "\n".join([*head, "", "No messages, or no subscriptions."])
    figures = [[_figure(cell) for cell in row.cells] for row in found.rows]
    numbers = [str(number) for number in range(1, len(found.columns) + 1)]
    wide = max(len(one) for line in [numbers, *figures] for one in line) + 2
    labels = [
        clean(row.subject, 400) + (f" ({row.sent:,} times)" if row.sent > 1 else "") for row in found.rows
    ]
    room = width - _VERDICT - wide * len(numbers)
    if room < _LEAST:  # not all columns side by side
        room = max(_LEAST, width // 3)
    labels = [shorten(one, room) for one in labels]
    left = max(map(cells, labels))
    beside = max(1, (width - _VERDICT - left) // wide)
    lines = []
    for at in range(0, len(numbers), beside):
        lines += ["", " " * left + "".join(f"{one:>{wide}}" for one in numbers[at : at + beside])]
        for row, label, line in zip(found.rows, labels, figures, strict=True):
            signs = "".join(f"{one:>{wide}}" for one in line[at : at + beside])
            lines.append(f"{label}{' ' * (left - cells(label))}{signs}    {row.verdict}")
    names = [shorten(clean(column.name), width // 3) for column in found.columns]
    longest = max(map(cells, names))
    lines.append("")
    for number, name, column in zip(numbers, names, found.columns, strict=True):
        queue = f"  (queue group {clean(column.queue)})" if column.queue else ""
        space = " " * (longest - cells(name))
        lines.append(
            shorten(f"{number:>{len(numbers[-1])}}  {name}{space}  {clean(column.pattern)}{queue}", width)
        )
    used = {cell.look for row in found.rows for cell in row.cells}
    lines += [
        "",
        *(shorten(f"{SIGNS[look]} {text}", width) for look, text in _MEANING.items() if look in used),
    ]
    if found.differences:
        lines += [
            "",
            *(
                line
                for one in found.differences
                for line in flowed(f"differs: {one}".split(" "), width, between=" ", indent="    ")
            ),
        ]
    if found.besides:
        lines += ["", *flowed(found.besides.split(" "), width, between=" ")]
    return "\n".join([*head, *lines])


def _figure(cell: Cell) -> str:
    sign = SIGNS[cell.look]
    if cell.arrived > 1:
        return f"{cell.arrived:,}" + (sign if cell.look in ("missing", "surplus") else "")
    return sign
