"""The states of a circuit breaker and what moves it between them. Pure: synchronous, the time is passed in.

    closed     calls go out; their failures are counted over a rolling window
    open       no call goes out until a time
    half_open  one call goes out, the probe: its success closes, its failure opens again, for longer

Whoever may call gets a `Permit` and brings it back with what came of the call. A permit belongs to one era, from one
opening or closing to the next, so that a call that began before the breaker opened cannot close it, and one that
began before it closed cannot open it again. A breaker that merely asks "is it half open?" lets everybody through
who asks before the first has reported.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, TypeAlias

from roost._breaker import BreakerPolicy

State: TypeAlias = Literal["closed", "open", "half_open"]

TENTHS = 10
"""Parts of the window that are forgotten one at a time: exact to a tenth, at the price of ten small lists."""


class Permit:
    """Leave to make one call."""

    __slots__ = ("era",)

    def __init__(self, era: int) -> None:
        self.era = era


class Circuit:
    """One breaker's state. `now` is in seconds of any clock that does not go back; `random` gives [0, 1)."""

    def __init__(self, policy: BreakerPolicy, random: Callable[[], float]) -> None:
        self.policy = policy
        self.state: State = "closed"
        self.reason = ""
        """Why it opened last."""
        self.probe_at = 0.0
        """When the next probe may go out: open until then."""
        self._random = random
        self._era = 0
        self._window = _Window(policy.window_s)
        self._failed_probes = 0
        self._probe: Permit | None = None
        self._lost_at = 0.0

    def would_admit(self, now: float) -> bool:
        """Whether a call may go out now; nothing changes."""
        if self.state == "open":
            return now >= self.probe_at
        return self.state == "closed" or self._probe is None or now >= self._lost_at

    def admit(self, now: float) -> Permit | None:
        """Leave to call, or None. An open breaker whose time is over becomes half open with its probe.

        A probe that has said nothing for `open_cap_s` is taken for lost, and another goes out. If it comes back
        after all, the first of them to say something decides.
        """
        if not self.would_admit(now):
            return None
        permit = Permit(self._era)
        if self.state != "closed":
            self.state = "half_open"
            self._probe = permit
            self._lost_at = now + self.policy.open_cap_s
        return permit

    def holds(self, permit: Permit) -> bool:
        """Whether nothing has opened or closed since: what comes of the call still counts."""
        return permit.era == self._era

    def released(self, permit: Permit) -> None:
        """The call counts neither way: it was cancelled, or not made. The place of a probe is free again."""
        if self._probe is permit:
            self._probe = None

    def reported(self, permit: Permit, now: float, took_s: float, failure: str = "") -> None:
        """The call ended after `took_s` seconds; `failure` says how, and is empty if it went well."""
        self.released(permit)
        if permit.era != self._era:
            return
        slow = self.policy.is_slow(took_s)
        if self.state == "half_open":
            if failure or slow:
                self._failed_probes += 1
                self._open(now, f"its probe {_told(failure, took_s)}")
            else:
                self._close()
            return
        window, policy = self._window, self.policy
        window.add(now, bool(failure), slow)
        calls, failed, slows = window.sums()
        if calls < policy.minimum_calls:
            return
        if failed >= policy.failure_rate * calls:
            last = f", the last: {failure}" if failure else ""
            self._open(now, f"{failed} of {calls} calls within {policy.window_s:g} s failed{last}")
        elif slows >= policy.slow_call_rate * calls:
            self._open(
                now,
                f"{slows} of {calls} calls within {policy.window_s:g} s took {policy.slow_call_s:g} s or longer",
            )

    def _open(self, now: float, reason: str) -> None:
        self.state = "open"
        self.reason = reason
        self.probe_at = now + self.policy.open_for_s(self._failed_probes, self._random())
        self._begin_era()

    def _close(self) -> None:
        self.state = "closed"
        self._failed_probes = 0
        self._begin_era()

    def _begin_era(self) -> None:
        self._era += 1
        self._probe = None
        self._window.clear()


class _Window:
    """Counts of the last tenths of a window: calls, failed, slow."""

    __slots__ = ("_part_s", "_parts", "_sums")

    def __init__(self, window_s: float) -> None:
        self._part_s = window_s / TENTHS
        self._parts: dict[int, list[int]] = {}
        self._sums = [0, 0, 0]

    def add(self, now: float, failed: bool, slow: bool) -> None:
        number = int(now // self._part_s)
        for old in [one for one in self._parts if one <= number - TENTHS]:
            for at, count in enumerate(self._parts.pop(old)):
                self._sums[at] -= count
        part = self._parts.setdefault(number, [0, 0, 0])
        for counts in (part, self._sums):
            counts[0] += 1
            counts[1] += failed
            counts[2] += slow

    def sums(self) -> tuple[int, int, int]:
        calls, failed, slow = self._sums
        return calls, failed, slow

    def clear(self) -> None:
        self._parts.clear()
        self._sums = [0, 0, 0]


def _told(failure: str, took_s: float) -> str:
    return f"failed: {failure}" if failure else f"took {took_s:.3g} s"
