"""Attempts are not deliveries: what the notes of a task say about how often it was tried. Pure.

The server's delivery count also grows when a worker dies before any handler ran, and may be forgotten in a
server crash. So workers write notes: before each attempt but the first delivery's, and after each failure.
Only noted attempts count. A handler that kills its process each time is therefore run at most
attempts + 1 times (its very first run left no note), and a delivery that ran nothing costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable

from roost.tasks.history import Attempt
from roost.tasks.records import AttemptRecord, ErrorRecord, NoteRecord

LOST = "its process died or fell silent before it reported"


def past_attempts(notes: Iterable[NoteRecord]) -> list[AttemptRecord]:
    """The attempts that the newest note of each number tells of, in order."""
    newest: dict[int, NoteRecord] = {}
    for note in notes:
        k = note["k"]
        if k > 0 and (k not in newest or note["event"] == "failed"):
            newest[k] = note
    past: list[AttemptRecord] = []
    for k, note in sorted(newest.items()):
        attempt: AttemptRecord = {"k": k, "by": note["by"], "at": note["at"]}
        if note["event"] == "failed":
            attempt["s"] = note.get("s", 0.0)
            attempt["error"] = note.get("error") or ErrorRecord(type="", message="")
        else:
            attempt["lost"] = True
        past.append(attempt)
    return past


def next_number(past: list[AttemptRecord]) -> int:
    """The number of the attempt that follows."""
    return max((attempt["k"] for attempt in past), default=0) + 1


def describe(attempt: AttemptRecord) -> str:
    """One line on how an attempt ended, such as ``ValueError: no such page``."""
    if attempt.get("lost"):
        return LOST
    error = attempt.get("error")
    if error is None:
        return ""
    return f"{error['type']}: {error['message']}" if error["message"] else error["type"]


def as_history(attempt: AttemptRecord, *, done: bool = False) -> Attempt:
    """An attempt of the log as a value for pictures and tables."""
    ended = attempt["at"] + attempt["s"] if "s" in attempt else None
    result = (
        "lost" if attempt.get("lost") else "failed" if "error" in attempt else "done" if done else "running"
    )
    return Attempt(
        number=attempt["k"],
        by=attempt["by"],
        started_s=attempt["at"],
        ended_s=ended,
        result=result,  # type: ignore[arg-type]
        error=describe(attempt),
    )
