"""Histories to draw: made from few words, the same each time."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Literal

from roost.tasks.history import Attempt, Status, TaskHistory

T0 = 1_700_000_000.0


def attempt(
    number: int,
    by: str,
    began: float,
    ended: float | None,
    result: Literal["done", "failed", "lost", "running"] = "done",
    error: str = "",
) -> Attempt:
    stop = None if ended is None else T0 + ended
    return Attempt(number=number, by=by, started_s=T0 + began, ended_s=stop, result=result, error=error)


def task(
    id: str,
    submitted: float,
    ended: float | None,
    *attempts: Attempt,
    status: Status = "done",
    name: str = "digest",
) -> TaskHistory:
    return TaskHistory(
        run=id,
        name=name,
        id=id,
        submitted_s=T0 + submitted,
        ended_s=None if ended is None else T0 + ended,
        status=status,
        attempts=attempts,
    )


def of_run(
    id: str, began: float, ended: float | None, *attempts: Attempt, status: Status = "done"
) -> TaskHistory:
    """A run of a workflow, as its coordinators saw it."""
    return replace(task(id, began, ended, *attempts, status=status, name="audit"), kind="run")


def step(name: str, by: str, began: float, ended: float) -> TaskHistory:
    return replace(task(name, began, ended, attempt(1, by, began, ended), name=name), kind="step")


def resumed() -> list[TaskHistory]:
    """A run whose coordinator died; one task went over to another instance, one step was made by each coordinator."""
    return [
        of_run("docs-1", 0, 6, attempt(1, "planner-1", 0.1, 3, "lost"), attempt(2, "planner-2", 3, 6)),
        step("scan", "planner-1", 0.2, 0.6),
        step("report", "planner-2", 5, 5.9),
        task("digest:a", 0.7, 2, attempt(1, "digest-1", 0.8, 2)),
        task(
            "digest:b",
            0.7,
            4,
            attempt(1, "digest-1", 0.8, 1.2, "failed", "OSError: busy"),
            attempt(2, "digest-2", 2, 4),
        ),
        task("digest:c", 0.7, 2.5, attempt(1, "digest-2", 0.9, 2.5, "failed", "no text"), status="dead"),
    ]


def three() -> list[TaskHistory]:
    """One done, one done at its second attempt, one dead after two."""
    return [
        task("a", 0, 0.3, attempt(1, "digest-1", 0.1, 0.3)),
        task(
            "b",
            0,
            1.0,
            attempt(1, "digest-2", 0.1, 0.2, "failed", "OSError: busy"),
            attempt(2, "digest-1", 0.6, 1.0),
        ),
        task(
            "c",
            0,
            1.2,
            attempt(1, "links-1", 0.1, 0.3, "failed"),
            attempt(2, "links-1", 0.9, 1.2, "failed"),
            status="dead",
        ),
    ]


def many(tasks: int, instances: int, *, at_once: int = 8) -> list[TaskHistory]:
    """All submitted at once and worked off; one in fifty fails once, one in five hundred dies."""
    chance = random.Random(tasks)
    free = [(0.0, f"digest-{instance + 1}") for instance in range(instances) for _ in range(at_once)]
    found = []
    for number in range(tasks):
        free.sort()
        began, by = free.pop(0)
        ended = began + chance.uniform(0.001, 0.02)
        free.append((ended, by))
        if number % 500 == 7:
            found.append(task(f"t{number}", 0, ended, attempt(1, by, began, ended, "failed"), status="dead"))
        elif number % 50 == 3:
            again = attempt(2, by, ended + 0.1, ended + 0.11)
            found.append(task(f"t{number}", 0, ended + 0.11, attempt(1, by, began, ended, "failed"), again))
        else:
            found.append(task(f"t{number}", 0, ended, attempt(1, by, began, ended)))
    return found
