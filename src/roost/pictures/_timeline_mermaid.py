"""A timeline as Mermaid text: a Gantt chart with a section for each instance."""

from __future__ import annotations

import re
from collections.abc import Sequence

from roost.tasks.history import Attempt, TaskHistory

MOST = 200
"""Attempts that are drawn; Mermaid takes seconds for more, and nobody can read them."""
_TAGS = {"done": "done, ", "failed": "crit, ", "lost": "crit, ", "running": "active, "}
_UNSAFE = re.compile(r"[^\w ./@+-]")


def draw(tasks: Sequence[TaskHistory], title: str) -> str:
    """The chart. What is left out is said in its title."""
    attempts = [(task, attempt) for task in tasks for attempt in task.attempts]
    attempts.sort(key=lambda pair: pair[1].started_s)
    left_out = len(attempts) - MOST
    heading = _plain(title) + (f" (the first {MOST} of {len(attempts)} attempts)" if left_out > 0 else "")
    lines = ["gantt", f"    title {heading}", "    dateFormat x", "    axisFormat %H:%M:%S"]
    lanes: dict[str, list[str]] = {}
    for task, attempt in attempts[:MOST]:
        lanes.setdefault(attempt.by, []).append(_bar(task, attempt))
    for lane, bars in sorted(lanes.items()):
        lines += [f"    section {_plain(lane)}", *bars]
    return "\n".join(lines)


def _bar(task: TaskHistory, attempt: Attempt) -> str:
    begin = int(attempt.started_s * 1000)
    end = max(begin + 1, int((attempt.ended_s if attempt.ended_s is not None else attempt.started_s) * 1000))
    retry = f" attempt {attempt.number}" if attempt.number > 1 else ""
    word = "" if attempt.result == "done" else f" {attempt.result}"
    return f"    {_plain(f'{task.name} {task.id}')}{retry}{word} :{_TAGS[attempt.result]}{begin}, {end}"


def _plain(text: str) -> str:
    """Text in which nothing means anything to Mermaid."""
    return _UNSAFE.sub(" ", text)[:80]
