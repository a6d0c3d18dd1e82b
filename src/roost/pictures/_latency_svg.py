"""Latencies as SVG: a histogram for each series below one axis, with a line at each percentile."""

from __future__ import annotations

import math

from roost.pictures._frame import EDGE, RIGHT, TOP, WIDTH, beside, grid, nothing, page
from roost.pictures._latency import Latencies, Series, figure, ticks
from roost.pictures._svg import fit, foreign, number, tag, width
from roost.pictures._words import counted

COLUMNS = 120
_ABOVE, _SPACE = 6, 8
_MARKS = 20  # for the names of the percentiles, above the columns
_HEIGHTS = ((1, 170), (3, 104), (6, 74), (20, 56))  # of a series, when there are so many


def draw(scene: Latencies, title: str) -> str:
    """The whole picture, `WIDTH` pixels wide and as high as it needs."""
    return _Drawing(scene, title).svg()


class _Drawing:
    def __init__(self, scene: Latencies, title: str) -> None:
        self.scene = scene
        self.title = title
        names = [width(one.name, 12, bold=True) for one in scene.series]
        notes = [width(line, 10.5) for one in scene.series for line in _beside(one)]
        self.left = EDGE + math.ceil(min(max([*names, *notes, 60.0]), 190.0)) + 12
        self.pixels = WIDTH - EDGE - RIGHT - self.left
        self.height = next(height for most, height in _HEIGHTS if len(scene.series) <= most)

    def svg(self) -> str:
        y = float(TOP)
        grounds: list[str] = []
        body: list[str] = []
        for one in self.scene.series if self.scene.samples else ():
            place = {"x": self.left, "y": y, "width": self.pixels, "height": self.height}
            grounds.append(tag("rect", class_="track", rx=4, **place))
            body += self._series(one, y)
            y += self.height + _SPACE
        notes = " ".join(["A column's height is how many samples took so long.", *self.scene.notes()])
        if body:
            marks = [
                (self.left + share * self.pixels, label) for share, label in ticks(self.scene, at_most=9)
            ]
            body = [*grounds, *grid(marks, bottom=y - _SPACE), *body]
            body.append(tag("text", notes, class_="muted label", x=EDGE, y=y + 12))
        return page(
            body or nothing("No samples."),
            scope="roost-latency",
            title=self.title,
            summary=self.scene.summary(),
            told=" ".join(f"{line}." for line in self.scene.tale()),
            height=y + 30 if body else 120,
        )

    def _series(self, one: Series, top: float) -> list[str]:
        room = self.left - EDGE - 12
        first, second = _beside(one)
        parts = beside(
            one.name or first, second if not one.name else first, y=top + 20, room=room, full=one.name
        )
        if one.name and second:
            parts.append(
                tag("text", foreign(fit(second, room, 10.5)), class_="muted label", x=EDGE, y=top + 50)
            )
        return [*parts, *self._columns(one, top), *self._percentiles(one, top)] if one.spread.count else parts

    def _columns(self, one: Series, top: float) -> list[str]:
        """One path, in steps; what is there at all is 1.5 pixels high."""
        base = top + self.height
        most = max(one.columns)
        tall = self.height - _MARKS - _ABOVE
        each = self.pixels / len(one.columns)
        pieces = []
        for at, count in enumerate(one.columns):
            if count:
                x, high = self.left + at * each, max(count / most * tall, 1.5)
                wide = max(each - 1, 1.0)
                pieces.append(f"M{number(x)} {number(base)}v-{number(high)}h{number(wide)}v{number(high)}z")
        told = f"at most {counted(most, 'sample')} in a column"
        return [tag("g", tag("title", told) + tag("path", class_="done", d="".join(pieces)))]

    def _percentiles(self, one: Series, top: float) -> list[str]:
        """Lines with their names above them; names that would meet are moved apart, p99 to the right."""
        marks = one.spread.marks
        at = [self.left + self.scene.share(value) * self.pixels for _, value in marks]
        texts = [f"{name} {figure(value)}" for name, value in marks]
        wides = [width(text, 10.5, bold=True) + 10 for text in texts]
        places = _apart(at, wides, self.left + 4, self.left + self.pixels - 4)
        parts = []
        for x, place, text in zip(at, places, texts, strict=True):
            line = f"M{number(place)} {number(top + _MARKS - 4)}L{number(x)} {number(top + _MARKS + 3)}V"
            parts.append(tag("path", class_="percentile", d=f"{line}{number(top + self.height)}"))
            label = tag("text", text, class_="ink percent", x=place, y=top + 12.5, text_anchor="middle")
            parts.append(label)
        return parts


def _apart(at: list[float], wides: list[float], low: float, high: float) -> list[float]:
    """Middles of texts so `wide`, in order, as near to `at` as they get without meeting, between two ends."""
    places = list(at)
    before = low
    for index, wide in enumerate(wides):  # not further left than fits
        places[index] = max(places[index], before + wide / 2)
        before = places[index] + wide / 2
    after = high
    for index in reversed(range(len(wides))):
        places[index] = min(places[index], after - wides[index] / 2)
        after = places[index] - wides[index] / 2
    return places


def _beside(one: Series) -> tuple[str, str]:
    found = one.spread
    if not found.count:
        return "no samples", ""
    return f"n = {found.count:,}", f"{figure(found.least_s)} to {figure(found.most_s)}"
