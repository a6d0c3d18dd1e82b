"""How a demo tells how far it is: a bar on a terminal, a line every tenth elsewhere, nothing beside JSON."""

from __future__ import annotations

import sys
from typing import Any, Protocol, Self

from roost.demo.contracts import Progress
from roost.runtime import Notice


class View(Protocol):
    """Where a demo's words go."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc_info: object) -> None: ...
    def say(self, text: str) -> None: ...
    def progress(self, value: Progress) -> None: ...


class Quiet:
    """Says nothing."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None: ...
    def say(self, text: str) -> None: ...
    def progress(self, value: Progress) -> None: ...


class Lines(Quiet):
    """Plain lines on standard output."""

    def __init__(self) -> None:
        self._told = 0

    def say(self, text: str) -> None:
        sys.stdout.write(f"{text}\n")
        sys.stdout.flush()

    def progress(self, value: Progress) -> None:
        tenth = value.ended * 10 // value.submitted if value.submitted else 0
        if tenth > self._told:
            self._told = tenth
            dead = f", {value.dead} dead" if value.dead else ""
            percent = value.ended * 100 // value.submitted
            self.say(f"{value.ended} of {value.submitted} tasks for files have ended ({percent} %){dead}")


class Bar(Quiet):
    """A bar on a terminal. Needs rich."""

    def __init__(self) -> None:
        from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichProgress

        columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        self._bar: Any = RichProgress(*columns)
        self._job: Any = self._bar.add_task("starting", total=None)
        self._ended = 0

    def __enter__(self) -> Self:
        self._bar.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._bar.stop()

    def say(self, text: str) -> None:
        self._bar.console.print(text, markup=False, highlight=False, soft_wrap=True)

    def progress(self, value: Progress) -> None:
        if value.ended < self._ended:  # a coordinator that took over counts from the start again
            return
        self._ended = value.ended
        what = f"tasks for files ({value.dead} dead)" if value.dead else "tasks for files"
        self._bar.update(self._job, description=what, total=value.submitted, completed=value.ended)


def view(*, as_json: bool) -> View:
    """The right one for where standard output goes."""
    if as_json:
        return Quiet()
    if sys.stdout.isatty():
        try:
            return Bar()
        except ImportError:  # rich comes with the extra `cli`
            return Lines()
    return Lines()


def notice(told: Notice) -> None:
    """What happens to a process of the team, on standard error, unless it goes as planned."""
    if told.kind not in ("waiting", "ready", "stopping", "stopped"):
        sys.stderr.write(f"{told}\n")
        sys.stderr.flush()
