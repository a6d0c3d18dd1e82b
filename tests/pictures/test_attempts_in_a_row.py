"""The attempts of a task stand in one row, with their waits, unless they would cover each other."""

from __future__ import annotations

from shown import pictures
from tales import attempt, task

from roost.pictures import Timeline
from roost.pictures._lanes import scene
from roost.pictures._tracks import PIXELS, plan
from roost.tasks.history import TaskHistory


def rows(*tasks: TaskHistory) -> dict[str, list[int]]:
    """For each task the rows of its attempts, on 700 pixels."""
    (track,) = plan(scene(tasks), extent=700, grain=PIXELS).tracks
    found: dict[str, list[int]] = {}
    for placed in track.placed or ():
        found.setdefault(placed.strand.task.id, []).append(placed.row)
    return found


def test_each_task_keeps_its_row() -> None:
    picture = pictures()["attempts"]
    assert isinstance(picture, Timeline)
    assert list(rows(*picture.tasks).values()) == [[0], [1, 1], [2, 2, 2], [3, 3, 3, 3]]


def test_attempts_that_ran_at_once_or_hardly_apart_do_not_cover_each_other() -> None:
    first = attempt(1, "w-1", 0, 1, "failed")
    for began in (0.5, 1.001):
        found = rows(task("a", 0, 60, first, attempt(2, "w-1", began, 60)))
        assert found == {"a": [0, 1]}
