"""Who did how many, as bars: the values, as SVG and as text. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from roost._text import clean
from roost.pictures._frame import EDGE, RIGHT, WIDTH, nothing, page
from roost.pictures._svg import fit, foreign, tag, width
from roost.pictures._timeline_text import cells, shorten
from roost.pictures._words import counted

MOST = 30
"""Names with a bar of their own; when there are more, the rest share one."""
_TOP, _ROW, _BAR = 84, 26, 16
_EIGHTHS = " ▏▎▍▌▋▊▉█"


@dataclass(frozen=True, slots=True)
class Loads:
    """Bars in order; `rest` is how many names the last one stands for, 0 if it stands for itself."""

    bars: tuple[tuple[str, int], ...]
    names: int
    total: int
    unit: str
    rest: int = 0

    def summary(self) -> list[str]:
        parts = [f"{self.total:,} {clean(self.unit, 60)}", f"by {self.names:,}"]
        own = [count for _, count in self.bars[: len(self.bars) - bool(self.rest)]]
        if len(own) > 1 and not self.rest:
            low, high = min(own), max(own)
            parts.append(f"{low:,} each" if low == high else f"{low:,} to {high:,} each")
        if self.rest:
            parts.append(f"the {len(own)} with most shown, the other {self.rest:,} together")
        return parts

    def share(self, count: int) -> str:
        percent = count / self.total * 100 if self.total else 0.0
        return f"{percent:.1f} %" if 0 < percent < 9.95 else f"{percent:.0f} %"


def loads(counts: Mapping[str, int], unit: str) -> Loads:
    """In the order of `counts`; of more than MOST names those with the largest counts, and the rest summed."""
    bars = list(counts.items())
    total = sum(counts.values())
    if len(bars) <= MOST:
        return Loads(tuple(bars), len(bars), total, unit)
    kept = {name for name, _ in sorted(bars, key=lambda one: -one[1])[: MOST - 1]}
    shown = [one for one in bars if one[0] in kept]
    rest = len(bars) - len(shown)
    shown.append((f"{counted(rest, 'more name')}", total - sum(count for _, count in shown)))
    return Loads(tuple(shown), len(bars), total, unit, rest)


def draw_svg(scene: Loads, title: str) -> str:
    figures = [(f"{count:,}", scene.share(count)) for _, count in scene.bars]
    left = EDGE + math.ceil(min(max([width(name, 12, bold=True) for name, _ in scene.bars] or [0]), 260)) + 14
    wide_count = max([width(count, 12, bold=True) for count, _ in figures] or [0])
    room = WIDTH - RIGHT - left - wide_count - 72  # for the longest bar
    most = max([count for _, count in scene.bars] or [0])
    content = [] if scene.bars else nothing(f"No {foreign(scene.unit, 60)} counted.")
    y = float(_TOP)
    for at, ((name, count), (figure, share)) in enumerate(zip(scene.bars, figures, strict=True)):
        together = scene.rest and at == len(scene.bars) - 1
        long = max(count / most * room, 1.5) if count else 0.0
        middle = y + _ROW / 2 + 4
        label = foreign(fit(name, left - EDGE - 14, 12, bold=True))
        look = "muted" if together else "ink name"
        row = [
            tag("title", foreign(f"{name}: {figure} {scene.unit}, {share}", 400)),
            tag("text", label, class_=look, x=left - 14, y=middle, text_anchor="end"),
            tag("rect", class_="track", x=left, y=y + 5, width=room, height=_BAR, rx=3),
        ]
        if count:
            box = {"x": left, "y": y + 5, "width": long, "height": _BAR, "rx": min(3, long / 2)}
            row.append(tag("rect", class_="queue" if together else "done", **box))
        right = left + room + 12 + wide_count
        row += [
            tag("text", figure, class_="ink name", x=right, y=middle, text_anchor="end"),
            tag("text", share, class_="muted", x=right + 50, y=middle, text_anchor="end"),
        ]
        content.append(tag("g", "".join(row)))
        y += _ROW
    return page(
        content,
        scope="roost-load",
        title=title,
        summary=scene.summary(),
        told=" ".join(f"{name}: {count:,} ({scene.share(count)})." for name, count in scene.bars),
        height=y + 20 if scene.bars else 120,
    )


def draw_text(scene: Loads, title: str, wide: int) -> str:
    head = [shorten(clean(title, 400), wide), shorten("   ".join(scene.summary()), wide), ""]
    if not scene.bars:
        return "\n".join([*head, f"No {clean(scene.unit, 60)} counted."])
    names = [shorten(clean(name), wide // 3) for name, _ in scene.bars]
    left = max(map(cells, names))
    digits = max(len(f"{count:,}") for _, count in scene.bars)
    room = max(1, wide - left - digits - 11)
    most = max(count for _, count in scene.bars)
    lines = []
    for name, (_, count) in zip(names, scene.bars, strict=True):
        label = " " * (left - cells(name)) + name
        bar = _bar(count / most * room if most else 0.0)
        lines.append(f"{label}  {bar:<{room}}  {count:>{digits},}{scene.share(count):>7}")
    return "\n".join([*head, *lines])


def _bar(long: float) -> str:
    """Blocks to an eighth of a character; something at least for anything."""
    eighths = max(round(long * 8), 1) if long > 0 else 0
    return "█" * (eighths // 8) + (_EIGHTHS[eighths % 8] if eighths % 8 else "")
