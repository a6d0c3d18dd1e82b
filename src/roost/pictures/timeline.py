"""The timeline of tasks: which instance did what when, what waited, what failed, what died.

A table of outcomes says *that* a run took nine seconds. The lanes show *why*: one worker idle, a backoff in
the middle, a process that died with two tasks in its hands.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from roost.pictures import _timeline_mermaid, _timeline_svg, _timeline_text, _words
from roost.pictures._frame import Shown
from roost.pictures._lanes import Scene, scene
from roost.tasks.history import TaskHistory


@dataclass(frozen=True, slots=True)
class Timeline(Shown):
    """A swim-lane picture of `tasks`, in any order, one lane per instance that ran attempts.

    `until_s` (seconds since 1970) is how far open tasks are drawn; without it, to the last thing known.
    `unreadable` is how many records could not be read; the picture says so. A notebook shows a Timeline as a
    picture, a terminal as text.
    """

    tasks: Sequence[TaskHistory]
    title: str = "Timeline"
    until_s: float | None = None
    unreadable: int = 0
    _known: list[Scene] = field(default_factory=list, init=False, repr=False, compare=False)

    def svg(self) -> str:
        """The picture: SVG 1.1, 920 pixels wide, for light and dark, with alternative text and without scripts."""
        return _timeline_svg.draw(self._scene(), self.title, notes=self._notes())

    def text(self, width: int = 100) -> str:
        """The same for a terminal, in lines of at most `width` characters (at least 40)."""
        return _timeline_text.draw(self._scene(), self.title, max(40, width), notes=self._notes())

    def mermaid(self) -> str:
        """The same as a Mermaid Gantt chart, for pages that draw those; many attempts are put together."""
        return _timeline_mermaid.draw(self._scene(), self.title, notes=self._notes())

    def summary(self) -> list[str]:
        """The figures above the picture, in words: "20 tasks", "18 done", "2 dead" and so on."""
        return _words.summary(self._scene().counts)

    def __repr__(self) -> str:
        return f"Timeline({self.title!r}: {', '.join(self.summary())})"

    def _scene(self) -> Scene:
        if not self._known:
            self._known.append(scene(self.tasks, until_s=self.until_s))
        return self._known[0]

    def _notes(self) -> list[str]:
        if not self.unreadable:
            return []
        return [f"{_words.counted(self.unreadable, 'record')} could not be read and left out."]
