"""Large payloads to which no record refers: their writer died, or lost a race, or the task was cancelled.

An object is written before its record, so one without a record may still get one. It goes when it had none at two
looks that lie far enough apart, by this process's own clock: after an outage the wait begins anew.
"""

from __future__ import annotations

import asyncio
import logging

from roost.errors import InvalidMessage
from roost.tasks.log import Log, Record, chunks
from roost.tasks.references import Reference, is_large

ORPHAN_S = 3600.0
"""For so long an object without a record is kept: longer than any writer goes on trying, or is paused."""
PART = 500


class Objects:
    """The duty that removes objects without a record; those of ended runs go with their runs.

    Event: ``objects_removed``. Counter: ``removed:objects``.
    """

    name = "objects"
    interval_s = 300.0

    def __init__(self, log: Log, *, orphan_s: float = ORPHAN_S) -> None:
        self._log = log
        self._orphan_s = orphan_s
        self._alone: dict[str, float] = {}
        """Objects without a record, and when that was seen first."""

    async def run_once(self) -> None:
        """Raises the errors of requests."""
        known, self._alone = self._alone, {}
        now = asyncio.get_running_loop().time()
        alone: dict[str, float] = {}
        removed = 0
        for part in chunks(await self._log.objects.names(), PART):
            subjects = {name: subject for name in part if (subject := self._subject(name))}
            records = await self._log.newest(list(dict.fromkeys(subjects.values())), leader=True)
            for name, subject in subjects.items():
                if _refers(records.get(subject), name):
                    continue
                alone[name] = known.get(name, now)
                if now - alone[name] >= self._orphan_s:
                    await self._log.objects.remove(name)
                    del alone[name]
                    removed += 1
        self._alone = alone
        if removed:
            self._log.journal.count("removed:objects", removed)
            reason = f"{removed} large payloads to which no record refers"
            stream = self._log.objects.stream
            self._log.journal.record("objects_removed", subject=stream, reason=reason, level=logging.INFO)

    def _subject(self, name: str) -> str:
        """Of the record that would refer to an object; empty for a stranger's: a wildcard in it would remove others."""
        subject = f"{self._log.subjects.namespace}.run.{name.rpartition('.')[0]}"
        return subject if self._log.subjects.parse(subject) is not None else ""


def _refers(record: Record | None, name: str) -> bool:
    if record is None or not is_large(record.marks):
        return False
    try:
        return Reference.of(record.data, subject=record.subject).object == name.rpartition(".")[2]
    except InvalidMessage:
        return False
