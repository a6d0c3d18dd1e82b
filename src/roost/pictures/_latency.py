"""How long things took, as numbers: percentiles, the columns of a histogram, its axis. Pure."""

from __future__ import annotations

import itertools
import math
from bisect import bisect_left, bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from roost.pictures._words import counted

DECADES = 1.5
"""When all samples span more powers of ten than this, the axis is logarithmic: else most would be in one column."""
LEAST_S, MOST_S = 1e-9, 1e12
"""A nanosecond, below which nothing is told apart; and longer than anything takes."""
_FEWEST = 16
_PERCENTS = (50, 95, 99)


@dataclass(frozen=True, slots=True)
class Spread:
    """One series: how many samples, and what they say in seconds. All 0 without samples."""

    count: int
    least_s: float
    p50_s: float
    p95_s: float
    p99_s: float
    most_s: float

    @property
    def marks(self) -> list[tuple[str, float]]:
        return [("p50", self.p50_s), ("p95", self.p95_s), ("p99", self.p99_s)]

    def words(self) -> list[str]:
        return [f"{name} {figure(value)}" for name, value in self.marks]


@dataclass(frozen=True, slots=True)
class Series:
    name: str
    spread: Spread
    columns: tuple[int, ...]
    """How many samples are in each equal part of the axis."""


@dataclass(frozen=True, slots=True)
class Latencies:
    """All series on one axis from `low_s` to `high_s`."""

    series: tuple[Series, ...]
    low_s: float
    high_s: float
    log: bool

    @property
    def samples(self) -> int:
        return sum(one.spread.count for one in self.series)

    def share(self, at_s: float) -> float:
        """Where a value stands on the axis, from 0 to 1."""
        if at_s <= self.low_s:
            return 0.0
        if self.log:
            return min(math.log(at_s / self.low_s) / math.log(self.high_s / self.low_s), 1.0)
        return min((at_s - self.low_s) / (self.high_s - self.low_s), 1.0)

    def summary(self) -> list[str]:
        parts = [counted(self.samples, "sample")]
        if len(self.series) > 1:
            return [*parts, f"{len(self.series)} series"]
        return parts + [word for one in self.series if one.spread.count for word in one.spread.words()]

    def tale(self) -> list[str]:
        return [_told(one) for one in self.series]

    def notes(self) -> list[str]:
        notes = ["The axis is logarithmic."] if self.log else []
        few = [one for one in self.series if 0 < one.spread.count < 100]
        if few:
            notes.append("Of fewer than 100 samples p99 is the slowest.")
        return notes


def spread(samples: Sequence[float]) -> Spread:
    """Of sorted samples. A percentile is the least sample that so many per cent do not exceed (nearest rank)."""
    count = len(samples)
    if not count:
        return Spread(0, 0.0, 0.0, 0.0, 0.0, 0.0)
    p50, p95, p99 = (samples[-(-percent * count // 100) - 1] for percent in _PERCENTS)
    return Spread(count, samples[0], p50, p95, p99, samples[-1])


def latencies(samples_s: Mapping[str, Sequence[float]], *, columns: int) -> Latencies:
    """Samples are sorted, finite and not negative; few have fewer `columns` than are allowed."""
    spreads = {name: spread(samples) for name, samples in samples_s.items()}
    there = [samples for samples in samples_s.values() if samples]
    most = max([LEAST_S, *(one[-1] for one in there)])
    least = min((one[bisect_right(one, 0.0)] for one in there if one[-1] > 0), default=0.0)  # above 0
    least = max(least, LEAST_S)
    log = math.log10(most / least) > DECADES
    low, high = _ends(least, most, log, zero=any(one[0] == 0 for one in there))
    longest = max(map(len, there), default=0)
    columns = min(columns, max(_FEWEST, round(2 * math.sqrt(longest))))
    edges = [_at(low, high, log, number / columns) for number in range(1, columns)]
    series = tuple(
        Series(name, spreads[name], _columns(samples, edges)) for name, samples in samples_s.items()
    )
    return Latencies(series, low, high, log)


def _ends(least: float, most: float, log: bool, *, zero: bool) -> tuple[float, float]:
    """A little beyond the samples; from 0 where that costs little room."""
    if log:
        margin = (most / least) ** 0.03
        return least / margin, most * margin
    margin = 0.04 * (most - least) or 0.5 * most
    low = 0.0 if zero or least < 0.4 * most else max(least - margin, 0.0)
    return low, most + margin


def _at(low: float, high: float, log: bool, share: float) -> float:
    return low * (high / low) ** share if log else low + share * (high - low)


def _columns(samples: Sequence[float], edges: Sequence[float]) -> tuple[int, ...]:
    ends = [0, *(bisect_left(samples, edge) for edge in edges), len(samples)]
    return tuple(b - a for a, b in itertools.pairwise(ends))


def ticks(scene: Latencies, *, at_most: int) -> list[tuple[float, str]]:
    """Round values within the axis, as shares of it, with labels."""
    if scene.log:
        return [(scene.share(value), figure(value)) for value in _decades(scene, at_most)]
    return _even(scene, at_most)


def _decades(scene: Latencies, at_most: int) -> list[float]:
    """1, 2, 5 of each power of ten if there is room, else the powers."""
    first, last = math.floor(math.log10(scene.low_s)), math.ceil(math.log10(scene.high_s))
    found: list[float] = []
    for factors, every in (((1, 2, 5), 1), ((1, 3), 1), ((1,), 1), ((1,), 3)):
        found = [float(f"{factor}e{power}") for power in range(first, last + 1, every) for factor in factors]
        found = [value for value in found if scene.low_s <= value <= scene.high_s]
        if len(found) <= at_most:
            break
    return found


def _even(scene: Latencies, at_most: int) -> list[tuple[float, str]]:
    """At a round step, all in one unit and with the digits that tell neighbours apart."""
    least = (scene.high_s - scene.low_s) / at_most
    power = 10.0 ** math.floor(math.log10(least))
    step = next(power * factor for factor in (1, 2, 5, 10) if power * factor >= least * (1 - 1e-9))
    first, last = math.ceil(scene.low_s / step - 1e-9), math.floor(scene.high_s / step + 1e-9)
    unit, scale = _unit(step * last)
    after = max(0, -math.floor(math.log10(step * scale) + 1e-9))
    found = [step * number for number in range(first, last + 1)]
    return [(scene.share(at), f"{at * scale:,.{after}f} {unit}" if at else "0") for at in found]


def figure(seconds: float) -> str:
    """Three digits that count, in ns, µs, ms or s."""
    if seconds <= 0:
        return "0"
    unit, scale = _unit(seconds)
    return f"{_digits(seconds * scale)} {unit}"


def _unit(seconds: float) -> tuple[str, float]:
    """The unit in which a duration is at least 1, and how many of it are a second."""
    units = (("s", 1.0), ("ms", 1e3), ("µs", 1e6))
    return next((one for one in units if seconds * one[1] >= 0.9995), ("ns", 1e9))


def _digits(value: float) -> str:
    after = 2 if value < 9.995 else 1 if value < 99.95 else 0
    text = f"{value:,.{after}f}"
    return text.rstrip("0").rstrip(".") if after else text


def _told(one: Series) -> str:
    found = one.spread
    name = f"{one.name}: " if one.name else ""
    if not found.count:
        return f"{name}no samples"
    ends = f"{figure(found.least_s)} to {figure(found.most_s)}"
    return f"{name}{counted(found.count, 'sample')}, {', '.join(found.words())}, {ends}"
