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

LONGEST_S = {
    "nats-messaging": 16,
    "06-jetstream": 16,
    "07-a-team": 14,
    "08-when-things-fail": 14,
    "00-why-nats": 11,
}
OTHERS_S = 7
"""What executing a notebook takes about; it only decides how the halves are balanced."""


def halves() -> tuple[list[Path], list[Path]]:
    """The notebooks in two parts that take about as long to execute."""
    parts: tuple[list[Path], list[Path]] = ([], [])
    sums = [0, 0]
    for source in sorted(SOURCES, key=lambda one: (-LONGEST_S.get(one.stem, OTHERS_S), one.stem)):
        shorter = sums.index(min(sums))
        parts[shorter].append(source)
        sums[shorter] += LONGEST_S.get(source.stem, OTHERS_S)
    return parts


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
