"""A timeline as Mermaid text: a Gantt chart with a section for each instance.

Mermaid takes seconds for thousands of bars, and nobody can read them. So each attempt is a bar, with its waiting
if there is room for that too; of more attempts, those of a lane that ended in the same part of the time are one
bar that says how many they were.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from roost.pictures._lanes import Bar, Kind, Lane, Scene, Strand
from roost.pictures._tale import name_of
from roost.pictures._tracks import together
from roost.pictures._words import NO_ATTEMPT, summary

MOST = 200
"""Bars."""
PARTS = 20
"""Of the time, at most, when attempts are put together."""
_TAGS: dict[Kind, str] = {
    "run": "done, ",
    "left": "crit, done, ",
    "step": "",
    "done": "",
    "running": "active, ",
    "failed": "crit, ",
    "dead": "crit, ",
    "lost": "crit, ",
    "cancelled": "done, ",
}
_WORDS: dict[Kind, str] = {"run": "", "left": "taken over", "step": "", "done": "", "dead": "failed"}
_UNSAFE = re.compile(r"[^\w ,./@+-]")
SHORT = 0.01
"""Waiting that lasts for less of the time has no bar."""


def draw(scene: Scene, title: str, *, notes: Sequence[str] = ()) -> str:
    """The chart. What is put together or left out is said in it."""
    bars = sum(len(lane.strands) for lane in scene.lanes)
    waits = sum(len(_waits(scene, strand)) for lane in scene.lanes for strand in lane.strands)
    about = [", ".join(summary(scene.counts)), *notes]
    if bars > MOST:
        about.append("attempts that ended about the same time are one bar")
    lines = [
        "gantt",
        f"    accDescr: {_plain('. '.join(about), 400)}",
        f"    title {_plain(f'{title} - {about[0]}', 200)}",
        "    dateFormat x",
        f"    axisFormat {'%H:%M:%S' if scene.span_s >= 15 else '%H:%M:%S.%L'}",
    ]
    for lane, instances in together(scene.lanes):
        name = f"{instances} more instances" if instances > 1 else lane.name or NO_ATTEMPT
        rows = _few(scene, lane, waits=bars + waits <= MOST) if bars <= MOST else _many(scene, lane)
        lines += [f"    section {_plain(name)}", *rows]
    return "\n".join(lines)


def _waits(scene: Scene, strand: Strand) -> list[tuple[str, float, float]]:
    """What an attempt waited for, and from when to when."""
    return [
        ("in the queue" if wait.kind == "queued" else "backing off", wait.span.start, wait.span.end)
        for wait in (strand.before, strand.after)
        if wait is not None and (strand.bar is None or wait.span.length > SHORT * scene.span_s)
    ]


def _few(scene: Scene, lane: Lane, *, waits: bool) -> list[str]:
    """A bar for each attempt; what never began is there in any case."""
    lines = []
    for strand in sorted(lane.strands, key=lambda one: one.span.start):
        name = name_of(strand.task)
        if waits or strand.bar is None:
            lines += [
                _bar(scene, f"{name} {what}", "done, ", start, end)
                for what, start, end in _waits(scene, strand)
            ]
        if strand.bar is not None:
            lines.append(_attempt(scene, strand.bar, name))
        if strand.ended is not None:
            word = "dead letter" if strand.died is not None else "cancelled"
            tag = "crit, milestone, " if strand.died is not None else "milestone, "
            lines.append(_bar(scene, f"{name} {word}", tag, strand.ended, strand.ended))
    return lines


def _attempt(scene: Scene, bar: Bar, name: str) -> str:
    again = ""
    if bar.number > 1:
        again = " resumed" if bar.task.kind == "run" else f" attempt {bar.number}"
    word = _WORDS.get(bar.kind, bar.kind)
    text = f"{name}{again}{' ' + word if word else ''}"
    return _bar(scene, text, _TAGS[bar.kind], bar.span.start, bar.span.end)


def _many(scene: Scene, lane: Lane) -> list[str]:
    """A bar for each part of the time in which attempts of a lane ended; coordination is drawn as it is."""
    lines = [_attempt(scene, bar, name_of(bar.task)) for bar in lane.bars if bar.task.kind == "run"]
    if len(lines) > PARTS:
        lines = []
    parts: dict[int, list[Strand]] = {}
    columns = max(1, min(PARTS, MOST // max(1, min(len(scene.lanes), 40))))
    for strand in lane.strands:
        if strand.task.kind != "run" or not lines:
            at = strand.bar.span.end if strand.bar is not None else strand.span.end
            share = at / scene.span_s if scene.span_s > 0 else 0.0
            parts.setdefault(min(int(share * columns), columns - 1), []).append(strand)
    for column, strands in sorted(parts.items()):
        kinds = Counter(map(_what, strands))
        dead = kinds["dead"]
        told = [f"{number} {kind}" for kind, number in kinds.items()]
        begin = scene.span_s * column / columns
        tag = "crit, " if dead else ""
        lines.append(_bar(scene, " + ".join(told), tag, begin, begin + scene.span_s / columns))
    return lines


def _what(strand: Strand) -> str:
    """What became of an attempt, or of a task that was never begun."""
    if strand.died is not None:
        return "dead"
    if strand.bar is None:
        return "cancelled" if strand.cancelled is not None else NO_ATTEMPT
    return strand.bar.kind


def _bar(scene: Scene, text: str, tag: str, start: float, end: float) -> str:
    begin = int((scene.began_s + start) * 1000)
    over = max(begin + 1, int((scene.began_s + end) * 1000))
    return f"    {_plain(text)} :{tag}{begin}, {over}"


def _plain(text: str, limit: int = 80) -> str:
    """Text in which nothing means anything to Mermaid."""
    return _UNSAFE.sub(" ", text)[:limit].strip() or "-"
