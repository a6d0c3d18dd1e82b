"""The report of an audit as a value: what `report.json` holds, and what everything else is written from. Pure.

Its schema is stable: fields are added, not changed; a change of meaning raises `version`. Everything is sorted, so
that two audits of the same files differ in times only.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal

from pydantic import BaseModel

from roost.demo.contracts import BrokenLink, Digest, LinkReport, Mark, Skipped
from roost.tasks.history import TaskHistory


class KindTotal(BaseModel):
    kind: str
    files: int
    lines: int
    words: int
    bytes: int


class FileEntry(BaseModel):
    """A file that was digested."""

    path: str
    kind: str
    bytes: int
    lines: int
    words: int
    headings: int
    marks: int


class FileMark(Mark):
    path: str


class FileBrokenLink(BrokenLink):
    path: str


class LinkTotals(BaseModel):
    """`checked` lead to files or anchors, `external` elsewhere; `broken` lists what leads nowhere."""

    checked: int = 0
    external: int = 0
    broken: list[FileBrokenLink] = []
    more_broken: int = 0


class DeadTask(BaseModel):
    """A task that nobody will try again."""

    task: str
    path: str
    reason: str
    attempts: int


class TaskTotals(BaseModel):
    """Of tasks. Those of a report are the ones for files."""

    submitted: int
    done: int
    dead: int
    cancelled: int
    open: int
    retries: int
    seconds: float


class AuditReport(BaseModel):
    """What `report.json` holds."""

    version: Literal[1] = 1
    folder: str
    began: str  # RFC 3339, UTC
    kinds: list[KindTotal]
    files: list[FileEntry]
    marks: list[FileMark]
    more_marks: int
    links: LinkTotals
    skipped: list[Skipped]
    more_skipped: int
    dead: list[DeadTask]
    tasks: TaskTotals
    resumptions: int = 0  # how often another coordinator went on with the audit


def build(
    *,
    folder: str,
    began: str,
    digests: Sequence[Digest],
    link_reports: Sequence[LinkReport],
    skipped: Iterable[Skipped],
    more_skipped: int,
    dead: Iterable[DeadTask],
    histories: Sequence[TaskHistory],
    resumptions: int = 0,
) -> AuditReport:
    """The report on everything that the workers found."""
    read = sorted((one for one in digests if not one.skipped), key=lambda one: one.path)
    checked = sorted((one for one in link_reports if not one.skipped), key=lambda one: one.path)
    unread = {one.path: one.skipped for one in link_reports if one.skipped}
    unread |= {one.path: one.skipped for one in digests if one.skipped}
    unread |= {one.path: one.reason for one in skipped}
    return AuditReport(
        folder=folder,
        began=began,
        kinds=_kinds(read),
        files=[
            FileEntry(
                path=one.path,
                kind=one.kind,
                bytes=one.bytes,
                lines=one.lines,
                words=one.words,
                headings=len(one.headings) + one.more_headings,
                marks=len(one.marks) + one.more_marks,
            )
            for one in read
        ],
        marks=[
            FileMark(path=one.path, word=mark.word, line=mark.line, text=mark.text)
            for one in read
            for mark in one.marks
        ],
        more_marks=sum(one.more_marks for one in read),
        links=LinkTotals(
            checked=sum(one.checked for one in checked),
            external=sum(one.external for one in checked),
            broken=[
                FileBrokenLink(path=one.path, line=link.line, target=link.target, reason=link.reason)
                for one in checked
                for link in one.broken
            ],
            more_broken=sum(one.more_broken for one in checked),
        ),
        skipped=[Skipped(path=path, reason=reason) for path, reason in sorted(unread.items())],
        more_skipped=more_skipped,
        dead=sorted(dead, key=lambda one: (one.path, one.task)),
        tasks=totals(histories),
        resumptions=resumptions,
    )


def totals(histories: Sequence[TaskHistory]) -> TaskTotals:
    """How tasks ended, and the seconds from the first submission to the last outcome.

    A coordinator that took over is counted among the retries, as in the picture.
    """
    status = [one.status for one in histories]
    ended = [one.ended_s for one in histories if one.ended_s is not None]
    began = min((one.submitted_s for one in histories), default=0.0)
    return TaskTotals(
        submitted=len(histories),
        done=status.count("done"),
        dead=status.count("dead"),
        cancelled=status.count("cancelled"),
        open=status.count("open"),
        retries=sum(one.retries for one in histories),
        seconds=round(max(0.0, max(ended, default=began) - began), 3),
    )


def by_kind(histories: Sequence[TaskHistory]) -> dict[str, TaskTotals]:
    """`totals` of each kind of task, by its name."""
    names = sorted({one.name for one in histories})
    return {name: totals([one for one in histories if one.name == name]) for name in names}


def title(root: Path) -> str:
    """Of the picture."""
    return f"roost demo: audit of {root.name or root}"


def _kinds(read: Sequence[Digest]) -> list[KindTotal]:
    """Totals of each kind, the one with the most lines first."""
    found: list[KindTotal] = []
    for kind in {one.kind for one in read}:
        of_kind = [one for one in read if one.kind == kind]
        found.append(
            KindTotal(
                kind=kind,
                files=len(of_kind),
                lines=sum(one.lines for one in of_kind),
                words=sum(one.words for one in of_kind),
                bytes=sum(one.bytes for one in of_kind),
            )
        )
    return sorted(found, key=lambda one: (-one.lines, one.kind))
