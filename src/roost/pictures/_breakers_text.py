"""Strips of breakers in characters: one line for each."""

from __future__ import annotations

from roost._text import clean
from roost.pictures._axis import ticks
from roost.pictures._breakers import Strip, Strips
from roost.pictures._timeline_text import cells, shorten
from roost.pictures._words import began

_CLOSED, _OPEN, _HALF, _FAILED, _WELL, _UNKNOWN = "─", "█", "▒", "×", "o", " "
_LEGEND = (
    f"{_CLOSED} closed   {_OPEN} open   {_HALF} half open   {_FAILED} probe failed   {_WELL} probe went well"
)
_TALE = 20


def draw(scene: Strips, title: str, width: int) -> str:
    """The whole picture as lines joined by line feeds, without one at the end."""
    head = [shorten(clean(title, 400), width), shorten("   ".join(scene.summary()), width)]
    if not scene.strips:
        return "\n".join([*head, "", "No breaker opened."])
    left = min(max(cells(one.name) for one in scene.strips), width // 3) + 2
    columns = width - left
    lines = [*head, "", _axis(scene.span_s, left, columns)]
    for strip in scene.strips:
        label = shorten(strip.name, left - 2)
        lines.append(label + " " * (left - cells(label)) + _line(strip, scene.span_s, columns))
    lines += ["", shorten(_LEGEND, width), shorten(f"began {began(scene.began_s)}", width), ""]
    lines += [shorten(one, width) for one in scene.tale(_TALE)]
    return "\n".join(line.rstrip() for line in lines).rstrip("\n")


def _line(strip: Strip, span_s: float, columns: int) -> str:
    """What is short is not lost: an opening takes a character at least, and a probe its own."""
    row = [_UNKNOWN] * columns

    def column(at_s: float) -> int:
        return min(int(at_s / span_s * columns), columns - 1) if span_s > 0 else 0

    signs = {"closed": _CLOSED, "half_open": _HALF, "open": _OPEN}
    for state in ("closed", "half_open", "open"):
        for one in strip.stretches:
            if one.state == state:
                first = column(one.start)
                until = max(column(one.end), first + (state != "closed"))
                row[first:until] = signs[state] * (until - first)
    if strip.stretches and strip.stretches[-1].end >= span_s:
        row[-1] = signs[strip.stretches[-1].state]
    for one in strip.stretches:
        if one.probe:
            row[column(one.end)] = _FAILED if one.probe == "failed" else _WELL
    return "".join(row)


def _axis(span_s: float, left: int, columns: int) -> str:
    line = [" "] * (left + columns)
    free_from = 0
    for tick in ticks(span_s, at_most=max(2, columns // 10)):
        at = left + (int(tick.at_s / span_s * columns) if span_s > 0 else 0)
        if at >= free_from and at + len(tick.label) <= len(line):
            line[at : at + len(tick.label)] = tick.label
            free_from = at + len(tick.label) + 1
    return "".join(line)
