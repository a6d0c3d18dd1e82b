"""Strips of breakers as SVG: a thin line while closed, a block while open, with a mark where each probe ended.

A closed breaker is what nobody needs to look at, so it is drawn as little as a wire; what stands out is what was
refused, how long, and why.
"""

from __future__ import annotations

import math

from roost.pictures._axis import duration, ticks
from roost.pictures._breakers import WORDS, State, Stretch, Strip, Strips
from roost.pictures._frame import EDGE, RIGHT, TOP, WIDTH, beside, grid, hatch_id, legend, nothing, page
from roost.pictures._signs import cross
from roost.pictures._svg import fit, foreign, tag, width
from roost.pictures._words import began

_HEIGHT, _SPACE = 48, 6  # of a track, and between two
_BLOCK, _WIRE, _MIDDLE = 20, 3, 18  # heights of open and closed, and where their middle is
_LEAST = 3  # pixels that an opening and a probe take at least, so that they are seen
_APART = 12  # pixels between two marks
_LITTLE, _ROOMY = 90, 300  # pixels below which a reason says nothing, and within which it says most
_TOOLTIPS = 300
_CLASS: dict[State, str] = {"closed": "done", "half_open": "failed", "open": "dead"}


def draw(scene: Strips, title: str) -> str:
    """The whole picture, `WIDTH` pixels wide and as high as it needs."""
    return _Drawing(scene, title).svg()


class _Drawing:
    def __init__(self, scene: Strips, title: str) -> None:
        self.scene = scene
        self.title = title
        names = [width(one.name, 12, bold=True) for one in scene.strips]
        needed = max([*names, *(width(one.work(), 10.5) for one in scene.strips), 96.0])
        self.left = EDGE + math.ceil(min(needed, 210.0)) + 12
        self.pixels = WIDTH - EDGE - RIGHT - self.left
        self.tooltips = sum(len(one.stretches) for one in scene.strips) <= _TOOLTIPS
        self.hatch = hatch_id(title, scene)

    def x(self, at_s: float) -> float:
        share = at_s / self.scene.span_s if self.scene.span_s > 0 else 0.0
        return self.left + share * self.pixels

    def svg(self) -> str:
        y = TOP
        grounds, body = [], []
        for strip in self.scene.strips:
            place = {"x": self.left, "y": y, "width": self.pixels, "height": _HEIGHT}
            grounds.append(tag("rect", class_="track", rx=4, **place))
            room = self.left - EDGE - 12
            body += beside(strip.name, strip.work(), y=y + 21, room=room, full=strip.name)
            body += self._strip(strip, y)
            y += _HEIGHT + _SPACE
        marks = [(self.x(tick.at_s), tick.label) for tick in ticks(self.scene.span_s, at_most=9)]
        if body:
            body = [*grounds, *grid(marks, bottom=y - _SPACE), *body, *self._legend(y + 8)]
        return page(
            body or nothing("No breaker opened."),
            scope="roost-breakers",
            title=self.title,
            summary=self.scene.summary(),
            told=" ".join(f"{one}." for one in self.scene.tale(40)),
            height=y + 42 if body else 120,
            hatch=self.hatch,
        )

    def _strip(self, strip: Strip, top: float) -> list[str]:
        middle = top + _MIDDLE
        parts: list[str] = []
        seen: set[tuple[State, int, int]] = set()
        for one in sorted(
            strip.stretches, key=lambda each: ("closed", "open", "half_open").index(each.state)
        ):
            x = self.x(one.start)
            to = max(self.x(one.end), x + (_LEAST if one.state != "closed" else 0))
            pixel = (one.state, round(x), round(to))
            if pixel in seen:  # a flapping breaker over a day: more than there are pixels
                continue
            seen.add(pixel)
            parts.append(self._block(strip, one, x, min(to, self.left + self.pixels), middle))
        return [*parts, *self._probes(strip, middle), *self._reasons(strip, top)]

    def _block(self, strip: Strip, one: Stretch, x: float, to: float, middle: float) -> str:
        height = _WIRE if one.state == "closed" else _BLOCK
        place = {"x": x, "y": middle - height / 2, "width": to - x, "height": height}
        block = tag("rect", class_=_CLASS[one.state], **place)
        if one.state == "half_open":
            block += tag("rect", fill=f"url(#{self.hatch})", **place)
        lasted = duration(one.end - one.start)
        if one.state == "open" and width(lasted, 10.5) + 14 <= to - x:
            block += tag("text", lasted, class_="on-dead label", x=x + 6, y=middle + 4)
        if not self.tooltips:
            return block
        told = f"{strip.name}: {WORDS[one.state]} for {lasted}" + (f": {one.reason}" if one.reason else "")
        return tag("g", tag("title", foreign(told, 400)) + block)

    def _probes(self, strip: Strip, middle: float) -> list[str]:
        """A cross above each probe that failed, a point above one that went well."""
        parts: list[str] = []
        free = -math.inf
        for one in strip.stretches:
            x = max(self.x(one.end), self.x(one.start) + _LEAST) - _LEAST / 2
            if not one.probe or x < free:
                continue
            free = x + _APART
            parts += self._mark(one.probe, x, middle - _BLOCK / 2 - 2)
        return parts

    def _mark(self, probe: str, x: float, y: float) -> list[str]:
        if probe == "failed":
            return cross(x, y)
        return [
            tag("circle", class_="ground", cx=x, cy=y, r=6),
            tag("circle", class_="done", cx=x, cy=y, r=4),
        ]

    def _reasons(self, strip: Strip, top: float) -> list[str]:
        """Why it opened, below each outage, as far as there is room to the next."""
        outages = strip.outages
        last = float(self.left + self.pixels - 6)
        ends = [self.x(at) - 10 for at, _ in outages[1:]] + [last]
        parts = []
        for (at, reason), end in zip(outages, ends, strict=False):  # none of none
            x = self.x(at)
            if len(outages) == 1 and last - x < _ROOMY:  # to its left there is room
                text, place = fit(reason, self.pixels - 12, 10.5), last
            else:
                text, place = fit(reason, end - x, 10.5) if end - x > _LITTLE else "", x
            if text:
                anchor = "start" if place == x else "end"
                parts.append(
                    tag(
                        "text",
                        foreign(text, 200),
                        class_="muted label",
                        x=place,
                        y=top + 41,
                        text_anchor=anchor,
                    )
                )
        return parts

    def _legend(self, top: float) -> list[str]:
        box = {"x": 0, "y": 0, "width": 14, "height": 12}
        half = tag("rect", class_="failed", **box) + tag("rect", fill=f"url(#{self.hatch})", **box)
        wire = tag("rect", class_="done", x=0, y=4.5, width=14, height=_WIRE)
        signs = [
            ("closed", 14, wire),
            ("open", 14, tag("rect", class_="dead", **box)),
            ("half open", 14, half),
            ("probe failed", 14, "".join(cross(7, 6))),
            ("probe went well", 14, "".join(self._mark("went well", 7, 6))),
            (f"began {began(self.scene.began_s)}", 0, ""),
        ]
        return legend(signs, top=top)[0]
