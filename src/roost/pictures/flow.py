"""Who sent what to whom: senders, subjects and receivers, and how many messages went along each line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from roost._text import quoted
from roost.errors import ConfigError
from roost.pictures import _flow_svg, _flow_text
from roost.pictures._flow import Flow, Hop, flow
from roost.pictures._frame import Shown


@dataclass(frozen=True, slots=True)
class FlowPicture(Shown):
    """Made by `flow_picture`. A notebook shows it as a picture, a terminal as text.

    `hops` has the count of each (sender, subject, receiver).
    """

    hops: Mapping[Hop, int]
    title: str = "Message flow"

    def svg(self) -> str:
        """The picture: SVG 1.1, 920 pixels wide, for light and dark, with alternative text and without scripts."""
        return _flow_svg.draw(self._scene(), self.title)

    def text(self, width: int = 100) -> str:
        """The same for a terminal, in lines of at most `width` characters (at least 40)."""
        return _flow_text.draw(self._scene(), self.title, max(40, width))

    def __repr__(self) -> str:
        return f"FlowPicture({self.title!r}: {', '.join(self._scene().summary())})"

    def _scene(self) -> Flow:
        return flow(self.hops)


def flow_picture(hops: Iterable[tuple[str, str, str]], *, title: str = "Message flow") -> FlowPicture:
    """Who sent what to whom: ``flow_picture([("planner", "tasks.digest", "worker-1"), ...])``.

    A hop is a sender, a subject and a receiver, once for each message that arrived; one that three receivers got is
    three hops. The receiver is "" for a message that nobody got. A line is as thick as what went along it, and its
    count stands where it begins. Of more than 12 senders, subjects or receivers those with least become one node,
    which says how many it stands for. Raises ConfigError (a ValueError) for what is no such hop.
    """
    return FlowPicture(dict(Counter(map(_hop, hops))), title)


def _hop(hop: object) -> Hop:
    match hop:
        case (str(sender), str(subject), str(receiver)) if sender and subject:
            return sender, subject, receiver
    raise ConfigError(
        f"{quoted(hop)} is no hop; flow_picture takes a sender, a subject and a receiver as str each, of which only "
        'the receiver may be "" (nobody)'
    )


__all__ = ["FlowPicture", "flow_picture"]
