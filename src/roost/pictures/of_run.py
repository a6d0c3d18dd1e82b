"""The timeline of a run, read from the log: for programs and notebooks, while it goes on or years later."""

from __future__ import annotations

from typing import Any

from roost.bus import Bus
from roost.pictures.timeline import Timeline
from roost.runs.listing import attend, find_run
from roost.runs.reading import run_histories
from roost.tasks import Handle

UNREADABLE = "record_unreadable"


async def timeline(bus: Bus, run: str | Handle[Any], *, below: bool = True) -> Timeline:
    """Who did what when in a run, and in the runs below it: ``(await roost.timeline(bus, handle)).svg()``.

    `run` is its id, or the handle that `Bus.start` returned. Only the log is asked, so it does not matter
    whether any agent is there, or when the run was. In a notebook the result shows itself as a picture. What
    is still open is drawn up to now. Records that cannot be read are left out; the picture says how many.

    Raises ConfigError when there is no such run or no coordinator has begun it, StreamMissing when the
    namespace has no log, and the errors of a read.
    """
    log = bus.log
    await attend(log)
    before = bus.counters[UNREADABLE]
    info = await find_run(log, run if isinstance(run, str) else run.id)
    tasks = await run_histories(log, info.id, below=below, steps=True)
    open = any(one.status == "open" for one in tasks)
    return Timeline(
        tasks,
        f"Run {info.id}",
        until_s=log.now_s() if open else None,
        unreadable=bus.counters[UNREADABLE] - before,
    )


__all__ = ["Timeline", "timeline"]
