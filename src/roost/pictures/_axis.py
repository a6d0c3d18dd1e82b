"""Time on paper: how long something took in words, and where the ticks of a time axis stand. Pure.

Ticks at round values of one unit ("0, 200 ms, 400 ms") can be read at a glance; evenly cut spans ("0, 0.1837 s")
cannot, and nobody thinks in decimal fractions of an hour.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

_MINUTE, _HOUR, _DAY = 60.0, 3600.0, 86400.0
_ROUND_ABOVE_A_MINUTE = (
    *(_MINUTE * n for n in (1, 2, 5, 10, 15, 30)),
    *(_HOUR * n for n in (1, 2, 3, 6, 12)),
)


@dataclass(frozen=True, slots=True)
class Tick:
    """A place on the axis, in seconds from its beginning, and what to write there."""

    at_s: float
    label: str


def ticks(span_s: float, *, at_most: int) -> tuple[Tick, ...]:
    """Ticks from 0 to `span_s` at a round step; all labels in one unit. At least the one at 0."""
    if not span_s > 0 or at_most < 2:
        return (Tick(0.0, "0"),)
    step = _round_up(span_s / (at_most - 1))
    count = math.floor(span_s / step + 1e-9)
    return tuple(Tick(step * n, _label(step * n, step, span_s)) for n in range(count + 1))


def _round_up(step_s: float) -> float:
    """The smallest round step that is at least `step_s`."""
    if step_s > 30:
        for candidate in _ROUND_ABOVE_A_MINUTE:
            if candidate >= step_s:
                return candidate
        return _DAY * _decimal(step_s / _DAY)
    if step_s > 10:
        return 15.0 if step_s <= 15 else 30.0
    return _decimal(step_s)


def _decimal(value: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is at least `value`."""
    power = 10.0 ** math.floor(math.log10(value))
    for factor in (1, 2, 5, 10):
        if factor * power >= value * (1 - 1e-9):
            return factor * power
    return 10 * power


def _label(at_s: float, step_s: float, span_s: float) -> str:
    if at_s == 0:
        return "0"
    if span_s < 2e-3:
        return f"{_plain(at_s * 1e6)} µs"
    if span_s < 1:
        return f"{_plain(at_s * 1e3)} ms"
    if step_s < 15:
        return f"{_plain(at_s)} s"
    if step_s < _HOUR:
        minutes, seconds = divmod(round(at_s), 60)
        if step_s < _MINUTE:
            return f"{minutes}:{seconds:02d} min"
        return f"{minutes} min"
    if step_s < _DAY:
        return f"{round(at_s / _HOUR)} h"
    return f"{_plain(at_s / _DAY)} d"


def duration(seconds: float) -> str:
    """How long something took, as a person would say it: `850 µs`, `12 ms`, `1.84 s`, `2 min 5 s`."""
    if seconds <= 0:
        return "0 s"
    if seconds < 0.9995e-3:
        return f"{max(1, round(seconds * 1e6))} µs"
    if seconds < 0.9995:
        return f"{_significant(seconds * 1e3)} ms"
    if seconds < 59.95:
        return f"{_significant(seconds)} s"
    if seconds < _HOUR - 0.5:
        return _two(round(seconds), 60, "min", "s")
    if seconds < _DAY - 30:
        return _two(round(seconds / _MINUTE), 60, "h", "min")
    return _two(round(seconds / _HOUR), 24, "d", "h")


def _two(total: int, base: int, large: str, small: str) -> str:
    first, rest = divmod(total, base)
    return f"{first:,} {large} {rest} {small}" if rest else f"{first:,} {large}"


def _significant(value: float) -> str:
    """About three significant digits, no trailing zeros."""
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return _plain(round(value, digits))


def _plain(value: float) -> str:
    text = f"{value:.6f}".rstrip("0").rstrip(".") if abs(value) < 1e15 else f"{value:.3g}"
    return text or "0"
