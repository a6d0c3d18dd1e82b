"""The card of a connection: which server, how far away, what JetStream holds there, who one is."""

from __future__ import annotations

from dataclasses import dataclass
from textwrap import wrap

from roost._text import clean, quoted
from roost.errors import ConfigError
from roost.pictures import _card_svg
from roost.pictures._frame import Shown
from roost.pictures._timeline_text import shorten
from roost.transport.status import ServerStatus


@dataclass(frozen=True, slots=True)
class ConnectionCard(Shown):
    """Made by `connection_card`. A notebook shows it as a picture, a terminal as text."""

    status: ServerStatus
    title: str = "Connection"

    def svg(self) -> str:
        """The card: SVG 1.1, 640 pixels wide, for light and dark, with alternative text and without scripts."""
        return _card_svg.draw(self.status, self.title)

    def text(self, width: int = 100) -> str:
        """The same for a terminal, in lines of at most `width` characters (at least 40)."""
        rows = [("state", _card_svg.state(self.status)[1]), *self.status.fields()]
        lines = [shorten(clean(self.title, 400), max(40, width))]
        for name, value in rows:
            lines += wrap(f"{name:<12}{clean(value, 1000)}", max(40, width), subsequent_indent=" " * 12)
        return "\n".join(lines)

    def __repr__(self) -> str:
        return f"ConnectionCard({self.title!r}: {_card_svg.state(self.status)[1]}, {self.status.url})"


def connection_card(status: ServerStatus, *, title: str = "Connection") -> ConnectionCard:
    """The connection as of one moment: ``connection_card(await bus.status())``.

    The sign is green for a connection, orange for one without JetStream or with none known, and a word says the same.
    A store that is at least nine tenths full is red. Raises ConfigError (a ValueError) for anything but a
    ServerStatus; a server that does not answer has none: `bus.status()` raises.
    """
    if not isinstance(status, ServerStatus):
        raise ConfigError(
            f"connection_card draws what `await bus.status()` returns, and got {quoted(status)}"
        )
    return ConnectionCard(status, title)


__all__ = ["ConnectionCard", "connection_card"]
