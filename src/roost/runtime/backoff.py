"""When a process that ended is started again. Pure.

Starting it again at once, for ever, turns one bad configuration value into a busy machine and a log of a
gigabyte; waiting long after the first death leaves work lying. So the delay doubles from death to death and is
forgotten when a process has been ready for a while. Half of it is chance: processes that died together, of a
database that went away, do not come back in the same instant.
"""

from __future__ import annotations

from dataclasses import dataclass

BASE_S = 0.5
CAP_S = 30.0
STEADY_S = 30.0
"""Ready for this many seconds: the next death counts as the first one again."""


@dataclass(frozen=True, slots=True)
class Deaths:
    """How often a process has died in a row."""

    in_a_row: int = 0

    def one_more(self, ready_s: float) -> Deaths:
        """It died, after having been ready for `ready_s` seconds (0: it never was)."""
        return Deaths(1 if ready_s >= STEADY_S else self.in_a_row + 1)

    def delay_s(self, u: float) -> float:
        """Seconds until the next start, for a `u` drawn from [0, 1): up to 0.5 s, 1 s, 2 s ... 30 s."""
        longest = min(CAP_S, BASE_S * 2 ** min(max(self.in_a_row - 1, 0), 10))
        return float(longest * (0.5 + 0.5 * u))
