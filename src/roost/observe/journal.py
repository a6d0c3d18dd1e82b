"""Counters, log lines and events in one place, so that nothing can be dropped with only one of them.

Whoever refuses, drops, retries or loses something calls `Journal.record` once: the counter grows by one,
watchers hear the event, and a line is logged, at most one per kind and second (a flood of refused
messages must not become a flood of log lines).
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from roost._text import clean

log = logging.getLogger("roost")

LOG_INTERVAL_S = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something worth knowing that happened on a bus."""

    kind: str  # such as "message_refused", "dropped", "task_retried", "connection_lost"
    subject: str = ""
    reason: str = ""
    at_s: float  # this machine's clock, seconds since 1970


Watcher = Callable[[Event], None]


class Journal:
    """What happened on one bus. `counters` maps a kind of event, or ``kind:subject-or-name``, to a number."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self._watchers: list[Watcher] = []
        self._logged: dict[str, tuple[float, int]] = {}

    def count(self, name: str, by: int = 1) -> None:
        """Count without an event: for what is normal."""
        self.counters[name] += by

    def record(self, kind: str, *, subject: str = "", reason: str = "", level: int = logging.WARNING) -> None:
        """Count, log and tell. Never raises."""
        self.counters[kind] += 1
        now = time.monotonic()
        last, held = self._logged.get(kind, (-LOG_INTERVAL_S, 0))
        if now - last >= LOG_INTERVAL_S:
            more = f" ({held} more of these in the meantime)" if held else ""
            text = " ".join(part for part in (kind, clean(subject, 300), clean(reason, 1000)) if part)
            log.log(level, "%s%s", text, more)
            self._logged[kind] = (now, 0)
        else:
            self._logged[kind] = (last, held + 1)
        if self._watchers:
            event = Event(kind=kind, subject=subject, reason=reason, at_s=time.time())
            for watcher in list(self._watchers):
                try:
                    watcher(event)
                except Exception:
                    log.exception("a watcher of events failed; the others were told")

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Call `watcher` (synchronously; it must not block) for each event; returns what ends that."""
        self._watchers.append(watcher)
        return lambda: self._watchers.remove(watcher)
