"""The timeline of a run or of tasks, read from the log: for programs and notebooks, while it goes on or years later."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from roost._text import quoted
from roost.bus import Bus
from roost.errors import ConfigError
from roost.pictures.timeline import Timeline
from roost.runs.listing import attend, find_run
from roost.runs.reading import run_histories
from roost.tasks import Handle, Ref, TaskHistory
from roost.tasks.log import Log
from roost.tasks.reading import read_history

UNREADABLE = "record_unreadable"


async def timeline(
    bus: Bus, of: str | Handle[Any] | Iterable[str | Handle[Any]], *, below: bool = True
) -> Timeline:
    """Who did what when in a run, and in the runs below it: ``(await roost.timeline(bus, handle)).svg()``.

    `of` is the id of a run or of a task, or the handle that `Bus.start` or `Bus.submit` returned; several are drawn
    together. Of a task one sees its attempts and the waits between them. Only the log is asked, so it does not
    matter whether any agent is there, or when it was. In a notebook the result shows itself as a picture. What is
    still open is drawn up to now. Records that cannot be read are left out; the picture says how many.

    Raises ConfigError when there is no such run or task, StreamMissing when the namespace has no log, and the
    errors of a read.
    """
    log = bus.log
    await attend(log)
    before = bus.counters[UNREADABLE]
    ids = [one if isinstance(one, str) else one.id for one in _each(of)]
    found: dict[Ref, TaskHistory] = {}
    titles = []
    for id in dict.fromkeys(ids):
        title, histories = await _read(log, id, below=below)
        titles.append(title)
        for one in histories:
            found.setdefault(Ref(one.run, one.name, one.id), one)
    tasks = sorted(found.values(), key=lambda one: one.submitted_s)
    open = any(one.status == "open" for one in tasks)
    return Timeline(
        tasks,
        titles[0] if len(titles) == 1 else "Timeline",
        until_s=log.now_s() if open else None,
        unreadable=bus.counters[UNREADABLE] - before,
    )


def _each(of: str | Handle[Any] | Iterable[str | Handle[Any]]) -> Iterable[str | Handle[Any]]:
    return (of,) if isinstance(of, str | Handle) else of


async def _read(log: Log, id: str, *, below: bool) -> tuple[str, list[TaskHistory]]:
    """Title and histories of a run that has begun, or else of the task of that id."""
    subjects, ref = log.subjects, Ref.parse(id, "*")
    try:
        info = await find_run(log, id)
    except ConfigError:
        known = map(subjects.parse, await log.newest([subjects.task(ref), subjects.end(ref)], leader=True))
        histories = [await read_history(log, ref) for ref in {one[1] for one in known if one is not None}]
        tasks = [one for one in histories if one is not None]
        if not tasks:
            raise ConfigError(
                f"there is no run and no task {quoted(id)} in {log.stream}; compare the namespace and the server"
            ) from None
        return f"Task {id}", tasks
    return f"Run {info.id}", await run_histories(log, info.id, below=below, steps=True)


__all__ = ["Timeline", "timeline"]
