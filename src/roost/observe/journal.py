"""Counters, log lines and events in one place, so that nothing can be dropped with only one of them.

Whoever refuses, drops, retries or loses something calls `Journal.record` once: the counter grows,
watchers hear the event, and a line is logged, at most one per kind and second (a flood of refused
messages must not become a flood of log lines). Events that had no line of their own are told of together when
the second is over, with what they were about: an operator has to find the task that died.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

from roost._text import clean

log = logging.getLogger("roost")

LOG_INTERVAL_S = 1.0
LASTING = {
    "reconnect_failed": "reconnected",
    "auth_failed": "reconnected",
    "pull_missing": "",
    "consumer_unavailable": "",
}
"""Kinds that come again and again until somebody mends it: the pauses between their lines grow. The kind that says
that it is over, if there is one, has the next of them told at once; without one, a quiet while does."""
LASTING_INTERVAL_S = 30.0
NAMES = 20
"""Subjects that one line names for events without lines of their own; the rest is counted."""
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


@dataclass(slots=True)
class _Held:
    """The last line about one kind of event, and the events since then."""

    line_s: float
    interval_s: float = LOG_INTERVAL_S
    count: int = 0
    level: int = logging.NOTSET
    names: dict[str, None] = field(default_factory=dict)
    named: int = 0
    """Events that are about `names`, or about nothing that has a name."""
    timer: asyncio.TimerHandle | None = None

    def hold(self, subject: str, level: int) -> None:
        self.count += 1
        self.level = max(self.level, level)
        if subject in self.names or len(self.names) < NAMES or not subject:
            self.named += 1
            if subject:
                self.names[subject] = None

    def take(self) -> tuple[int, str]:
        """How many there were, and what they were about."""
        count, rest, names = self.count, self.count - self.named, ", ".join(self.names)
        self.count = self.named = 0
        self.level = logging.NOTSET
        self.names = {}
        return count, (f": {names}" + (f" and {rest} more" if rest else "")) if names else ""


class Journal:
    """What happened on one bus. `counters` maps a kind of event, or ``kind:subject-or-name``, to a number."""

    def __init__(self) -> None:
        self.counters: Counter[str] = Counter()
        self._watchers: list[Watcher] = []
        self._logged: dict[str, _Held] = {}

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
        for lasting, over in LASTING.items():
            if over == kind:
                self._flush(lasting)
                self._logged.pop(lasting, None)
        more = self._line(kind, subject, level)
        if more is not None:
            text = " ".join(part for part in (kind, subject, reason) if part)
            log.log(level, "%s%s", text, more, exc_info=error)
        if self._watchers:
            event = Event(kind=kind, subject=subject, reason=reason, at_s=time.time())
            for watcher in list(self._watchers):
                self._tell(watcher, event)

    def _line(self, kind: str, subject: str, level: int) -> str | None:
        """What to add to a line of this kind, or None if there was one within this second."""
        now = time.monotonic()
        held = self._logged.get(kind)
        if held is None:
            self._logged[kind] = _Held(now)
            return ""
        if now - held.line_s < held.interval_s:
            held.hold(subject, level)
            if held.timer is None:
                held.timer = self._later(held.line_s + held.interval_s - now, kind)
            return None
        quiet = now - held.line_s > 2 * held.interval_s
        count, about = held.take()
        self._logged[kind] = _Held(now, LOG_INTERVAL_S if quiet else _next_interval_s(kind, held.interval_s))
        if held.timer is not None:
            held.timer.cancel()
        return f" ({count} more of these in the meantime{about})" if count else ""

    def _later(self, seconds: float, kind: str) -> asyncio.TimerHandle | None:
        """Nobody may come to say it with the next event: a flood ends, and its last tasks are to be named."""
        try:
            return asyncio.get_running_loop().call_later(seconds, self._flush, kind)
        except RuntimeError:  # there is no loop: the next event, or the end, tells of them
            return None

    def _flush(self, kind: str) -> None:
        """Log what had no line of its own."""
        held = self._logged.get(kind)
        if held is None:
            return
        if held.timer is not None:
            held.timer.cancel()
            held.timer = None
        if held.count:
            level = held.level
            count, about = held.take()
            log.log(level, "%s: %d more since the last line about them%s", kind, count, about)
            held.line_s = time.monotonic()
            held.interval_s = _next_interval_s(kind, held.interval_s)

    def _tell(self, watcher: Watcher, event: Event) -> None:
        try:
            watcher(event)
        except (Exception, asyncio.CancelledError) as error:
            self.counters["watcher_failed"] += 1
            more = self._line("watcher_failed", "", logging.ERROR)
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
        for kind in list(self._logged):
            self._flush(kind)
        self._logged.clear()


def _next_interval_s(kind: str, interval_s: float) -> float:
    return min(LASTING_INTERVAL_S, 2 * interval_s) if kind in LASTING else LOG_INTERVAL_S
