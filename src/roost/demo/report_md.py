"""The report for people: `report.md`, short, with what needs attention first. Pure.

Paths, headings and lines are a stranger's text; they stand in code spans, where they are neither links nor HTML.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from roost._text import clean
from roost.demo.report import AuditReport

LISTED = 100
"""Entries of a list; the rest is in report.json."""
LARGEST = 10


def render(report: AuditReport, *, picture: str) -> str:
    """The text of `report.md`; `picture` is the file name of the timeline."""
    tasks, links = report.tasks, report.links
    broken = len(links.broken) + links.more_broken
    marks = len(report.marks) + report.more_marks
    skipped = len(report.skipped) + report.more_skipped
    total = [
        f"{_count(len(report.files), 'file')} read",
        f"{_count(broken, 'broken link')} of {links.checked:,} checked",
        f"{_count(marks, 'TODO or FIXME mark')}",
        f"{_count(skipped, 'file')} skipped",
    ]
    parts = [
        f"# Audit of {_code(report.folder)}",
        f"{', '.join(total)}. {links.external:,} links to the web were counted and not followed.",
        f"{_count(tasks.submitted, 'task')} for files: {tasks.done:,} done, {tasks.dead:,} dead, "
        f"{tasks.cancelled:,} cancelled, {tasks.retries:,} retries, {tasks.seconds:g} s. Began {report.began}."
        + (
            f" Its coordinator was lost and resumed {_times(report.resumptions)}."
            if report.resumptions
            else ""
        ),
        f"![What each agent did, and when]({picture})",
        *_section(
            "Dead tasks",
            [f"{_code(one.task)} of {_code(one.path)}: {_code(one.reason)}" for one in report.dead],
            len(report.dead),
        ),
        *_section(
            "Broken links",
            [f"{_code(f'{one.path}:{one.line}')} {_code(one.target)}: {one.reason}" for one in links.broken],
            broken,
        ),
        *_section(
            "TODO and FIXME",
            [f"{_code(f'{one.path}:{one.line}')} {_code(one.text)}" for one in report.marks],
            marks,
        ),
        *_section(
            "Skipped",
            [f"{_code(one.path)}: {_escaped(one.reason)}" for one in report.skipped],
            skipped,
        ),
        "## Kinds",
        _table(
            ("kind", "files", "lines", "words"),
            [(one.kind, f"{one.files:,}", f"{one.lines:,}", f"{one.words:,}") for one in report.kinds],
        ),
        "## Largest files",
        _table(
            ("file", "lines", "words", "bytes"),
            [
                (_code(one.path).replace("|", "\\|"), f"{one.lines:,}", f"{one.words:,}", f"{one.bytes:,}")
                for one in sorted(report.files, key=lambda one: (-one.bytes, one.path))[:LARGEST]
            ],
        ),
    ]
    return "\n\n".join(parts) + "\n"


def _section(title: str, entries: Sequence[str], total: int) -> list[str]:
    """A heading and a list; nothing if there is nothing to list."""
    if not total:
        return []
    lines = [f"- {entry}" for entry in entries[:LISTED]]
    if total > len(lines):
        lines.append(f"- and {total - len(lines):,} more; report.json lists what was kept of them")
    return [f"## {title}", "\n".join(lines)]


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    rule = ["---", *["---:"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(row)} |" for row in (head, rule, *rows))


def _code(text: str) -> str:
    """A code span of any text: one backtick more around it than it has in a row."""
    shown = clean(text, 300)
    longest = max((len(run) for run in re.findall("`+", shown)), default=0)
    ticks = "`" * (longest + 1)
    edge = " " if shown.startswith(("`", " ")) or shown.endswith(("`", " ")) or not shown else ""
    return f"{ticks}{edge}{shown}{edge}{ticks}"


def _escaped(text: str) -> str:
    return re.sub(r"([\\`*_\[\]<>|&])", r"\\\1", clean(text, 300))


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number:,} times"
