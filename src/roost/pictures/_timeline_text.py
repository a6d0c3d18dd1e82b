"""A timeline in characters, for terminals, logs and readers of `text/plain`.

The same lanes and the same choice between bars and profiles as in the SVG, only coarser: one column of
characters is what a dozen pixels are there. No colour: it goes through pipes and into files.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable, Sequence

from roost._text import clean
from roost.pictures._axis import ticks
from roost.pictures._lanes import KINDS, Bar, Kind, Scene, Span, Strand, peak, profile
from roost.pictures._tale import tell
from roost.pictures._tracks import CHARACTERS, Track, plan
from roost.pictures._words import NO_ATTEMPT, began, counted, name, summary, work

_SOLID: dict[Kind, str] = {
    "run": "━",
    "left": "┅",
    "step": "■",
    "done": "█",
    "running": "▓",
    "cancelled": "▓",
    "failed": "▒",
    "dead": "▒",
    "lost": "░",
}
_LINE = {"queued": "─", "backoff": "╌"}
_STEPS = " ▁▂▃▄▅▆▇█"
_DEAD, _CANCELLED, _FAILED, _LOST, _RESUMED, _AGAIN = "×", "|", "!", "?", ">", "2"
_MEANING = {
    "━": "coordinates a run",
    "┅": "the same, until taken over",
    _RESUMED: "resumed",
    "■": "step",
    "█": "done",
    "▓": "running or cancelled",
    "▒": "failed",
    "░": "lost (process died)",
    "─": "in the queue",
    "╌": "backing off",
    _FAILED: "failed attempts",
    _LOST: "lost attempts",
    _AGAIN: "second attempt, and so on",
    _CANCELLED: "cancelled",
    _DEAD: "dead letter",
}
_STATS = 29  # characters at the right for what a lane did


def draw(scene: Scene, title: str, width: int, *, notes: Sequence[str] = ()) -> str:
    """The whole picture as lines joined by line feeds, without one at the end."""
    head = [shorten(clean(title, 400), width), *flowed(summary(scene.counts), width)]
    if not scene.lanes:
        return "\n".join([*head, "", "No task was recorded.", *flowed(list(notes), width)])
    page = _Page(scene, width)
    body = page.body()
    told = [line for parts in tell(scene) for line in flowed(parts, width, between=" ", indent="    ")]
    lines = [*head, "", *page.axis(), *body, "", *page.legend(), *flowed(list(notes), width), "", *told]
    return "\n".join(line.rstrip() for line in lines).rstrip("\n")


class _Page:
    def __init__(self, scene: Scene, width: int) -> None:
        self.scene = scene
        self.width = width
        longest = max([cells(clean(one.name)) for one in scene.lanes] + [len(NO_ATTEMPT)])
        self.left = min(longest, width // 4) + 2
        self.right = _STATS if width >= 80 else 0
        self.columns = width - self.left - self.right
        self.plan = plan(scene, extent=self.columns, grain=CHARACTERS)
        self.used: dict[str, None] = {}

    def column(self, at_s: float) -> int:
        share = at_s / self.scene.span_s if self.scene.span_s > 0 else 0.0
        return min(int(share * self.columns), self.columns - 1)

    def axis(self) -> list[str]:
        line = [" "] * self.width
        free_from = 0
        for tick in ticks(self.scene.span_s, at_most=max(2, self.columns // 10)):
            at = self.left + self.column(tick.at_s)
            if at >= free_from and at + len(tick.label) <= self.width:
                line[at : at + len(tick.label)] = tick.label
                free_from = at + len(tick.label) + 1
        return ["".join(line)]

    def body(self) -> list[str]:
        lines = [] if self.plan.waits else self._waiting()
        for track in self.plan.tracks:
            rows = self._profile(track) if track.placed is None else self._bars(track)
            lines += self._beside(
                name(track), rows, work(track.lane, self.scene.span_s, instances=track.instances)
            )
        return lines

    def legend(self) -> list[str]:
        parts = [f"{sign} {meaning}" for sign, meaning in _MEANING.items() if sign in self.used]
        if any(one.placed is None for one in self.plan.tracks):
            parts.insert(0, "▁▄█ attempts at once, many to a column")
        return flowed([*parts, f"began {began(self.scene.began_s)}"], self.width)

    def _beside(self, title: str, rows: list[str], text: str) -> list[str]:
        label = shorten(clean(title), self.left - 2)
        lines = [label + " " * (self.left - cells(label)) + rows[0]]
        lines += [" " * self.left + row for row in rows[1:]]
        if self.right:
            lines[0] = lines[0] + "  " + shorten(text, self.right - 2)
        return lines

    def _bars(self, track: Track) -> list[str]:
        rows = [[" "] * self.columns for _ in range(track.rows)]
        for placed in track.placed or ():
            self._strand(rows[placed.row], placed.strand)
        return ["".join(row) for row in rows]

    def _strand(self, row: list[str], strand: Strand) -> None:
        for wait in (strand.before, strand.after) if self.plan.waits else ():
            if wait is not None:
                self._fill(row, wait.span, _LINE[wait.kind], least=0)
        if strand.bar is not None:
            self._fill(row, strand.bar.span, _SOLID[strand.bar.kind], least=1)
            if strand.bar.number > 1:
                row[self.column(strand.bar.span.start)] = self._number(strand.bar)
        if strand.ended is not None:
            at = strand.ended if self.plan.waits or strand.bar is None else strand.bar.span.end
            after = self.column(strand.bar.span.start) + 1 if strand.bar is not None else 0
            sign = _DEAD if strand.died is not None else _CANCELLED
            row[min(max(self.column(at), after), self.columns - 1)] = self._use(sign)

    def _number(self, bar: Bar) -> str:
        """What stands at the beginning of an attempt that is not the first."""
        if bar.task.kind == "run":
            return self._use(_RESUMED)
        self._use(_AGAIN)
        return str(min(bar.number, 9))

    def _fill(self, row: list[str], span: Span, sign: str, *, least: int) -> None:
        share = self.columns / self.scene.span_s if self.scene.span_s > 0 else 0.0
        first = self.column(span.start)
        last = max(first + least, round(span.end * share))
        for at in range(first, min(last, self.columns)):
            row[at] = self._use(sign)

    def _profile(self, track: Track) -> list[str]:
        bars = track.lane.bars
        rows = [self._steps([span for kind in KINDS for span in track.lane.spans(kind)])]
        marks = [" "] * self.columns
        for kind, sign in (("failed", _FAILED), ("dead", _FAILED), ("lost", _LOST)):
            for bar in bars:
                if bar.kind == kind:
                    marks[self.column(bar.span.end)] = self._use(sign)
        for bar in bars:
            if bar.task.kind == "run" and bar.number > 1:
                marks[self.column(bar.span.start)] = self._use(_RESUMED)
        for strand in track.lane.strands:
            if strand.ended is not None:
                sign = _DEAD if strand.died is not None else _CANCELLED
                marks[self.column(strand.ended)] = self._use(sign)
        return [*rows, "".join(marks)] if any(sign != " " for sign in marks) else rows

    def _waiting(self) -> list[str]:
        spans = [*self.scene.waits("queued"), *self.scene.waits("backoff")]
        rows = [self._steps(spans)]
        for lane in self.scene.lanes:
            if not lane.name:
                rows += self._profile(Track(lane=lane, placed=None))[1:]
        return self._beside("waiting", rows, f"at most {counted(peak(spans), 'task')}")

    def _steps(self, spans: Iterable[Span]) -> str:
        means = profile(spans, columns=self.columns, span_s=self.scene.span_s)
        most = max([*means, 1e-9])
        return "".join(_STEPS[0 if mean <= 1e-9 else max(1, round(mean / most * 8))] for mean in means)

    def _use(self, sign: str) -> str:
        self.used[sign] = None
        return sign


def cells(text: str) -> int:
    """How many columns of a terminal a text takes."""
    return sum(
        0 if unicodedata.combining(one) else 2 if unicodedata.east_asian_width(one) in "WF" else 1
        for one in text
    )


def shorten(text: str, room: int) -> str:
    """`text` in at most `room` columns, its middle taken out if need be."""
    keep = len(text) - 1
    short = text
    while cells(short) > room:
        short = f"{text[: (keep + 1) // 2]}…{text[len(text) - keep // 2 :]}"
        keep -= 1
    return short


def flowed(parts: list[str], width: int, *, between: str = "   ", indent: str = "") -> list[str]:
    """Parts side by side, on as many lines as they need."""
    lines: list[str] = []
    for part in parts:
        if lines and cells(lines[-1]) + len(between) + cells(part) <= width:
            lines[-1] += between + part
        else:
            begin = indent if lines else ""
            lines.append(begin + shorten(part, width - len(begin)))
    return lines
