"""A strip for each circuit breaker: when it was closed, open and half open, and how its probes ended."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from roost.observe import Event
from roost.pictures import _breakers_svg, _breakers_text
from roost.pictures._breakers import Strips, strips
from roost.pictures._frame import Shown


@dataclass(frozen=True, slots=True)
class BreakerStrip(Shown):
    """Made by `breaker_strip`. A notebook shows it as a picture, a terminal as text."""

    events: Sequence[Event]
    title: str = "Circuit breakers"
    began_s: float | None = None
    until_s: float | None = None

    def svg(self) -> str:
        """The picture: SVG 1.1, 920 pixels wide, for light and dark, with alternative text and without scripts."""
        return _breakers_svg.draw(self._scene(), self.title)

    def text(self, width: int = 100) -> str:
        """The same for a terminal, in lines of at most `width` characters (at least 40)."""
        return _breakers_text.draw(self._scene(), self.title, max(40, width))

    def __repr__(self) -> str:
        return f"BreakerStrip({self.title!r}: {', '.join(self._scene().summary())})"

    def _scene(self) -> Strips:
        return strips(self.events, self.began_s, self.until_s)


def breaker_strip(
    events: Iterable[Event],
    *,
    title: str = "Circuit breakers",
    began_s: float | None = None,
    until_s: float | None = None,
) -> BreakerStrip:
    """The states of circuit breakers over time, from recorded events: ``bus.watch(events.append)``.

    `events` may be all that a bus, a breaker (`CircuitBreaker.watch`) or several of them told; what is not of a
    breaker is passed over, and events of one subject are of one breaker. The picture goes from `began_s` to `until_s`
    (seconds since 1970), without them from a little before the first change to a little after the last.
    """
    return BreakerStrip(tuple(events), title, began_s, until_s)


__all__ = ["BreakerStrip", "breaker_strip"]
