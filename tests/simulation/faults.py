"""What goes wrong in one simulation: kinds and rates, drawn from its seed; and what went wrong so far.

Not every simulation has every kind of fault: histories with a single kind, often, reach places that an even
mixture does not.
"""

from __future__ import annotations

import random
from collections import Counter

KINDS = {
    "kill": 0.02,
    "pause": 0.012,
    "cut": 0.015,
    "stall": 0.01,
    "lose_request": 0.02,
    "late_request": 0.03,
    "lose_answer": 0.03,
    "slow_answer": 0.02,
    "lose_hint": 0.5,
    "double_hint": 0.3,
    "forget_delivery": 0.03,
    "deliver_twice": 0.05,
    "stale": 0.1,
    "refuse": 0.02,
}
"""How often each happens at most, of the moments at which it can."""


class Faults:
    """The faults of one simulation. Nothing happens after `until` (loop time)."""

    def __init__(self, rng: random.Random, *, until: float) -> None:
        self.rng = rng
        self.until = until
        self.active = True
        share = rng.choice((0.2, 0.5, 0.5, 1.0))
        self.rates = {
            kind: most * 10 ** rng.uniform(-0.8, 0.3) if rng.random() < share else 0.0
            for kind, most in KINDS.items()
        }
        if rng.random() < 0.15:
            self.rates["stale"] = 0.5  # one of the replicas lags all the time
        self.crashes = rng.random() < 0.3
        self.sluggish = rng.random() < 0.15
        """Whether the network takes up to 0.3 s instead of 2 ms."""
        self.total = sum(self.rates[kind] for kind in ("kill", "pause", "cut", "stall"))
        self.count: Counter[str] = Counter()

    @classmethod
    def none(cls) -> Faults:
        """Nothing goes wrong."""
        faults = cls(random.Random(0), until=0.0)
        faults.active = faults.crashes = False
        return faults

    def strikes(self, kind: str) -> bool:
        """Whether a fault of this kind happens now."""
        rate = self.rates[kind]
        if not rate or not self.active or self.rng.random() >= rate:
            return False
        self.count[kind] += 1
        return True

    def of_sender(self) -> str:
        """What befalls a process at a step at which it sends: ``kill``, ``pause``, ``cut``, ``stall``, or nothing."""
        if not self.active or not self.total:
            return ""
        drawn = self.rng.random()
        if drawn >= self.total:
            return ""
        for kind in ("kill", "pause", "cut", "stall"):
            drawn -= self.rates[kind]
            if drawn < 0:
                self.count[kind] += 1
                return kind
        return ""

    def delay_s(self) -> float:
        """How long a message is on its way."""
        if self.sluggish and self.active and self.rng.random() < 0.2:
            return self.rng.random() * 0.3
        return 0.0002 + self.rng.random() * 0.0018
