"""What went wrong in a run and was mended, in lines for people. Pure; from the histories of its tasks."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from roost._text import clean
from roost.demo.contracts import audit, digest, links
from roost.demo.report import TaskTotals
from roost.tasks import TaskHistory

LISTED = 10
"""Tasks told of; the rest is counted."""


def resumptions(histories: Iterable[TaskHistory]) -> int:
    """How often a run was resumed, because its coordinator died or failed."""
    return sum(one.retries for one in histories if one.name == audit.name)


def incidents(histories: Sequence[TaskHistory]) -> list[str]:
    """A line for each task that was tried more than once or died, and for each resumption; the dead come first."""
    told = [one for one in histories if one.name != audit.name and (one.retries or one.status == "dead")]
    told.sort(key=lambda one: (one.status != "dead", one.submitted_s))
    lines = [_task(one) for one in told[:LISTED]]
    if len(told) > LISTED:
        lines.append(f"retried or dead: {len(told) - LISTED:,} more tasks")
    for run in (one for one in histories if one.name == audit.name):
        for attempt in run.attempts[1:]:
            lines.append(
                f"resumed: {attempt.by} went on with the audit at {attempt.started_s - run.submitted_s:.1f} s"
            )
    return lines


def kinds_line(kinds: Mapping[str, TaskTotals]) -> str:
    """How many tasks of each kind; those for files first, which progress and report count alone."""
    said = [f"{kinds[name].submitted:,} {name}" for name in (digest.name, links.name) if name in kinds]
    files = " and ".join(said)
    others = [
        f"{one.submitted:,} {name}" for name, one in kinds.items() if name not in (digest.name, links.name)
    ]
    return ", ".join([*([f"{files} for files"] if files else []), *others])


def _task(one: TaskHistory) -> str:
    what = f"{one.name} {clean(one.id, 200)}"
    if one.status == "dead":
        return f"dead letter: {what}: {clean(one.reason, 300)}"
    tries = ", ".join(f"{attempt.result} ({clean(attempt.by, 60)})" for attempt in one.attempts)
    return f"retried: {what}: {tries}"
