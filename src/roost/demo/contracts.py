"""What the agents of the demo agree on: models and contracts, and nothing that runs.

Values are small on purpose: files stay where they are and workers read them there; lists that a strange file could
make endless are cut, and the rest is counted.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel

from roost.contracts import Retry, Task, Topic, Workflow

MOST = 200
"""Headings, marks and broken links kept of one file; the rest is counted."""
TEXT = 200
"""Characters kept of a line that is quoted."""


Fault = Literal["", "raises", "flaky"]
"""What a planted file does to its handler: raise each time, or raise twice and then take its time."""


class FileRef(BaseModel):
    """One file of an audit: `path` is relative to `root`, with `/` on every system.

    A planted one has a `fault` and is not on the disk. `pause_s` is added to the work, so that a run with faults
    lasts long enough to be hit.
    """

    audit: str
    root: str
    path: str
    fault: Fault = ""
    pause_s: float = 0.0


class Skipped(BaseModel):
    """A file or folder that was left out, and why."""

    path: str
    reason: str


class Heading(BaseModel):
    level: int
    line: int
    text: str


class Mark(BaseModel):
    """A TODO or FIXME, with the line it stands in."""

    word: Literal["TODO", "FIXME"]
    line: int
    text: str


class Digest(BaseModel):
    """What is in a file. If `skipped` says why it could not be read, the rest is empty."""

    path: str
    kind: str = ""
    bytes: int = 0
    lines: int = 0
    words: int = 0
    headings: list[Heading] = []
    marks: list[Mark] = []
    more_headings: int = 0
    more_marks: int = 0
    skipped: str = ""


class BrokenLink(BaseModel):
    line: int
    target: str
    reason: str


class LinkReport(BaseModel):
    """Whether the links of a Markdown file lead somewhere. `external` ones (http, mailto ...) are only counted."""

    path: str
    checked: int = 0
    external: int = 0
    broken: list[BrokenLink] = []
    more_broken: int = 0
    skipped: str = ""


class Folder(BaseModel):
    """An order to audit `root`; what is written goes to `out`. Both are absolute. With `faults`, two are planted."""

    audit: str
    root: str
    out: str
    faults: bool = False


class Part(BaseModel):
    """Some of the files of a folder, in order, and what was left out among them; the `last` part ends the list."""

    files: list[str] = []
    skipped: list[Skipped] = []
    more_skipped: int = 0
    last: bool = False


class ReportOrder(BaseModel):
    """An order to write the report. What the workers found is in the log, among the records of the `run`."""

    run: str
    root: str
    out: str
    skipped: list[Skipped] = []
    more_skipped: int = 0


class Written(BaseModel):
    """The files of a report, and what a person wants to know first."""

    files: list[str]
    digested: int
    broken_links: int
    marks: int
    skipped: int


class Progress(BaseModel):
    """How far an audit is."""

    ended: int
    submitted: int
    dead: int = 0


class AtWork(BaseModel):
    """An instance has the flaky file in its hands, which failed before and would now come to a good end."""

    instance: str


_RETRY = Retry(attempts=5, base_s=0.2, cap_s=5)

_ACK_WAIT_S = 3  # so that the work of a killed process goes on after three seconds, not after thirty

digest = Task(
    "digest", FileRef, Digest, retry=_RETRY, attempt_timeout_s=60, deadline_s=3600, ack_wait_s=_ACK_WAIT_S
)
links = Task(
    "links", FileRef, LinkReport, retry=_RETRY, attempt_timeout_s=60, deadline_s=3600, ack_wait_s=_ACK_WAIT_S
)
report = Task("report", ReportOrder, Written, retry=_RETRY, deadline_s=3600, ack_wait_s=_ACK_WAIT_S)
audit = Workflow("audit", Folder, Written, retry=_RETRY, deadline_s=7200, ack_wait_s=_ACK_WAIT_S)
progress = Topic("roost_demo.{audit}.progress", Progress)
at_work = Topic("roost_demo.{audit}.at_work", AtWork)
