"""What stands around every picture: the card, title and summary, alternative text, axis, legend. Pure.

So that a picture is only its own content, and all look alike. To draw one: paint the content below `TOP` and
within `EDGE` and `WIDTH - RIGHT` as elements (`_svg.tag`), then

    page(
        [*grid(...), *content, *legend([...], top=y)[0]],
        scope="roost-load",                  # class of the root: one per kind of picture; scopes the stylesheet
        title=self.title,                    # anybody's text: is cut to its room and escaped here
        summary=["300 messages", "by 5"],    # stands below the title and in the alternative text
        told="w1: 103. w2: 98. …",           # all of it in words, for <desc>
        height=total,
    )

Colours are classes of the stylesheet in `_svg.py`. The public class of a picture has `svg()` and `text()` and
gets what a notebook calls from `Shown`. Foreign text goes through `foreign(fit(text, room, size))`.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

from roost.pictures._svg import fit, foreign, number, stylesheet, tag, width

WIDTH = 920
EDGE, RIGHT = 24, 18  # left and right of the content
TOP = 106
"""Where the content begins below title, summary and an axis; one without axis may begin at 84."""


class Shown(ABC):
    """A picture that shows itself: in a notebook as SVG, in a terminal as text."""

    __slots__ = ()

    @abstractmethod
    def svg(self) -> str:
        """The picture: SVG 1.1, for light and dark, with alternative text and without scripts."""

    @abstractmethod
    def text(self, width: int = 100) -> str:
        """The same for a terminal, in lines of at most `width` characters (at least 40)."""

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"image/svg+xml": self.svg(), "text/plain": self.text()}

    def _repr_svg_(self) -> str:
        return self.svg()


def page(
    content: Iterable[str],
    *,
    scope: str,
    title: str,
    summary: Sequence[str],
    told: str,
    height: float,
    wide: float = WIDTH,
    hatch: str = "",
) -> str:
    """The whole file. `hatch` is the id of a pattern that `content` fills with, from `hatch_id`."""
    alternative = foreign(f"{title}: {', '.join(summary)}", 400)
    room = wide - 2 * EDGE
    line = fit(" · ".join(summary), room, 12.5)
    parts = [
        tag("title", alternative),
        tag("desc", foreign(told, 4000)),
        tag("style", stylesheet(scope)),
        *([_hatch(hatch)] if hatch else []),
        tag("rect", class_="ground", width=wide, height=height, rx=8),
        tag("rect", class_="edge", x=0.5, y=0.5, width=wide - 1, height=height - 1, rx=8),
        tag("text", foreign(fit(title, room, 17, bold=True), 400), class_="ink title", x=EDGE, y=38),
        tag("text", foreign(line, 400), class_="muted summary", x=EDGE, y=60),
        *content,
    ]
    return tag(
        "svg",
        "\n" + "\n".join(parts) + "\n",
        xmlns="http://www.w3.org/2000/svg",
        class_=scope,
        role="img",
        aria_label=alternative,
        width=wide,
        height=height,
        viewBox=f"0 0 {number(wide)} {number(height)}",
    )


def hatch_id(*about: object) -> str:
    """An id for a pattern: another for each picture, since a notebook may put several into one page."""
    key = repr(about).encode("utf-8", "replace")
    return "roost-" + hashlib.blake2b(key, digest_size=4).hexdigest()


def _hatch(id: str) -> str:
    line = tag("path", class_="hatch", d="M0 0V5")
    turned = {"patternUnits": "userSpaceOnUse", "patternTransform": "rotate(45)"}
    return tag("defs", tag("pattern", line, id=id, width=5, height=5, **turned))


def nothing(text: str) -> list[str]:
    """Instead of content. The picture is then 120 pixels high."""
    return [tag("text", text, class_="muted", x=EDGE, y=92)]


def grid(marks: Iterable[tuple[float, str]], *, bottom: float, top: float = TOP) -> list[str]:
    """An axis above the content: at each x a vertical line down to `bottom` and a label."""
    parts = []
    for at, label in marks:
        x = round(at) + 0.5
        parts.append(tag("path", class_="grid", d=f"M{number(x)} {number(top - 6)}V{number(bottom)}"))
        parts.append(tag("text", label, class_="muted", x=x, y=top - 12, text_anchor="middle"))
    return parts


def beside(name: str, text: str, *, y: float, room: float, full: str = "") -> list[str]:
    """A name at the left with a line below it, both cut to `room`; `full` is the name's tooltip."""
    label = tag("text", foreign(fit(name, room, 12, bold=True)), class_="ink name", x=EDGE, y=y)
    if full:
        label = tag("g", tag("title", foreign(full, 400)) + label)
    return [label, tag("text", foreign(fit(text, room, 10.5)), class_="muted label", x=EDGE, y=y + 15)]


def legend(signs: Iterable[tuple[str, float, str]], *, top: float) -> tuple[list[str], float]:
    """Elements and height of a legend of (meaning, width of the sign, its drawing within 0..12 pixels of height)."""
    parts: list[str] = []
    x, y = float(EDGE), top
    for text, long, drawing in signs:
        indent = long + 6 if long else 0.0
        needed = indent + width(text, 11) + 16
        if x + needed > WIDTH - EDGE and x > EDGE:
            x, y = float(EDGE), y + 20
        if drawing:
            parts.append(tag("g", drawing, transform=f"translate({number(x)} {number(y)})"))
        parts.append(tag("text", text, class_="muted", x=x + indent, y=y + 10))
        x += needed
    return parts, y + 20 - top
