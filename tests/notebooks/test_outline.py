"""The README's tables: each item of the outline, and each practice, is done by cells that exist."""

from __future__ import annotations

import re

import build
import pytest
from course_kit import NOTEBOOKS, SOURCES

TO_WRITE = 44
PRACTICES = 7
HEADINGS = [
    "NATS Messaging for Multi-Agent Systems",
    "Why NATS for Agents?",
    "Connect to NATS",
    "Publish/Subscribe Pattern",
    "Subject Hierarchies and Wildcards",
    "Request/Reply Pattern",
    "Queue Groups for Load Balancing",
    "JetStream: Persistent Messaging",
    "Multi-Agent Coordination Example",
    "Error Handling and Resilience",
    "Best Practices",
    "Next Steps",
]
README = (NOTEBOOKS / "README.md").read_text(encoding="utf-8")


def rows(first: str) -> list[tuple[str, ...]]:
    """The cells of the table whose heading begins so."""
    table = README.split(f"| {first} |", 1)[1].split("\n\n", 1)[0]
    return [tuple(cell.strip() for cell in line.strip("|").split("|")) for line in table.splitlines()[2:]]


def names(notebook: str) -> set[str]:
    """What names the cells of a notebook: its headings, and the first comment of each code cell."""
    found: set[str] = set()
    for cell in build.read(NOTEBOOKS / f"{notebook}.py").cells:
        lines = cell.source.splitlines()
        if cell.cell_type == "markdown":
            found |= {line.lstrip("#").strip() for line in lines if re.match(r"#+ ", line)}
        else:
            comments = [
                line for line in lines[:2] if line.startswith("# ") and not line.startswith("# needs:")
            ]
            found |= {line[2:].strip() for line in comments[:1]}
    return found


OUTLINE = rows("#")
ASKED = [(asked, done) for _, asked, done in OUTLINE] + [row for row in rows("practice") if len(row) == 2]


def test_the_tables_are_whole_and_in_the_outlines_order() -> None:
    assert [number for number, *_ in OUTLINE] == [str(number) for number in range(1, TO_WRITE + 1)]
    assert OUTLINE[0][1] == "Load NATS_URL from environment"
    assert OUTLINE[-1][1] == "Graceful shutdown"
    assert len(ASKED) == TO_WRITE + PRACTICES


@pytest.mark.parametrize(("asked", "done"), ASKED)
def test_what_was_asked_for_is_done_by_cells_that_exist(asked: str, done: str) -> None:
    """Written as [03-subjects](03-subjects.ipynb): `name of the cell`; several are separated by commas."""
    cells = re.findall(r"\[([\w-]+)\]\(\1\.ipynb\): `([^`]+)`", done)
    assert cells, f"{asked}: no cell is named"
    for notebook, name in cells:
        assert name in names(notebook), f"{asked}: {notebook} has no cell {name!r}"


def test_the_whole_in_one_sitting_has_the_outlines_headings_in_order() -> None:
    source = NOTEBOOKS / "nats-messaging.py"
    cells = [cell.source for cell in build.read(source).cells if cell.cell_type == "markdown"]
    headings = [found.rstrip(" 📨") for cell in cells for found in re.findall(r"^##? (.+)$", cell, re.M)]
    assert [one for one in headings if one in HEADINGS] == HEADINGS


def test_the_readme_lists_every_notebook() -> None:
    listed = re.findall(r"^\| \[([\w-]+)\]\(\1\.ipynb\) \|", README, re.M)
    assert sorted(listed) == sorted(source.stem for source in SOURCES)
