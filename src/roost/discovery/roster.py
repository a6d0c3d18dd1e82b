"""Who is there over time: a state machine fed with what is heard, what is asked, and the clock. Pure.

An instance that has not been heard for one and a half intervals is to be asked. If the server answers that nobody
listens there, its process is gone; if nothing answers, it is silent: frozen, blocked, or cut off, and perhaps at
work. So a death shows within two intervals, and a frozen process is not taken for a dead one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

from roost.discovery.info import AgentInfo

LATE = 1.5
"""Intervals without a heartbeat after which an instance is asked."""
MOST = 10_000
"""Instances that are followed; more are not, and are counted in `refused`."""

ChangeKind = Literal["joined", "changed", "silent", "left", "gone"]


@dataclass(frozen=True, slots=True)
class AgentChange:
    """One change: an instance `joined`, `changed` (state, load), fell `silent`, `left` in order, or is `gone`."""

    kind: ChangeKind
    agent: AgentInfo


@dataclass(slots=True)
class _Entry:
    info: AgentInfo
    due: float


class Roster:
    """The instances that `wanted` says yes to. Times are those of one monotonic clock, in seconds."""

    def __init__(self, wanted: Callable[[AgentInfo], bool]) -> None:
        self._wanted = wanted
        self._entries: dict[str, _Entry] = {}
        self.refused = 0

    @property
    def agents(self) -> tuple[AgentInfo, ...]:
        """By name of the instance."""
        return tuple(entry.info for _, entry in sorted(self._entries.items()))

    def heard(self, info: AgentInfo, now: float) -> list[AgentChange]:
        """A heartbeat, or an answer."""
        entry = self._entries.get(info.instance)
        if info.state == "left":
            if entry is None or entry.info.started_s != info.started_s:
                return []
            del self._entries[info.instance]
            return [AgentChange("left", info)]
        if not self._wanted(info):
            return self._drop(info.instance)
        if entry is None and len(self._entries) >= MOST:
            self.refused += 1
            return []
        due = now + LATE * info.interval_s
        if entry is None:
            self._entries[info.instance] = _Entry(info, due)
            return [AgentChange("joined", info)]
        if entry.info.started_s != info.started_s:
            self._entries[info.instance] = _Entry(info, due)
            return [_gone(entry.info), AgentChange("joined", info)]
        info = info.told_by(entry.info)
        before, entry.info, entry.due = entry.info, info, due
        return [AgentChange("changed", info)] if before != info else []

    def overdue(self, now: float) -> list[AgentInfo]:
        """Whom to ask; those asked are due again after an interval."""
        late = [entry for entry in self._entries.values() if entry.due <= now]
        for entry in late:
            entry.due = now + entry.info.interval_s
        return [entry.info for entry in late]

    def nobody_there(self, info: AgentInfo) -> list[AgentChange]:
        """The server knows of no connection of this instance."""
        entry = self._entries.get(info.instance)
        if entry is None or entry.info.started_s != info.started_s:
            return []
        return self._drop(info.instance)

    def no_answer(self, info: AgentInfo) -> list[AgentChange]:
        """It was asked and did not answer, unless it was heard meanwhile."""
        entry = self._entries.get(info.instance)
        if entry is None or entry.info is not info or info.state == "silent":
            return []
        entry.info = replace(info, state="silent")
        return [AgentChange("silent", entry.info)]

    def pardon(self, until: float) -> None:
        """Ask nobody before `until`: it was us who could not hear."""
        for entry in self._entries.values():
            entry.due = max(entry.due, until)

    def next_due(self) -> float | None:
        return min((entry.due for entry in self._entries.values()), default=None)

    def _drop(self, instance: str) -> list[AgentChange]:
        entry = self._entries.pop(instance, None)
        return [] if entry is None else [_gone(entry.info)]


def _gone(info: AgentInfo) -> AgentChange:
    return AgentChange("gone", replace(info, state="gone"))
