"""Counters, log lines and events in one place, so that nothing can be dropped with only one of them.

Whoever refuses, drops, retries or loses something calls `Journal.record` once: the counter grows,
watchers hear the event, and a line is logged, at most one per kind and second (a flood of refused
messages must not become a flood of log lines).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

from roost._text import clean

log = logging.getLogger("roost")

LOG_INTERVAL_S = 1.0
SUBJECT_TEXT = 300
REASON_TEXT = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something worth knowing that happened on a bus. Its texts are safe to print."""

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

    def record(
        self,
        kind: str,
        *,
        subject: str = "",
        reason: str = "",
        level: int = logging.WARNING,
        by: int = 1,
        error: BaseException | None = None,
    ) -> None:
        """Count (`by` at once), log, with the traceback of `error`, and tell. Never raises."""
        self.counters[kind] += by
        subject, reason = clean(subject, SUBJECT_TEXT), clean(reason, REASON_TEXT)
        more = self._line(kind)
        if more is not None:
            text = " ".join(part for part in (kind, subject, reason) if part)
            log.log(level, "%s%s", text, more, exc_info=error)
        if self._watchers:
            event = Event(kind=kind, subject=subject, reason=reason, at_s=time.time())
            for watcher in list(self._watchers):
                self._tell(watcher, event)

    def _line(self, kind: str) -> str | None:
        """What to add to a line of this kind, or None if there was one within this second."""
        now = time.monotonic()
        last, held = self._logged.get(kind, (-LOG_INTERVAL_S, 0))
        if now - last < LOG_INTERVAL_S:
            self._logged[kind] = (last, held + 1)
            return None
        self._logged[kind] = (now, 0)
        return f" ({held} more of these in the meantime)" if held else ""

    def _tell(self, watcher: Watcher, event: Event) -> None:
        try:
            watcher(event)
        except (Exception, asyncio.CancelledError) as error:
            self.counters["watcher_failed"] += 1
            more = self._line("watcher_failed")
            if more is not None:
                log.error("a watcher of events failed; the others were told%s", more, exc_info=error)

    def watch(self, watcher: Watcher) -> Callable[[], None]:
        """Call `watcher` (synchronously; it must not block) for each event; returns what ends that."""

        def tell(event: Event) -> None:  # so that one watcher may be registered twice, and ended once each
            watcher(event)

        def end() -> None:
            if tell in self._watchers:
                self._watchers.remove(tell)

        self._watchers.append(tell)
        return end

    def close(self) -> None:
        """Say how many events had no line of their own."""
        for kind, (_, held) in self._logged.items():
            if held:
                log.warning("%s: %d more since the last line about them", kind, held)
        self._logged.clear()
