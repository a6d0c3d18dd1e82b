"""The arguments of `roost demo`, checked before anything is started: a mistake is told at once, and costs nothing."""

from __future__ import annotations

import os
import tempfile
from collections import Counter
from pathlib import Path

from roost._text import clean
from roost.demo.scan import scan
from roost.demo.write import outputs


class Unusable(Exception):
    """An argument cannot be used; says for people which, and why."""


def check_folder(path: Path) -> Path:
    """The folder to audit, absolute and without symbolic links. Raises Unusable."""
    shown = clean(str(path), 300)
    try:
        root = path.expanduser().resolve(strict=True)
        if not root.is_dir():
            raise Unusable(f"{shown} is a file; give the folder that is to be audited")
        with os.scandir(root):
            return root
    except FileNotFoundError as error:
        raise Unusable(f"there is no folder {shown}") from error
    except (OSError, RuntimeError, ValueError) as error:
        raise Unusable(f"{shown} cannot be read: {_why(error)}") from error


def check_out(out: Path) -> Path:
    """The folder for the report, absolute; made when the report is written. Raises Unusable."""
    shown = clean(str(out), 300)
    try:
        target = out.expanduser().resolve()
        there = next(one for one in (target, *target.parents) if one.exists())
        if not there.is_dir():
            raise Unusable(
                f"{clean(str(there), 300)} is a file; name another folder for the report with --out"
            )
        try:  # what the permissions say is not all: a file system may be read-only, full, or none to write to
            os.rmdir(tempfile.mkdtemp(prefix=".roost-demo-", dir=there))
        except OSError as error:
            raise Unusable(
                f"nothing can be written to {shown} ({_why(error)}); name another folder for the report with --out"
            ) from error
    except (OSError, RuntimeError, ValueError) as error:
        raise Unusable(f"{shown} cannot be the folder for the report: {_why(error)}") from error
    return target


def check_any_text(root: Path, out: Path, *, shown: Path) -> None:
    """Raises Unusable, with what is there instead, if a folder holds no text file."""
    reasons: Counter[str] = Counter()
    for found in scan(root, exclude=outputs(root, out)):
        if isinstance(found, str):
            return
        reasons[found.reason] += 1
    left_out = ", ".join(f"{number} {clean(reason, 60)}" for reason, number in reasons.most_common(5))
    raise Unusable(
        f"no text files found under {clean(str(shown), 300)}"
        + (
            f" (left out: {left_out})"
            if left_out
            else " (hidden folders, node_modules and venv do not count)"
        )
    )


def _why(error: Exception) -> str:
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return clean(text.lower(), 300)
