"""The files of a report on the disk. Each is written whole and then put in its place: a reader sees old or new."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from roost.demo.report import AuditReport
from roost.demo.report_md import render
from roost.demo.scan import is_under

MARKDOWN, JSON, PICTURE = "report.md", "report.json", "timeline.svg"


def outputs(root: Path, out: Path) -> frozenset[Path]:
    """What an audit of `root` must not look at: its own output, which another audit may have left there."""
    if out != root and is_under(str(out), str(root)):
        return frozenset({out})
    return frozenset(out / name for name in (MARKDOWN, JSON, PICTURE))


def write(report: AuditReport, svg: str, out: Path) -> list[str]:
    """Write the three files into `out`, which is made if need be; their paths. Raises OSError."""
    out.mkdir(parents=True, exist_ok=True)
    texts = {
        MARKDOWN: render(report, picture=PICTURE),
        JSON: report.model_dump_json(indent=2) + "\n",
        PICTURE: svg,
    }
    return [put(out / name, text) for name, text in texts.items()]


def put(path: Path, text: str) -> str:
    """Write a file whole; its path. Raises OSError."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with open(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return str(path)


def _umask() -> int:
    """What a file made in the usual way is not allowed; there is no other way to ask than to set it."""
    current = os.umask(0o022)
    os.umask(current)
    return current
