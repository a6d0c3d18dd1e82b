"""A timeline as SVG: header, axis, one track per instance, legend.

The layout is a single column of tracks below one time axis. Everything that may be long (names, errors) is
cut to its room and repeated in full as a tooltip; the whole stands in `<desc>` for those who cannot see it.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Sequence
from functools import partial
from typing import NamedTuple

from roost._text import clean
from roost.pictures._axis import duration, ticks
from roost.pictures._frame import EDGE, RIGHT, TOP, WIDTH, beside, grid, hatch_id, legend, nothing, page
from roost.pictures._lanes import KINDS, Bar, Kind, Scene, Strand, peak, profile
from roost.pictures._signs import arrow, cross, handover, resumed, stop
from roost.pictures._svg import foreign, number, tag, width
from roost.pictures._tale import name_of, tell
from roost.pictures._tracks import PIXELS, Placed, Plan, Track, plan
from roost.pictures._words import began, counted, name, summary, tally, work

_ROW, _BAR = 17, 12
_PAD = 6  # above and below the rows of a track
_BAND, _MARKS = 34, 13  # heights of a profile and of the marks above it
_MANY, _LOW_BAND, _LOW_PAD = 16, 18, 3  # beyond so many tracks, profiles are this low
_LEAST, _SPACE = 36, 6  # height of a track, space between two
_COLUMN = 2  # pixels that one column of a profile is wide
_ARROWS = 60  # to other instances: more are a thicket
_TOOLTIPS = 600  # bars that get one: beyond, the file would weigh more than it helps


def draw(scene: Scene, title: str, *, notes: Sequence[str] = ()) -> str:
    """The whole picture, `WIDTH` pixels wide and as high as it needs."""
    return _Drawing(scene, title, notes).svg()


class _Place(NamedTuple):
    """Where an attempt is drawn."""

    number: int
    start: float
    to: float
    y: float
    lane: str


class _Drawing:
    def __init__(self, scene: Scene, title: str, notes: Sequence[str]) -> None:
        self.scene = scene
        self.title = title
        self.notes = notes
        self.lane = ""  # that is drawn just now
        self.attempts: dict[int, list[_Place]] = {}  # of each task with several
        self.left = EDGE + _gutter(scene) + 12
        self.pixels = WIDTH - EDGE - RIGHT - self.left
        self.plan: Plan = plan(scene, extent=self.pixels, grain=PIXELS)
        self.shown: set[str] = set()  # what the legend must explain
        low = len(self.plan.tracks) > _MANY
        self.band, self.pad = (_LOW_BAND, _LOW_PAD) if low else (_BAND, _PAD)
        self.columns = self.pixels // _COLUMN
        self.scale = self._scale()
        self.tooltips = (
            sum(len(one.lane.strands) for one in self.plan.tracks if one.placed is not None) <= _TOOLTIPS
        )
        self.hatch = hatch_id(title, scene.began_s, scene.span_s, scene.counts)

    def _scale(self) -> float:
        """What the full height of a profile stands for: the same for all, so that lanes can be compared."""
        profiles = [one for one in self.plan.tracks if one.placed is None]
        tops = [max(self._means(one, KINDS), default=0.0) / one.instances for one in profiles]
        return max([*tops, 1e-9])

    def _means(self, track: Track, kinds: Sequence[Kind]) -> list[float]:
        spans = [span for kind in kinds for span in track.lane.spans(kind)]
        return profile(spans, columns=self.columns, span_s=self.scene.span_s)

    def x(self, at_s: float) -> float:
        share = at_s / self.scene.span_s if self.scene.span_s > 0 else 0.0
        return self.left + share * self.pixels

    def svg(self) -> str:
        y = TOP
        grounds: list[str] = []
        body: list[str] = []
        rows: list[tuple[float, Callable[[float], list[str]]]] = []
        if not self.plan.waits:
            rows.append((self._high, self._waiting))
        rows += [(self._height(track), partial(self._track, track)) for track in self.plan.tracks]
        for height, paint in rows:
            grounds.append(
                tag("rect", class_="track", x=self.left, y=y, width=self.pixels, height=height, rx=4)
            )
            body += paint(y)
            y += round(height) + _SPACE
        body += self._handovers()
        height = 120.0
        if rows:
            marks = [(self.x(tick.at_s), tick.label) for tick in ticks(self.scene.span_s, at_most=9)]
            signs, height = self._legend(y + 10)
            body = [*grounds, *grid(marks, bottom=y - _SPACE), *body, *signs]
            height = round(y + 10 + height + 16)
        return page(
            body if rows else nothing("No task was recorded."),
            scope="roost-timeline",
            title=self.title,
            summary=summary(self.scene.counts),
            told=self._description(),
            height=height,
            hatch=self.hatch,
        )

    # --- around the tracks --------------------------------------------------------------------------

    def _description(self) -> str:
        lines = [f"{counted(len(self.scene.lanes), 'lane')} over {duration(self.scene.span_s)}."]
        for track in self.plan.tracks[:20]:
            done = work(track.lane, self.scene.span_s, instances=track.instances)
            lines.append(f"{name(track)}: {done} ({tally(track.lane)}).")
        lines += [f"{' '.join(parts)}." for parts in tell(self.scene, each=0)]
        return " ".join(lines)

    def _gutter(self, top: float, title: str, text: str, height: float, full: str = "") -> list[str]:
        middle = top + min(height, 60) / 2
        return beside(title, text, y=middle - 3, room=self.left - EDGE - 12, full=full)

    def _legend(self, top: float) -> tuple[list[str], float]:
        """Only what the picture holds, then notes on how to read it."""
        parts, height = legend([one[1:] for one in self._signs() if one[0] in self.shown], top=top)
        y = top + height
        for line in self._notes():
            parts.append(tag("text", line, class_="muted label", x=EDGE, y=y + 10))
            y += 16
        return parts, y - top

    def _signs(self) -> list[tuple[str, str, float, str]]:
        """What a legend may explain: name, meaning, width and drawing of each sign."""
        box = {kind: "".join(self._box(kind, 0, 0, 14)) for kind in KINDS if kind in self.shown}
        return [
            ("run", "coordinates a run", 14, box.get("run", "")),
            ("left", "until taken over", 14, box.get("left", "")),
            ("resumed", "resumed", 10, resumed(10, 6)),
            ("step", "step", 14, box.get("step", "")),
            ("done", "done", 14, box.get("done", "")),
            ("running", "running", 14, box.get("running", "")),
            ("failed", "failed, tried again", 14, box.get("failed", "")),
            ("lost", "lost: its process died", 14, box.get("lost", "")),
            ("dead", "failed for good", 14, box.get("dead", "")),
            ("cross", "dead letter", 8, "".join(cross(4, 6))),
            ("cancelled", "cut off", 14, box.get("cancelled", "")),
            ("stop", "cancelled", 3, "".join(stop(1.5, 6))),
            ("retry", "another attempt", 5, arrow(5, 6)),
            ("handover", "went on there", 8, tag("path", class_="handover", d="M4 0V11M1 7L4 11L7 7")),
            ("queued", "in the queue", 15, tag("path", class_="queued", d="M.8 3v6M0 6H15")),
            ("queue", "in the queue", 14, tag("rect", class_="queue", width=14, height=12, rx=2)),
            ("backoff", "backing off", 15, tag("path", class_="backoff", d="M0 6H15")),
            ("again", "backing off", 14, tag("rect", class_="again", width=14, height=12, rx=2)),
        ]

    def _notes(self) -> list[str]:
        notes = [f"Began {began(self.scene.began_s)}."]
        if any(one.placed is None for one in self.plan.tracks):
            top = f"{self.scale:.0f}" if self.scale >= 9.5 else f"{self.scale:.1f}".removesuffix(".0")
            notes[0] += (
                " A profile stands for more attempts than fit as bars;"
                f" its height is how many ran at once in an instance, at most {top}."
            )
        return [*notes, *self.notes]

    # --- tracks -------------------------------------------------------------------------------------

    @property
    def _high(self) -> float:
        """The height of a track that holds a profile."""
        return self.pad * 2 + _MARKS + self.band

    def _height(self, track: Track) -> float:
        return self._high if track.placed is None else max(_LEAST, track.rows * _ROW + 2 * _PAD)

    def _track(self, track: Track, top: float) -> list[str]:
        height = self._height(track)
        does = work(track.lane, self.scene.span_s, instances=track.instances)
        parts = self._gutter(top, name(track), does, height, track.lane.name)
        if track.placed is None:
            return parts + self._profile(track, top)
        self.lane = track.lane.name
        rows = track.rows * _ROW
        for placed in track.placed:
            parts += self._strand(placed, top + (height - rows) / 2)
        return parts

    def _strand(self, placed: Placed, top: float) -> list[str]:
        strand = placed.strand
        y = top + placed.row * _ROW + (_ROW - _BAR) / 2
        middle = y + _BAR / 2
        parts = self._lines(strand, middle) if self.plan.waits else []
        if strand.bar is not None:
            parts += self._bar(strand.bar, y)
        ended = strand.ended
        if ended is not None:
            at = ended if self.plan.waits or strand.bar is None else strand.bar.span.end
            beside = self.x(at) + 7
            if strand.bar is not None:
                beside = max(beside, self.x(strand.bar.span.start) + PIXELS.least + 7)
            parts += cross(beside, middle) if strand.died is not None else stop(beside, middle)
            self.shown.add("cross" if strand.died is not None else "stop")
        return parts

    def _lines(self, strand: Strand, middle: float) -> list[str]:
        parts = []
        for wait in (strand.before, strand.after):
            if wait is None:
                continue
            start, end = self.x(wait.span.start), self.x(wait.span.end)
            if end - start < 1:
                continue
            tick = f"M{number(start + 0.8)} {number(middle - 3)}v6" if wait.kind == "queued" else ""
            line = f"{tick}M{number(start)} {number(middle)}H{number(end)}"
            parts.append(tag("path", class_=wait.kind, d=line))
            self.shown.add(wait.kind)
        return parts

    def _bar(self, bar: Bar, y: float) -> list[str]:
        start = self.x(bar.span.start)
        long = max(self.x(bar.span.end) - start, PIXELS.least)
        parts = self._box(bar.kind, start, y, long)
        if bar.number > 1:
            again = bar.task.kind == "run"
            parts.append((resumed if again else arrow)(start, y + _BAR / 2))
            self.shown.add("resumed" if again else "retry")
        if bar.task.attempts[1:]:
            place = _Place(bar.number, start, start + long, y + _BAR / 2, self.lane)
            self.attempts.setdefault(id(bar.task), []).append(place)
        text = _caption(bar, long - 14) if bar.kind not in ("lost", "left") else ""
        if text:
            parts.append(
                tag("text", foreign(text), class_=f"label on-{bar.kind}", x=start + 7, y=y + _BAR - 2.4)
            )
        if not self.tooltips:
            return parts
        label = f"{name_of(bar.task)}{_attempt(bar)}"
        said = {"run": "coordinated", "left": "coordinated", "step": "done"}.get(bar.kind, bar.kind)
        about = f"{label}: {said}, {duration(bar.span.length)}{' – ' + bar.error if bar.error else ''}"
        return [tag("g", tag("title", foreign(about, 300)) + "".join(parts))]

    def _handovers(self) -> list[str]:
        """Arrows to the attempts with which other instances went on."""
        parts: list[str] = []
        for places in self.attempts.values():
            for one, other in itertools.pairwise(sorted(places)):
                if one.lane != other.lane and len(parts) < _ARROWS:
                    parts.append(handover(one.to, one.y, max(one.to, other.start), other.y))
        if parts:
            self.shown.add("handover")
        return parts

    def _box(self, kind: str, x: float, y: float, long: float) -> list[str]:
        self.shown.add(kind)
        radius = min(2.5, long / 2)
        box = {"x": x, "y": y, "width": long, "height": _BAR, "rx": radius}
        parts = [tag("rect", class_=kind, **box)]
        if kind in ("lost", "left"):
            parts.append(tag("rect", fill=f"url(#{self.hatch})", **box))
        return parts

    # --- profiles -----------------------------------------------------------------------------------

    def _profile(self, track: Track, top: float) -> list[str]:
        base = top + self.pad + _MARKS + self.band
        floor = [0.0] * self.columns
        parts = []
        for kind in KINDS:
            if not track.lane.spans(kind):
                continue
            means = self._means(track, [kind])
            self.shown.add(kind)
            ceiling = [low + mean for low, mean in zip(floor, means, strict=True)]
            area = self._area(floor, ceiling, base, self.band / self.scale / track.instances)
            parts.append(tag("path", class_=kind, d=area))
            if kind == "lost":
                parts.append(tag("path", fill=f"url(#{self.hatch})", d=area))
            floor = ceiling
        return parts + self._marks(track, top + self.pad + 5)

    def _area(self, low: list[float], high: list[float], base: float, per: float) -> str:
        """Filled steps between two profiles. Columns where they are equal are left out."""
        pieces, column = [], 0
        while column < self.columns:
            if high[column] - low[column] <= 1e-9:
                column += 1
                continue
            first = column
            while column < self.columns and high[column] - low[column] > 1e-9:
                column += 1
            edges = range(first, column)
            there = [f"V{number(base - max(high[i] * per, low[i] * per + 0.7))}h{_COLUMN}" for i in edges]
            back = [f"V{number(base - low[i] * per)}h-{_COLUMN}" for i in reversed(edges)]
            begin = f"M{number(self.left + first * _COLUMN)} {number(base - low[first] * per)}"
            pieces.append(begin + "".join(there) + "".join(back) + "z")
        return "".join(pieces)

    def _marks(self, track: Track, y: float) -> list[str]:
        """What is rare, above a profile: failures and losses as ticks, deaths as crosses with their number."""
        parts = []
        again = {int(self.x(bar.span.start)) for bar in track.lane.bars if _is_resumed(bar)}
        if again:
            self.shown.add("resumed")
        parts += [resumed(x + 9, y) for x, _ in _clusters([float(one) for one in again])]
        for kind in ("failed", "lost", "left"):
            at = {int(self.x(bar.span.end)) // 3 * 3 for bar in track.lane.bars if bar.kind == kind}
            parts += [tag("rect", class_=kind, x=x, y=y - 4, width=2, height=9) for x in sorted(at)]
        for strands, draw_mark, sign in (
            ([one.died for one in track.lane.strands if one.died is not None], cross, "cross"),
            ([one.cancelled for one in track.lane.strands if one.cancelled is not None], stop, "stop"),
        ):
            if strands:
                self.shown.add(sign)
            for x, count in _clusters([self.x(one) for one in strands]):
                text = f"×{count:,}"
                if count > 1:  # on a ground of its own, or ticks would show through the figures
                    long = 15 + width(text, 10.5)
                    parts.append(tag("rect", class_="track", x=x - 6, y=y - 5, width=long, height=11))
                parts += draw_mark(x, y)
                if count > 1:
                    parts.append(tag("text", text, class_="muted label count", x=x + 7, y=y + 4))
        return parts

    def _waiting(self, top: float) -> list[str]:
        """One strip for everything that waited: in the queue below, backing off above."""
        queued, again = self.scene.waits("queued"), self.scene.waits("backoff")
        most = peak([*queued, *again])
        text = f"at most {counted(most, 'task')}"
        parts = self._gutter(top, "waiting", text, self._high)
        base = top + self.pad + _MARKS + self.band
        first = profile(queued, columns=self.columns, span_s=self.scene.span_s)
        second = profile(again, columns=self.columns, span_s=self.scene.span_s)
        both = [a + b for a, b in zip(first, second, strict=True)]
        scale = max([*both, 1e-9])
        for low, high, kind in (([0.0] * self.columns, first, "queue"), (first, both, "again")):
            if any(b - a > 1e-9 for a, b in zip(low, high, strict=True)):
                self.shown.add(kind)
                parts.append(tag("path", class_=kind, d=self._area(low, high, base, self.band / scale)))
        for lane in self.scene.lanes:
            if not lane.name:
                parts += self._marks(Track(lane=lane, placed=None), top + self.pad + 5)
        return parts


def _gutter(scene: Scene) -> int:
    """Room for the names of lanes: as much as they need, within reason."""
    needed = [width(lane.name, 12, bold=True) for lane in scene.lanes]
    needed += [width(work(lane, scene.span_s), 10.5) for lane in scene.lanes]
    return math.ceil(min(max([*needed, 96.0]), 190.0))


def _is_resumed(bar: Bar) -> bool:
    return bar.task.kind == "run" and bar.number > 1


def _attempt(bar: Bar) -> str:
    if bar.number < 2:
        return ""
    return ", resumed" if bar.task.kind == "run" else f", attempt {bar.number}"


def _caption(bar: Bar, room: float) -> str:
    """The most telling text that fits into a bar whole; empty if none does."""
    again = _attempt(bar).removeprefix(", ")
    task, key = name_of(bar.task), clean(bar.task.id.partition(":")[2] or bar.task.id, 400)
    for text in (f"{task}, {again}" if again else "", task, key, again, str(bar.number)):
        if text and (again or text != str(bar.number)) and width(text, 10.5) <= room:
            return text
    return ""


def _clusters(places: list[float]) -> list[tuple[float, int]]:
    """Marks that would overlap, put together: the first place and how many."""
    found: list[tuple[float, int]] = []
    for x in sorted(places):
        if found and x - found[-1][0] < 34:
            found[-1] = (found[-1][0], found[-1][1] + 1)
        else:
            found.append((x, 1))
    return found
