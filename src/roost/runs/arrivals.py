"""Outcomes of one fan-out between the feed that reads them and the workflow that takes them. Pure.

The feed reads for all fan-outs of a run at once, so one that is not being read gets outcomes as well. It keeps
a few; the first one beyond that it only remembers by its place in the log, from where they are read again when
it is their turn. So memory stays bounded whatever a workflow nests.
"""

from __future__ import annotations

from collections import deque

from roost.tasks.log import Record

MOST = 1000
"""Outcomes that are kept."""
FEW = 400
"""With fewer than these, more are welcome: a page of 500 is on its way while these are worked on."""


class Arrivals:
    """Outcomes in log order, each once."""

    __slots__ = ("_missed", "_seen", "records")

    def __init__(self) -> None:
        self.records: deque[Record] = deque()
        self._seen = 0
        self._missed = 0

    def offer(self, record: Record) -> bool:
        """Keep a record, unless it was offered before or there are too many; whether it was kept."""
        if self._missed or record.seq <= self._seen:
            return False
        if len(self.records) >= MOST:
            self._missed = record.seq
            return False
        self._seen = record.seq
        self.records.append(record)
        return True

    @property
    def few(self) -> bool:
        """Whether it makes sense to read on."""
        return len(self.records) < FEW

    def resume(self) -> int:
        """From which sequence on records must be offered again, 0 if none was missed; call it when they are few."""
        missed, self._missed = self._missed, 0
        return missed
