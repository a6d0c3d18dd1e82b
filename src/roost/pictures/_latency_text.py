"""Latencies in characters: for each series a line of columns, with a mark at each percentile below it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from roost._text import clean
from roost.pictures._latency import Latencies, Series, latencies, ticks
from roost.pictures._timeline_text import cells, shorten

_STEPS = " ▁▂▃▄▅▆▇█"


def draw(samples_s: Mapping[str, Sequence[float]], title: str, width: int) -> str:
    """The whole picture as lines joined by line feeds, without one at the end."""
    left = min(max(cells(clean(name)) for name in samples_s), width // 3) if samples_s else 0
    left += 2 if left else 0
    columns = width - left
    scene = latencies(samples_s, columns=columns)
    head = [shorten(clean(title, 400), width), shorten("   ".join(scene.summary()), width), ""]
    if not scene.samples:
        return "\n".join([*head, "No samples."])
    lines = [*head, _axis(scene, left, columns)]
    for one in scene.series:
        label = shorten(clean(one.name), max(left - 2, 0))
        lines.append(label + " " * (left - cells(label)) + _line(one, columns))
        lines.append(" " * left + _marks(scene, one, columns))
    told = [shorten(clean(line, 400), width) for line in scene.tale()]
    notes = [shorten(note, width) for note in ["Marks: 5 p50, + p95, ! p99.", *scene.notes()]]
    return "\n".join(line.rstrip() for line in [*lines, "", *told, *notes])


def _line(one: Series, columns: int) -> str:
    """One character for each column of the histogram, or several if there are fewer than room."""
    most = max(one.columns)
    share = len(one.columns) / columns
    found = [one.columns[int(at * share)] for at in range(columns)]
    return "".join(_STEPS[max(1, round(count / most * 8)) if count else 0] for count in found)


def _marks(scene: Latencies, one: Series, columns: int) -> str:
    line = [" "] * columns
    if one.spread.count:
        for sign, (_, value) in zip("5+!", one.spread.marks, strict=True):
            line[min(int(scene.share(value) * columns), columns - 1)] = sign
    return "".join(line)


def _axis(scene: Latencies, left: int, columns: int) -> str:
    line = [" "] * (left + columns)
    free_from = 0
    for share, label in ticks(scene, at_most=max(2, columns // 10)):
        at = left + min(int(share * columns), columns - 1)
        if at >= free_from and at + len(label) <= len(line):
            line[at : at + len(label)] = label
            free_from = at + len(label) + 1
    return "".join(line)
