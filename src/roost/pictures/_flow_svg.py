"""Flow as SVG: senders, subjects and receivers as three columns, between them lines as thick as what went there."""

from __future__ import annotations

import math
from collections import Counter

from roost.pictures._flow import Flow, Line, Node
from roost.pictures._frame import EDGE, WIDTH, nothing, page
from roost.pictures._svg import fit, foreign, number, tag, width
from roost.pictures._words import counted

_TOP = 110
_PORT, _LEAST_PORT, _WITH_FIGURES = 16.0, 4.0, 12.0  # height that a line takes at a node
_TALL = 720  # pixels that all lines of one gap share before they draw closer
_NODE, _SPACE, _PAD = 30, 10, 5
_NARROWEST, _WIDEST = 84, (210, 270, 210)
_THICK, _THIN = 7.0, 1.4
_HEADS = ("senders", "subjects", "receivers")


def draw(scene: Flow, title: str) -> str:
    """The whole picture, 920 pixels wide and as high as it needs."""
    return _Drawing(scene, title).svg()


class _Drawing:
    def __init__(self, scene: Flow, title: str) -> None:
        self.scene = scene
        self.title = title
        most = max(map(len, scene.lines))
        self.port = min(_PORT, max(_LEAST_PORT, _TALL / most)) if most else _PORT
        self.wides = [
            math.ceil(
                min(max([width(one.name, 12, bold=True) + 24 for one in column] + [_NARROWEST]), widest)
            )
            for column, widest in zip(scene.columns, _WIDEST, strict=True)
        ]
        right = WIDTH - EDGE
        gap = (right - EDGE - sum(self.wides)) / 2
        self.lefts = [EDGE, EDGE + self.wides[0] + gap, right - self.wides[2]]
        self.heights = [self._heights(at) for at in range(3)]
        talls = [sum(column) + _SPACE * (len(column) - 1) for column in self.heights]
        self.tall = max(*talls, 0.0)
        self.tops = [
            self._tops(column, _TOP + (self.tall - tall) / 2)
            for column, tall in zip(self.heights, talls, strict=True)
        ]
        self.thickest = max((one.count for lines in scene.lines for one in lines), default=1)

    def _heights(self, at: int) -> list[float]:
        """A node is as high as the lines on its fuller side need."""
        before = Counter(one.end for one in self.scene.lines[at - 1]) if at else Counter[int]()
        after = Counter(one.start for one in self.scene.lines[at]) if at < 2 else Counter[int]()
        lines = [max(before[number], after[number]) for number in range(len(self.scene.columns[at]))]
        return [max(_NODE, count * self.port + 2 * _PAD) for count in lines]

    def _tops(self, heights: list[float], top: float) -> list[float]:
        tops = []
        for height in heights:
            tops.append(top)
            top += height + _SPACE
        return tops

    def svg(self) -> str:
        content: list[str] = []
        if self.scene.hops:
            for at, head in enumerate(_HEADS):
                content.append(tag("text", head, class_="muted", x=self.lefts[at] + 1, y=_TOP - 12))
            for at in (0, 1):
                content += self._lines(at)
            for at in range(3):
                for node, top, height in zip(
                    self.scene.columns[at], self.tops[at], self.heights[at], strict=True
                ):
                    content.append(self._node(node, at, top, height))
        bottom = _TOP + self.tall
        if content and self.port < _WITH_FIGURES:
            note = "Too many lines for a figure each: a line's tooltip has it."
            content.append(tag("text", note, class_="muted label", x=EDGE, y=bottom + 24))
            bottom += 22
        return page(
            content or nothing("No message was sent."),
            scope="roost-flow",
            title=self.title,
            summary=self.scene.summary(),
            told=" ".join(f"{one}." for one in self.scene.tale()),
            height=round(bottom + 24) if content else 120,
        )

    def _node(self, node: Node, at: int, top: float, height: float) -> str:
        left, wide = self.lefts[at], self.wides[at]
        look, ink = ("node", "ink name") if at == 1 else ("running", "on-running name")
        if node.together or node.nobody:
            look, ink = "node", "muted name"
        text = foreign(fit(node.name, wide - 20, 12, bold=True))
        middle = top + height / 2 + 4.2
        told = f"{node.name}: {counted(node.count, 'message')}"
        return tag(
            "g",
            tag("title", foreign(told, 400))
            + tag("rect", class_=look, x=left, y=top, width=wide, height=height, rx=5)
            + tag("text", text, class_=ink, x=left + wide / 2, y=middle, text_anchor="middle"),
        )

    def _lines(self, at: int) -> list[str]:
        """Lines of one gap; at either node they are in the order of their other ends, so that few cross."""
        lines = self.scene.lines[at]
        starts = self._ports(at, [(one.start, one.end) for one in lines])
        ends = self._ports(at + 1, [(one.end, one.start) for one in lines])
        left = self.lefts[at] + self.wides[at]
        right = self.lefts[at + 1]
        drawn, figures = [], []
        for one in sorted(lines, key=lambda each: -each.count):
            y, to_y = starts[one.start, one.end], ends[one.end, one.start]
            drawn.append(self._line(at, one, left, y, right, to_y))
            if self.port >= _WITH_FIGURES:
                place = {"x": left + 12, "y": y + 3.8}
                figures.append(tag("text", f"{one.count:,}", class_="ink label figure", **place))
        return drawn + figures

    def _ports(self, at: int, ends: list[tuple[int, int]]) -> dict[tuple[int, int], float]:
        """The height at which each line meets its node, by that node and the other."""
        count = Counter(node for node, _ in ends)
        taken = Counter[int]()
        places = {}
        for node, other in sorted(ends):
            top = self.tops[at][node] + (self.heights[at][node] - count[node] * self.port) / 2
            places[node, other] = top + (taken[node] + 0.5) * self.port
            taken[node] += 1
        return places

    def _line(self, at: int, one: Line, x: float, y: float, to_x: float, to_y: float) -> str:
        room = min(_THICK, self.port - 2)
        thick = max(_THIN, one.count / self.thickest * room)
        half = min(thick / 2 + 2.4, self.port / 2)
        tip = to_x - 2
        back = tip - half * 1.5
        middle = (x + back) / 2
        curve = f"C{number(middle)} {number(y)} {number(middle)} {number(to_y)} {number(back)} {number(to_y)}"
        path = f"M{number(x)} {number(y)}{curve}"
        head = f"M{number(back - 1)} {number(to_y - half)}L{number(tip)} {number(to_y)}"
        head += f"L{number(back - 1)} {number(to_y + half)}z"
        start, end = self.scene.columns[at][one.start], self.scene.columns[at + 1][one.end]
        lost = end.nobody
        return tag(
            "g",
            tag("title", foreign(f"{start.name} → {end.name}: {counted(one.count, 'message')}", 400))
            + tag("path", class_="flow lost-way" if lost else "flow", stroke_width=thick, d=path)
            + tag("path", class_="muted" if lost else "done", d=head),
        )
