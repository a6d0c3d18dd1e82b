"""The delivery matrix: which message reached which subscription, checked against what the server says."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from roost._text import quoted
from roost.errors import ConfigError
from roost.observe import Explanation
from roost.pictures import _matrix_svg, _matrix_text
from roost.pictures._frame import Shown
from roost.pictures._matrix import Matrix, Subscription, matrix


@dataclass(frozen=True, slots=True)
class DeliveryMatrix(Shown):
    """Made by `delivery_matrix`. A notebook shows it as a picture, a terminal as text."""

    title: str
    _matrix: Matrix

    @property
    def agrees(self) -> bool:
        """Each message has an explanation, and arrived where that said and nowhere else."""
        return self._matrix.agrees

    @property
    def differences(self) -> tuple[str, ...]:
        """A sentence for each cell, or queue group, that is not as the server said."""
        return self._matrix.differences

    def svg(self) -> str:
        """The picture: SVG 1.1, 920 pixels wide or more, for light and dark, with alternative text, without scripts."""
        return _matrix_svg.draw(self._matrix, self.title)

    def text(self, width: int = 100) -> str:
        """The same for a terminal; lines are at most `width` characters (at least 40) if the subscriptions fit."""
        return _matrix_text.draw(self._matrix, self.title, max(40, width))

    def __repr__(self) -> str:
        return f"DeliveryMatrix({self.title!r}: {', '.join(self._matrix.summary())})"


def delivery_matrix(
    subscriptions: Mapping[str, str | tuple[str, str]],
    messages: Sequence[str],
    arrived: Iterable[tuple[str, str]],
    explained: Iterable[Explanation] = (),
    *,
    title: str = "Who got which message",
) -> DeliveryMatrix:
    """Which message reached which subscription, drawn from what arrived and checked against `Bus.explain`.

    `subscriptions` are patterns by name, or (pattern, queue group) by name. `messages` are the subjects that were
    sent, in order; one that was sent several times stands once, with counts. `arrived` has (subject, name of the
    subscription) for each delivery. `explained` are what `bus.explain` said of those subjects, asked while all were
    subscribed: a subscription is known there by its pattern, and by the name of its client where that is the same.
    Of a queue group one member must have got each message.

    Raises ConfigError for a delivery of a message or to a subscription that is not listed.
    """
    found = {name: _subscription(name, given) for name, given in subscriptions.items()}
    if isinstance(messages, str | bytes):
        raise ConfigError(f"messages = {quoted(messages)}: a list of subjects is needed")
    messages = list(messages)
    arrivals = list(arrived)
    known = set(messages)
    for subject, name in arrivals:
        if subject not in known or name not in found:
            what = f"message {quoted(subject)}" if subject not in known else f"subscription {quoted(name)}"
            raise ConfigError(
                f"{what} is among those that arrived, and not among those listed; list it, or leave it out"
            )
    return DeliveryMatrix(title, matrix(found, messages, arrivals, explained))


def _subscription(name: str, given: str | tuple[str, str]) -> Subscription:
    if isinstance(given, str):
        return given, None
    if isinstance(given, tuple) and len(given) == 2 and all(isinstance(one, str) for one in given):
        return given
    raise ConfigError(
        f"subscription {quoted(name)}: {quoted(given)} is no pattern, and no (pattern, queue group)"
    )


__all__ = ["DeliveryMatrix", "delivery_matrix"]
