"""What a strip of breakers shows: for each breaker the stretches of time for which it was in one state. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from roost._text import clean
from roost.observe import Event
from roost.pictures._axis import duration
from roost.pictures._words import counted

State: TypeAlias = Literal["closed", "half_open", "open"]

WORDS: dict[State, str] = {"closed": "closed", "half_open": "half open", "open": "open"}
_AFTER: dict[str, State] = {
    "breaker_opened": "open",
    "breaker_half_open": "half_open",
    "breaker_closed": "closed",
}
_BEFORE: dict[State, State | None] = {"open": "closed", "half_open": "open", "closed": None}
"""What it was before the first change that was recorded, as far as that says."""
_MARGIN = 0.04
"""Part of the time between first and last change that is shown before and after them."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """One state from `start` to `end`, in seconds from the beginning of the picture."""

    state: State
    start: float
    end: float
    reason: str = ""
    probe: Literal["", "failed", "went well"] = ""
    """How a half open stretch ended, if it has."""


@dataclass(frozen=True, slots=True)
class Strip:
    """One breaker."""

    name: str
    stretches: tuple[Stretch, ...]

    @property
    def open_s(self) -> float:
        return sum(one.end - one.start for one in self.stretches if one.state != "closed")

    @property
    def outages(self) -> list[tuple[float, str]]:
        """When it opened after it had been closed, and why."""
        found, before = [], "closed"
        for one in self.stretches:
            if one.state == "open" and before == "closed":
                found.append((one.start, one.reason))
            before = one.state
        return found

    def work(self) -> str:
        """ "open for 12.4 s, 3 probes failed" """
        failed = sum(one.probe == "failed" for one in self.stretches)
        return f"not closed for {duration(self.open_s)}" + (
            f", {counted(failed, 'failed probe')}" if failed else ""
        )


@dataclass(frozen=True, slots=True)
class Strips:
    """All breakers of a picture, by name."""

    strips: tuple[Strip, ...]
    began_s: float
    span_s: float

    def summary(self) -> list[str]:
        outages = sum(len(one.outages) for one in self.strips)
        return [
            counted(len(self.strips), "breaker"),
            f"opened {counted(outages, 'time')}",
            duration(self.span_s),
        ]

    def tale(self, most: int) -> list[str]:
        """What happened, change by change; the rest is counted."""
        lines = [
            f"{strip.name}: {WORDS[one.state]} after {duration(one.start)}{f': {one.reason}' if one.reason else ''}"
            for strip in self.strips
            for one in strip.stretches
            if one.start > 0
        ]
        return lines if len(lines) <= most else [*lines[:most], f"… and {len(lines) - most:,} more changes"]


def strips(events: Iterable[Event], began_s: float | None, until_s: float | None) -> Strips:
    """The stretches of all breakers of which the events tell; other events are passed over."""
    changes: dict[str, list[Event]] = {}
    for event in sorted(events, key=lambda one: one.at_s):
        if event.kind in _AFTER:
            changes.setdefault(event.subject, []).append(event)
    times = [one.at_s for each in changes.values() for one in each]
    first, last = (min(times), max(times)) if times else (0.0, 0.0)
    margin = max(_MARGIN * (last - first), 0.001)
    begin = began_s if began_s is not None else first - margin
    end = max(until_s if until_s is not None else last + margin, begin)
    shown = [Strip(clean(name), _stretches(each, begin, end)) for name, each in sorted(changes.items())]
    return Strips(tuple(shown), begin, end - begin)


def _stretches(changes: Sequence[Event], begin: float, end: float) -> tuple[Stretch, ...]:
    found: list[Stretch] = []
    before = _BEFORE[_AFTER[changes[0].kind]]
    if before is not None and changes[0].at_s > begin:
        found.append(Stretch(before, 0.0, min(changes[0].at_s, end) - begin))
    for at, change in enumerate(changes):
        state = _AFTER[change.kind]
        following = changes[at + 1] if at + 1 < len(changes) else None
        to = following.at_s if following is not None else end
        if to < begin or change.at_s > end:
            continue
        probe: Literal["", "failed", "went well"] = ""
        if state == "half_open" and following is not None and following.at_s <= end:
            probe = "failed" if following.kind == "breaker_opened" else "went well"
        found.append(
            Stretch(state, max(change.at_s, begin) - begin, min(to, end) - begin, _told(state, change), probe)
        )
    return tuple(found)


def _told(state: State, change: Event) -> str:
    """Why it opened, without what was to come next; of the other states the name says it."""
    return clean(change.reason, 500).partition("; the next probe is due")[0] if state == "open" else ""
