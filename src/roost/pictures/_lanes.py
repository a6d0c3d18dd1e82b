"""From task histories to swim lanes: who ran what when, and what each task waited for. Pure.

A *strand* is one attempt with what led to it (time in the queue, or backoff after a failure) and what ended
it (a death). A lane holds the strands of one instance. Times here are seconds since the beginning of the
picture.

What a log says may be odd: clocks differ, a process died without a word, a number came from a stranger. Such
values are clamped or completed here, in one place, so that drawing never meets an end before its start.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

from roost.tasks.history import Attempt, TaskHistory

Kind = Literal["run", "left", "step", "done", "failed", "dead", "lost", "cancelled", "running"]
"""What a bar is. An attempt that `failed` was tried again, `dead` was the last failure, `lost`: its process died.

A `run` is coordinated; one that was `left` was taken up by another coordinator; a `step` is work of a coordinator.
"""

KINDS: tuple[Kind, ...] = (
    "run",
    "left",
    "step",
    "done",
    "running",
    "cancelled",
    "failed",
    "lost",
    "dead",
)

WaitKind = Literal["queued", "backoff"]

_LATEST_S = 253_402_300_799.0  # the end of the year 9999: as far as calendars go


@dataclass(frozen=True, slots=True)
class Span:
    """From `start` to `end`, seconds since the beginning of the picture."""

    start: float
    end: float

    @property
    def length(self) -> float:
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Wait:
    kind: WaitKind
    span: Span


@dataclass(frozen=True, slots=True)
class Bar:
    """One attempt."""

    kind: Kind
    span: Span
    number: int
    task: TaskHistory
    error: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strand:
    """One attempt (none if a task never ran), the waits before and after it, and a death at its end."""

    task: TaskHistory
    before: Wait | None = None
    bar: Bar | None = None
    after: Wait | None = None
    died: float | None = None
    cancelled: float | None = None

    @property
    def ended(self) -> float | None:
        """When the task died or was cancelled, if that stands at the end of this strand."""
        return self.died if self.died is not None else self.cancelled

    @property
    def span(self) -> Span:
        """All of it, waits included."""
        spans = [one.span for one in (self.before, self.bar, self.after) if one is not None]
        return Span(min(one.start for one in spans), max(one.end for one in spans))


@dataclass(slots=True)
class Lane:
    """What one instance did. `name` is as the log has it, empty for tasks that nobody began."""

    name: str
    strands: list[Strand] = field(default_factory=list)
    _bars: list[Bar] | None = None
    _by_kind: dict[Kind, list[Span]] | None = None

    @property
    def bars(self) -> list[Bar]:
        """The attempts. Asked for once all strands are there: a lane of 10,000 is asked often."""
        if self._bars is None:
            self._bars = [one.bar for one in self.strands if one.bar is not None]
        return self._bars

    @property
    def work(self) -> list[Bar]:
        """Without coordination, which is mostly waiting."""
        return [bar for bar in self.bars if bar.task.kind != "run"]

    def spans(self, kind: Kind) -> list[Span]:
        """Where the work of one kind stands; coordination only where a lane has nothing else."""
        if self._by_kind is None:
            self._by_kind = {}
            for bar in self.work or self.bars:
                self._by_kind.setdefault(bar.kind, []).append(bar.span)
        return self._by_kind.get(kind, [])


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """The figures of the summary line; runs and steps are no tasks."""

    tasks: int
    done: int
    dead: int
    cancelled: int
    running: int  # open, with an attempt under way
    open: int  # without
    retries: int
    seconds: float
    runs: int = 0
    runs_dead: int = 0
    runs_cancelled: int = 0
    runs_open: int = 0
    resumed: int = 0
    steps: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Scene:
    """Everything a timeline shows, before it is known how large anything is drawn."""

    began_s: float  # seconds since 1970
    span_s: float
    counts: Counts
    lanes: tuple[Lane, ...]

    def waits(self, kind: WaitKind) -> list[Span]:
        return [
            wait.span
            for lane in self.lanes
            for strand in lane.strands
            for wait in (strand.before, strand.after)
            if wait is not None and wait.kind == kind
        ]


def scene(tasks: Sequence[TaskHistory], *, until_s: float | None = None) -> Scene:
    """Lanes in natural order of their names; what nobody began comes last.

    The picture ends at the last thing known, or at `until_s` (seconds since 1970) if that is later: an open
    task is drawn up to there.
    """
    moments = [_safe(moment) for task in tasks for moment in _moments(task)]
    began = min(moments, default=0.0)
    ended = max(moments, default=0.0)
    if until_s is not None and moments:
        ended = max(ended, _safe(until_s))
    lanes: dict[str, Lane] = {}
    for task in tasks:
        for name, strand in _strands(task, began, ended):
            lanes.setdefault(name, Lane(name)).strands.append(strand)
    return Scene(
        began_s=began,
        span_s=ended - began,
        counts=_count(tasks, ended - began),
        lanes=tuple(sorted(lanes.values(), key=lambda lane: (not lane.name, natural(lane.name)))),
    )


def _count(histories: Sequence[TaskHistory], seconds: float) -> Counts:
    tasks = [one for one in histories if one.kind == "task"]
    runs = [one for one in histories if one.kind == "run"]
    status = [one.status for one in tasks]
    run_status = [one.status for one in runs]
    running = sum(
        1 for one in tasks if one.status == "open" and any(try_.result == "running" for try_ in one.attempts)
    )
    return Counts(
        tasks=len(tasks),
        done=status.count("done"),
        dead=status.count("dead"),
        cancelled=status.count("cancelled"),
        running=running,
        open=status.count("open") - running,
        retries=sum(one.retries for one in tasks),
        seconds=seconds,
        runs=len(runs),
        runs_dead=run_status.count("dead"),
        runs_cancelled=run_status.count("cancelled"),
        runs_open=run_status.count("open"),
        resumed=sum(one.retries for one in runs),
        steps=len(histories) - len(tasks) - len(runs),
    )


def _moments(task: TaskHistory) -> Iterable[float]:
    yield task.submitted_s
    if task.ended_s is not None:
        yield task.ended_s
    for attempt in task.attempts:
        yield attempt.started_s
        if attempt.ended_s is not None:
            yield attempt.ended_s


def _strands(task: TaskHistory, began: float, ended: float) -> Iterable[tuple[str, Strand]]:
    horizon = ended - began
    now = _safe(task.submitted_s) - began
    end = horizon if task.ended_s is None else max(now, _safe(task.ended_s) - began)
    died = end if task.status == "dead" else None
    cancelled = end if task.status == "cancelled" else None
    attempts: Sequence[Attempt] = task.attempts
    if len(attempts) > 1:
        attempts = sorted(attempts, key=lambda one: (one.number, one.started_s))
    if not attempts:
        waits = Wait("queued", Span(now, end))
        yield "", Strand(task=task, before=waits, died=died, cancelled=cancelled)
        return
    starts = [_safe(one.started_s) - began for one in attempts]
    for index, attempt in enumerate(attempts):
        is_last = index == len(attempts) - 1
        start = starts[index]
        stop = _stop(attempt, began, limit=max(start, end) if is_last else max(start, starts[index + 1]))
        kind = _kind(attempt, task, is_last)
        wait = Wait("backoff" if index else "queued", Span(now, start)) if start > now else None
        idle = is_last and end > stop and task.status != "done" and kind != "running"
        yield (
            attempt.by or "unnamed",
            Strand(
                task=task,
                before=wait,
                bar=Bar(kind, Span(start, stop), attempt.number, task, attempt.error),
                after=Wait("backoff", Span(stop, end)) if idle else None,
                died=max(stop, died) if is_last and died is not None else None,
                cancelled=max(stop, cancelled) if is_last and cancelled is not None else None,
            ),
        )
        now = max(now, stop)


def _stop(attempt: Attempt, began: float, *, limit: float) -> float:
    """When an attempt ended; one without a known end lasts until the next, or to the end of its task."""
    start = _safe(attempt.started_s) - began
    return limit if attempt.ended_s is None else max(start, _safe(attempt.ended_s) - began)


def _kind(attempt: Attempt, task: TaskHistory, is_last: bool) -> Kind:
    if task.kind == "step":
        return "step"
    if task.kind == "run" and attempt.result in ("done", "lost"):
        return "run" if attempt.result == "done" else "left"
    if attempt.result == "failed":
        return "dead" if is_last and task.status == "dead" else "failed"
    if attempt.result == "running" and task.status != "open":
        # Its task has ended without it: cancelled or out of time under its feet, or ended by another attempt.
        return (
            "cancelled"
            if task.status == "cancelled"
            else "dead"
            if task.status == "dead" and is_last
            else "lost"
        )
    return attempt.result


def _safe(moment: float) -> float:
    """A moment that calendars and arithmetic can bear."""
    if 0.0 <= moment <= _LATEST_S:
        return moment
    return 0.0 if math.isnan(moment) else min(max(moment, 0.0), _LATEST_S)


def natural(name: str) -> tuple[tuple[int, int, str], ...]:
    """Sort key under which `digest-2` stands before `digest-10`."""
    parts = re.split(r"([0-9]{1,18})", name)
    return tuple(
        (1, int(one), "") if index % 2 else (0, 0, one.casefold()) for index, one in enumerate(parts)
    )


# --- measuring --------------------------------------------------------------------------------------


def pack(spans: Sequence[Span], *, gap: float, least: float, limit: int) -> list[int] | None:
    """The row of each span, such that none touches another: the lowest free one. None if over `limit` rows.

    A span counts as at least `least` long (what a thin bar is drawn as), and `gap` is kept between two in a
    row.
    """
    rows: list[float] = []
    placed = [0] * len(spans)
    for index in sorted(range(len(spans)), key=lambda i: (spans[i].start, spans[i].end)):
        one = spans[index]
        row = next((row for row, free_from in enumerate(rows) if free_from <= one.start), len(rows))
        if row == limit:
            return None
        if row == len(rows):
            rows.append(0.0)
        rows[row] = one.start + max(one.length, least) + gap
        placed[index] = row
    return placed


def profile(spans: Iterable[Span], *, columns: int, span_s: float) -> list[float]:
    """How many spans were under way on average in each of `columns` equal parts of the time."""
    if not span_s > 0:
        return [0.0] * columns
    per_s = columns / span_s
    level = [0.0] * (columns + 1)  # changes of the number under way, at the left edge of a column
    within = [0.0] * columns  # corrections inside a column
    for one in spans:
        a, b = min(one.start * per_s, columns), min(one.end * per_s, columns)
        first, last = min(int(a), columns - 1), min(int(b), columns - 1)
        level[first] += 1
        level[last] -= 1
        within[first] -= a - first
        within[last] += b - last
    running, means = 0.0, []
    for column in range(columns):
        running += level[column]
        means.append(max(0.0, running + within[column]))
    return means


def peak(spans: Iterable[Span]) -> int:
    """The largest number under way at one moment. A span that ends as another begins does not overlap it."""
    changes: list[tuple[float, int]] = []
    for one in spans:
        changes += (one.start, 1), (one.end, -1)
    now = most = 0
    for _, change in sorted(changes):
        now += change
        most = max(most, now)
    return most


def busy(spans: Sequence[Span], span_s: float) -> float:
    """The share of the time in which at least one was under way, 0 to 1."""
    total = reached = 0.0
    for one in sorted(spans, key=lambda s: s.start):
        total += max(0.0, one.end - max(one.start, reached))
        reached = max(reached, one.end)
    return min(1.0, total / span_s) if span_s > 0 else 0.0
