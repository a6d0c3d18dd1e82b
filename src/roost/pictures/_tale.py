"""What happened to each task, in a line: who tried it, how long it waited, how it ended. Pure.

Lanes show when instances worked, and not which bar is which task. So each of a few tasks has a line below them;
of many only those that did not simply succeed, and of those the first.
"""

from __future__ import annotations

from roost._text import clean
from roost.pictures._axis import duration
from roost.pictures._lanes import Scene, Strand
from roost.tasks.history import TaskHistory

EACH = 30
"""Tasks that have a line each."""
TROUBLED = 12
"""Lines at most when there are more."""

_ENDS = {
    "run": "coordinated it",
    "left": "until another took over",
    "step": "",
    "done": "done",
    "failed": "failed",
    "dead": "failed",
    "lost": "lost, its process died",
    "cancelled": "cut off",
    "running": "is at it",
}


def tell(scene: Scene, *, each: int = EACH) -> list[list[str]]:
    """For each task its line in parts, the first of which is its name; in the order of submission."""
    strands: dict[int, list[Strand]] = {}
    tasks: dict[int, TaskHistory] = {}
    lanes: dict[int, str] = {}
    for lane in scene.lanes:
        for strand in lane.strands:
            task = strand.task
            strands.setdefault(id(task), []).append(strand)
            tasks[id(task)] = task
            lanes[id(strand)] = lane.name
    order = sorted(tasks, key=lambda key: tasks[key].submitted_s)
    shown = order
    if len(order) > each:
        shown = [key for key in order if _troubled(tasks[key])]
    lines = [_line(tasks[key], strands[key], lanes) for key in shown[: each if shown is order else TROUBLED]]
    left = len(shown) - len(lines)
    if left:
        lines.append([f"and {left:,} more that were tried again, died or were cancelled"])
    return lines


def _troubled(task: TaskHistory) -> bool:
    return task.kind == "run" or task.retries > 0 or task.status in ("dead", "cancelled")


def _line(task: TaskHistory, strands: list[Strand], lanes: dict[int, str]) -> list[str]:
    parts = []
    strands = sorted(strands, key=lambda one: one.bar.number if one.bar is not None else 0)
    for strand in strands:
        if strand.before is not None and (task.attempts or task.ended_s is not None):
            word = "queued" if strand.before.kind == "queued" else "backoff"
            parts.append(f"{word} {duration(strand.before.span.length)}")
        bar = strand.bar
        if bar is not None:
            error = f" ({clean(bar.error, 60)})" if bar.error and bar.kind in ("failed", "dead") else ""
            did = f"{clean(lanes[id(strand)], 40)} {duration(bar.span.length)}"
            parts.append(f"{did} {_ENDS[bar.kind]}{error}".rstrip())
    if task.status == "dead":
        parts.append("dead letter")
    elif task.status == "cancelled":
        parts.append("cancelled" + (f" ({clean(task.reason, 60)})" if task.reason else ""))
    elif not task.attempts:
        parts.append("no attempt on record yet")
    return [f"{name_of(task)}:", *(f"{part}," for part in parts[:-1]), *parts[-1:]]


def name_of(task: TaskHistory) -> str:
    """A task as a person would name it: its contract, and its key unless that says the same."""
    if task.kind == "step":
        return f"step {clean(task.name, 60)}"
    if task.kind == "run":
        id = task.id.removeprefix(f"{task.name}:")
        return f"run {clean(task.name, 60)}" + (f" {clean(id, 60)}" if id != task.name else "")
    op, _, key = task.id.partition(":")
    if op == task.name and key:
        return f"{clean(task.name, 60)} {clean(key, 60)}"
    return f"{clean(task.name, 60)}" + (f" {clean(task.id, 60)}" if task.id != task.name else "")
