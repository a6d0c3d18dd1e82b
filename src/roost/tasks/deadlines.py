"""Deadlines: when a task must have an outcome, and the index of those that have a deadline of their own. Pure.

A deadline is a time of the server's clock, fixed when the task is submitted and written in its header, so workers
in every language know it and a repeated submission does not move it. What a run calls has no more time than the run.

A contract's own deadline also has a record in the index, behind the task: that is what makes work end of which no
worker runs (`roost.upkeep.overdue`). What has its deadline from its run alone is found through the run, so a fan-out
costs no records more.

    <ns>.run.<run>.deadline.<name>.<id>.<ms>   empty; milliseconds since 1970
"""

from __future__ import annotations

from typing import Any

from roost.contracts import Task, Workflow
from roost.tasks.batch import Pairs
from roost.tasks.marks import due_of
from roost.tasks.provision import consumer_config
from roost.tasks.records import Ref, Subjects

SWEEPER = "deadlines"
"""The consumer of the index, which all who sweep share."""
ACK_WAIT_S = 5.0
"""When a sweeper has died, another gets what it had in hand after so many seconds."""
MAX_PENDING = 100_000
"""Deadlines that may be waited for at once. Of more, those stored last have to wait until others are over."""


def due(
    contract: Task[Any, Any] | Workflow[Any, Any], now_s: float, within_s: float | None = None
) -> float | None:
    """When a task that is submitted now must be over, within a run that must be over by `within_s`; None: any time."""
    if contract.deadline_s is None:
        return within_s
    own = now_s + contract.deadline_s
    return own if within_s is None else min(own, within_s)


def deadline_subject(subjects: Subjects, ref: Ref, marks: Pairs) -> str:
    """Where the index has a task with these marks; empty if it has no deadline."""
    due_s = due_of(marks)
    return subjects.deadline(ref, round(due_s * 1000)) if due_s is not None else ""


def sweeper_config(subjects: Subjects) -> dict[str, Any]:
    """The consumer of the index: each deadline is delivered when it is stored, and put off until it is due."""
    return {
        **consumer_config(subjects, "", ACK_WAIT_S),
        "durable_name": SWEEPER,
        "filter_subject": subjects.all_deadlines,
        "max_ack_pending": MAX_PENDING,
    }
