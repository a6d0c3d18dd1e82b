"""What each notebook begins and ends with: a server to learn on, the check of it, exercises, and tidying up.

Nothing of NATS is hidden here: `lesson.url` is what the cells connect to. Without NATS_URL a server is started for
this notebook alone, and it ends with the last cell, or with the kernel. With NATS_URL the server is shared: each
subject and stream of this learner begins with a prefix (NATS_PREFIX, else the user of the hub, else one made up).
"""

from __future__ import annotations

import asyncio
import getpass
import hashlib
import html
import inspect
import os
import re
import secrets
import tempfile
from collections.abc import Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import lesson_leftovers as leftovers
from IPython.core.getipython import get_ipython
from lesson_guard import Guard
from lesson_place import Place, examine

import roost

SKIPPED = "__lesson__"  # the name by which a cell that cannot run here finds its lesson
ANSWER_LIMIT_S = 20.0
LEFT = "align='left' style='text-align:left'"  # GitHub heeds the one, JupyterLab the other


class Lesson:
    """Made by `await Lesson.open(title, needs=...)`; as the last line of a cell it shows itself as a card."""

    def __init__(self, title: str, place: Place, needs: dict[str, str], stack: AsyncExitStack) -> None:
        self.title = title
        self.place = place
        self.needs = needs
        self._stack = stack
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._closed = False

    @classmethod
    async def open(cls, title: str, needs: dict[str, str] | None = None) -> Lesson:
        """Find or start the server and try out what it allows.

        `needs` says for each section of the notebook which feature it cannot do without: "jetstream", "schedules",
        "trace", "agents" or "local servers". Raises ConnectionError when nobody answers at NATS_URL, PermissionError
        when this user may not even publish there, roost.ServerUnavailable when no server can be started.
        """
        shell = get_ipython()
        if shell is not None and isinstance(before := shell.user_ns.get(SKIPPED), Lesson):
            await before._end()  # the first cell was run again
        stack = AsyncExitStack()
        stack.callback(Guard().dismiss)
        url = os.environ.get("NATS_URL", "")
        try:
            if url:
                place = await examine(url, prefix=_prefix())
                if not place.missing["jetstream"]:
                    await leftovers.delete_streams(url, place.prefix)  # of a sitting that was killed
            else:
                place = await examine(await stack.enter_async_context(roost.local_server()), prefix="")
        except BaseException:
            await stack.aclose()
            raise
        lesson = cls(title, place, dict(needs or {}), stack)
        if shell is not None:
            shell.user_ns[SKIPPED] = lesson
            shell.input_transformers_cleanup.append(lesson._skip)
        return lesson

    # --- names ----------------------------------------------------------------------------------------

    @property
    def url(self) -> str:
        """What to connect to."""
        return self.place.url

    @property
    def namespace(self) -> str:
        """For `roost.connect(lesson.url, namespace=lesson.namespace)`."""
        return self.place.prefix or "roost"

    def subject(self, subject: str) -> str:
        """The subject to use here: itself on a server of one's own, below the learner's prefix on a shared one."""
        return f"{self.place.prefix}.{subject}" if self.place.prefix else subject

    def bare(self, subject: str) -> str:
        """The subject without the learner's prefix, for showing it."""
        return subject.removeprefix(f"{self.place.prefix}.") if self.place.prefix else subject

    def stream(self, name: str) -> str:
        """The name to use here for a stream, a key-value bucket or an object store."""
        return f"{self.place.prefix}_{name}" if self.place.prefix else name

    @property
    def folder(self) -> Path:
        """An empty folder for files of this notebook; `close` removes it."""
        if self._folder is None:
            self._folder = tempfile.TemporaryDirectory(prefix="lesson-")
        return Path(self._folder.name)

    # --- what can run here ----------------------------------------------------------------------------

    def has(self, feature: str) -> bool:
        """Whether "jetstream", "schedules", "trace", "agents" or "local servers" can be used here."""
        return not self.missing(feature)

    def missing(self, feature: str) -> str:
        """Why a feature cannot be used here; empty if it can."""
        return self.place.missing[feature]

    def _skip(self, lines: list[str]) -> list[str]:
        """Puts one line in place of a cell that begins with `# needs: feature` and cannot run here."""
        found = re.match(r"#\s*needs:\s*(.+)", lines[0]) if lines else None
        if found is None or self._closed:
            return lines
        absent = [name for name in re.split(r"\s*,\s*", found[1].strip()) if self.missing(name)]
        if not absent:
            return lines
        checks = re.findall(r"\blesson\.check\(\s*(\d+)", "".join(lines))
        return [f"{SKIPPED}.skipped({', '.join([repr(absent[0]), *checks])})\n"]

    def skipped(self, feature: str, *exercises: int) -> None:
        """Says instead of a cell why it was not run; `exercises` are those that it checks."""
        for start in [f"Exercise {number}: " for number in exercises] or [""]:
            print(f"{start}Not run here: this cell needs {feature}, but {self.missing(feature)}.")

    # --- exercises ------------------------------------------------------------------------------------

    async def check(self, number: int, answer: object, checker: Callable[[Any], Any]) -> None:
        """Says whether the answer to an exercise is right. Never raises for what the learner wrote.

        `checker(answer)`, a function or a coroutine function, tries the answer out; it returns True, or a hint.
        """
        if answer is ...:
            print(f"Exercise {number}: not answered yet.")
            return
        try:
            async with asyncio.timeout(ANSWER_LIMIT_S):
                found = checker(answer)
                if inspect.isawaitable(found):
                    found = await found
        except TimeoutError:
            found = "trying it out took too long: something waits for a message that does not come."
        except Exception as error:
            found = f"trying it out raised {type(error).__name__}: {error}"
        if found is True:
            print(f"Exercise {number}: right.")
        else:
            print(f"Exercise {number}: not right yet. {found or 'Look again at the cells above.'}")

    # --- the end --------------------------------------------------------------------------------------

    async def close(self) -> None:
        """Removes what this lesson made, looks for what cells have left, ends that too, and says both."""
        told = await self._end()
        print("\n".join(told))

    async def _end(self) -> list[str]:
        if self._closed:
            return ["This lesson was closed before. Run the first cell to begin again."]
        self._closed = True
        shell = get_ipython()
        if shell is not None:
            shell.input_transformers_cleanup.remove(self._skip)
            shell.user_ns.pop(SKIPPED, None)
        left = await leftovers.close_connections()
        left += await leftovers.end_tasks()
        told = []
        if self.place.prefix and self.has("jetstream"):
            told.append(await self._leave_shared())
        await self._stack.aclose()
        if not self.place.prefix:
            told.append("Stopped the server of this notebook and removed its store.")
        if self._folder is not None:
            self._folder.cleanup()
            told.append("Removed the folder of this notebook.")
        left += await asyncio.to_thread(leftovers.end_processes)
        told += [f"Left open by a cell above, ended now: {one}." for one in left]
        return told if any("may be left" in one for one in told) else [*told, "Nothing is left."]

    async def _leave_shared(self) -> str:
        try:
            deleted = await leftovers.delete_streams(self.url, self.place.prefix)
        except Exception as error:
            return f"The shared server could not be asked ({error}): streams of {self.place.prefix} may be left there."
        return f"Deleted on the shared server: {', '.join(deleted) or 'nothing, no stream was there'}."

    # --- the card -------------------------------------------------------------------------------------

    def _rows(self) -> list[tuple[str, str]]:
        out = [
            f"{name} ({self.missing(feature)})"
            for name, feature in self.needs.items()
            if self.missing(feature)
        ]
        return [
            ("Lesson", self.title),
            *self.place.rows(),
            ("Cannot run here", "; ".join(out) if out else "nothing: all sections run"),
        ]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        cells = "".join(
            f"<tr><th {LEFT}>{html.escape(name)}</th><td {LEFT}>{html.escape(value)}</td></tr>"
            for name, value in self._rows()
        )
        return {"text/html": f"<table>{cells}</table>", "text/plain": repr(self)}

    def __repr__(self) -> str:
        return "\n".join(f"{name:<16} {value}" for name, value in self._rows())


def chart(figure: Any, alternative: str) -> Any:
    """A matplotlib figure as SVG that says in words (`alternative`) what is to be seen; the last line of its cell."""
    import io

    import matplotlib
    from IPython.display import SVG
    from matplotlib import pyplot

    out = io.StringIO()
    with matplotlib.rc_context({"svg.hashsalt": "lesson", "svg.fonttype": "none"}):
        figure.savefig(out, format="svg", facecolor="white", metadata={"Title": alternative, "Date": None})
    pyplot.close(figure)
    return SVG(out.getvalue())


def _prefix() -> str:
    """One token of a subject, without `_`, which stands between prefix and name of a stream."""
    named = os.environ.get("NATS_PREFIX") or os.environ.get("JUPYTERHUB_USER")
    wanted = named or f"{getpass.getuser()}-{secrets.token_hex(2)}"
    cleaned = re.sub("[^A-Za-z0-9-]+", "-", wanted).strip("-")[:40]
    if cleaned == wanted:
        return cleaned
    return f"{cleaned}-{hashlib.sha256(wanted.encode()).hexdigest()[:6]}".strip("-")
