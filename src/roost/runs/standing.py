"""Why a task has no outcome yet: for whoever waits for it, and would else only hear that there is none."""

from __future__ import annotations

from datetime import UTC, datetime

from roost.errors import RoostError
from roost.runs.listing import standing_of
from roost.runs.records import RunSubjects, inner_run
from roost.tasks.log import Log
from roost.tasks.marks import begin_of, due_of
from roost.tasks.records import Ref


async def why_open(log: Log, ref: Ref) -> str:
    """A sentence about a task that is open; empty if nothing is known but that."""
    task, place = log.subjects.task(ref), RunSubjects(log.subjects.namespace, inner_run(ref))
    try:
        found = await log.newest([task, place.state, place.epoch])
    except RoostError:
        return "The log could not be read just now."
    if task not in found:
        return ""
    state = standing_of(found.get(place.state), found.get(place.epoch))
    if state is not None and state["status"] == "parked":
        return f"Its run is parked, and a person has to help: {state['reason']}"
    due_s, begin_ms, now_s = due_of(found[task].marks), begin_of(found[task].marks), log.now_s()
    if due_s is not None and due_s < now_s:
        return (
            f"Its deadline passed at {_time(due_s)}, and nobody has ended it: no process that serves agents does "
            "upkeep, nor does `roost upkeep` run."
        )
    if begin_ms is not None and begin_ms / 1000 > now_s:
        return f"It may not begin before {_time(begin_ms / 1000)}."
    return ""


def _time(seconds: float) -> str:
    try:
        return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%d %H:%M:%S} UTC"
    except (ValueError, OverflowError, OSError):  # a stranger's
        return f"{seconds:g}"
