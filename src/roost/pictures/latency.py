"""How long things took: a histogram for each series, with p50, p95 and p99."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from roost._text import quoted
from roost.errors import ConfigError
from roost.pictures import _latency_svg, _latency_text
from roost.pictures._frame import Shown
from roost.pictures._latency import MOST_S, Latencies, Spread, latencies, spread

MOST = 20


@dataclass(frozen=True, slots=True)
class LatencyPicture(Shown):
    """Made by `latency_picture`. A notebook shows it as a picture, a terminal as text.

    `samples_s` are seconds by the name of their series, in order of size.
    """

    samples_s: Mapping[str, Sequence[float]]
    title: str = "Latency"

    @property
    def spreads(self) -> dict[str, Spread]:
        """By series: `.count`, `.least_s`, `.p50_s`, `.p95_s`, `.p99_s`, `.most_s`. One without a name is named ""."""
        return {name: spread(samples) for name, samples in self.samples_s.items()}

    def svg(self) -> str:
        """The picture: SVG 1.1, 920 pixels wide, for light and dark, with alternative text and without scripts."""
        return _latency_svg.draw(self._scene(), self.title)

    def text(self, width: int = 100) -> str:
        """The same for a terminal, in lines of at most `width` characters (at least 40)."""
        return _latency_text.draw(self.samples_s, self.title, max(40, width))

    def __repr__(self) -> str:
        return f"LatencyPicture({self.title!r}: {', '.join(self._scene().summary())})"

    def _scene(self) -> Latencies:
        return latencies(self.samples_s, columns=_latency_svg.COLUMNS)


def latency_picture(
    samples_s: Iterable[float] | Mapping[str, Iterable[float]], *, title: str = "Latency"
) -> LatencyPicture:
    """How long things took: ``latency_picture({"request": seconds, "task": others})``, or one list of seconds.

    Up to 20 series are drawn below one axis, which is logarithmic when the samples span more than one and a half
    powers of ten. A percentile is the least sample that so many per cent do not exceed (nearest rank), so each one
    drawn was measured; of fewer than 100 samples p99 is the slowest. Each histogram is as high as its own fullest
    column. Raises ConfigError (a ValueError) for a sample that is no number of seconds from 0, and for more series.
    """
    if isinstance(samples_s, Mapping):
        series = {_name(name): _sorted(_name(name), samples) for name, samples in samples_s.items()}
    else:
        series = {"": _sorted("", samples_s)}
    if len(series) > MOST:
        raise ConfigError(
            f"latency_picture draws at most {MOST} series, and got {len(series)}; give it fewer"
        )
    return LatencyPicture(series, title)


def _name(value: object) -> str:
    if not isinstance(value, str):
        raise ConfigError(f"{quoted(value)} is no name of a series; latency_picture takes names as str")
    return value


def _sorted(name: str, samples: Iterable[float]) -> tuple[float, ...]:
    of = f" of {quoted(name)}" if name else ""
    if isinstance(samples, str | bytes) or not isinstance(samples, Iterable):
        raise ConfigError(f"the samples{of} are {quoted(samples)}; latency_picture takes a list of seconds")
    found = []
    for sample in samples:
        try:
            value = math.nan if isinstance(sample, str | bytes) else float(sample)
        except (TypeError, ValueError):
            value = math.nan
        if not 0 <= value <= MOST_S:
            raise ConfigError(f"a sample{of} is {quoted(sample)}; latency_picture takes seconds, from 0")
        found.append(value)
    return tuple(sorted(found))


__all__ = ["LatencyPicture", "Spread", "latency_picture"]
