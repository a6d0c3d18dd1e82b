"""What the tests of the course share: which notebooks there are, and small ones made for a test."""

from __future__ import annotations

import shutil
from pathlib import Path
from textwrap import dedent
from typing import Any

import build
import nbformat

HERE = Path(__file__).parent
NOTEBOOKS = HERE.parents[1] / "notebooks"
SOURCES = build.sources(NOTEBOOKS)

LAST = ("06-jetstream", "nats-messaging")
"""Their places in the order balance the two halves: what takes longest is at the two ends."""


def halves() -> tuple[list[Path], list[Path]]:
    """The notebooks in two parts that take about as long to execute, by what they took when they were last built."""
    first: list[Path] = []
    second: list[Path] = []
    for source in sorted(SOURCES, key=lambda one: (one.stem not in LAST, one.stem)):
        (first if len(first) <= len(second) else second).append(source)
    return first, second


def lesson_folder(folder: Path) -> Path:
    """The modules of lessons, in a folder of the test."""
    for module in NOTEBOOKS.glob("lesson*.py"):
        shutil.copy(module, folder)
    return folder


def write(folder: Path, *cells: str, name: str = "00-small.py") -> Path:
    """A notebook with these cells."""
    source = lesson_folder(folder) / name
    source.write_text("\n".join(f"# %%\n{dedent(cell).strip()}\n" for cell in cells), encoding="utf-8")
    return source


def run(source: Path, environment: dict[str, str] | None = None) -> str:
    """All that its cells have put out. Raises CellExecutionError."""
    return build.shown(build.execute(build.read(source), folder=source.parent, environment=environment))


def stored(source: Path) -> Any:
    """The executed notebook beside its source."""
    return nbformat.read(source.with_suffix(".ipynb"), as_version=4)
