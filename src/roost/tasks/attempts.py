"""Attempts are not deliveries: what the notes of a task say about how often it was tried. Pure.

The server's delivery count also grows when a worker dies before any handler ran, and may be forgotten in a
server crash. So workers write notes: before each attempt but the first delivery's, and after each failure.
Only noted attempts count. A handler that kills its process each time is therefore run at most
attempts + 1 times (its very first run left no note), and a delivery that ran nothing costs nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from sys import intern

from roost.errors import InvalidMessage
from roost.tasks.history import Attempt
from roost.tasks.records import AttemptRecord, ErrorRecord, NoteRecord, decode_note

HISTORY_BYTES = 128 * 1024
"""Of attempts in one outcome: a retry policy of thousands of attempts must not make it unreadable."""
ALWAYS_KEPT = 20
"""So many attempts are never measured: an error's text is at most 1,000 characters, 4 KB."""
LOST = "its process died or fell silent before it reported"


def readable(records: Iterable[tuple[str, bytes]]) -> list[NoteRecord]:
    """The notes among (subject, payload); anything else that stands in their place is passed over."""
    notes = []
    for subject, data in records:
        try:
            notes.append(decode_note(data, subject=subject))
        except InvalidMessage:
            continue
    return notes


def past_attempts(notes: Iterable[NoteRecord]) -> list[AttemptRecord]:
    """The attempts that the newest note of each number tells of, in order; `notes` are in log order.

    An attempt whose worker was told to stop and handed it back is none: it did not fail.
    """
    newest: dict[int, NoteRecord] = {}
    for note in notes:
        k = note["k"]
        if k in newest and newest[k]["event"] == "failed":
            continue
        if note["event"] == "returned":
            newest.pop(k, None)
        elif k > 0:
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


def bounded(attempts: list[AttemptRecord]) -> list[AttemptRecord]:
    """The newest attempts that fit into an outcome; their numbers tell how many there were."""
    if len(attempts) <= ALWAYS_KEPT:
        return attempts
    left = HISTORY_BYTES
    for at in range(len(attempts) - 1, -1, -1):
        left -= len(json.dumps(attempts[at], ensure_ascii=False).encode("utf-8", "replace"))
        if left < 0:
            return attempts[at + 1 :]
    return attempts


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
        by=intern(attempt["by"]),
        started_s=attempt["at"],
        ended_s=ended,
        result=result,  # type: ignore[arg-type]
        error=describe(attempt),
    )
