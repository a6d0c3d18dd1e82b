"""Which files of a folder are text, and why the others are left out.

A folder of somebody else holds anything: loops of links, files nobody may read, names that are no Unicode, a
database of 9 GB. Each is passed over with its reason; none stops the audit. Symbolic links are never followed, so
there are no loops, nothing is counted twice, and nothing outside the folder is read.
"""

from __future__ import annotations

import codecs
import os
import stat
from collections.abc import Collection, Iterator
from pathlib import Path

from roost._text import clean
from roost.demo.contracts import Skipped

LEFT_OUT = frozenset({"node_modules", "__pycache__", "venv"})
"""Folders that hold no work of the folder's owner, besides hidden ones (`.git`, `.venv`); not even reported."""
SNIFF = 8192
"""Bytes in which a NUL makes a file binary, as git has it (buffer_is_binary in its xdiff-interface.c)."""
MAX_BYTES = 4 * 1024 * 1024


def scan(root: Path, *, exclude: Collection[Path] = ()) -> Iterator[str | Skipped]:
    """The paths of the text files under `root`, relative and with `/`, folder by folder in order of their names.

    What else is there comes as `Skipped`. Nothing at or under a path of `exclude` (absolute) is looked at. Raises
    OSError if `root` itself cannot be listed.
    """
    waiting = [""]
    while waiting:
        folder = waiting.pop()
        try:
            with os.scandir(root / folder) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            if not folder:
                raise
            yield Skipped(path=_shown(folder), reason=f"folder cannot be read: {_why(error)}")
            continue
        folders = []
        for entry in found:
            path = f"{folder}/{entry.name}" if folder else entry.name
            if Path(entry.path) in exclude:
                continue
            if not _is_unicode(entry.name):
                yield Skipped(path=_shown(path), reason="its name is not valid UTF-8")
            elif entry.is_symlink():
                yield Skipped(path=_shown(path), reason="a symbolic link, not followed")
            elif entry.is_dir(follow_symlinks=False):
                if not entry.name.startswith(".") and entry.name not in LEFT_OUT:
                    folders.append(path)
            else:
                reason = sniff(entry.path)
                yield Skipped(path=_shown(path), reason=reason) if reason else path
        waiting += reversed(folders)


def sniff(path: str | Path) -> str:
    """Why a file is no text, from its size and its first 8 KiB; empty if it seems to be."""
    try:
        about = os.stat(path, follow_symlinks=False)
        if not stat.S_ISREG(about.st_mode):
            return "not a regular file"
        if about.st_size > MAX_BYTES:
            return too_large(about.st_size)
        with open(path, "rb") as file:
            head = file.read(SNIFF)
    except OSError as error:
        return _why(error)
    if b"\0" in head:
        return "binary"
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head, final=len(head) == about.st_size)
    except UnicodeDecodeError:
        return "not UTF-8"
    return ""


class NotText(Exception):
    """Why a file has no text to be had; for people."""


def read_text(root: str, path: str) -> tuple[str, int]:
    """The text of a file under `root`, without a byte order mark, and its size in bytes.

    Raises NotText if it is none, or cannot be read for good; OSError if another try may help.
    """
    whole = os.path.join(root, path)
    if not is_under(os.path.realpath(whole), os.path.realpath(root)):
        raise NotText("it is outside the audited folder")
    try:
        with open(whole, "rb") as file:
            data = file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotText("it was gone when it was read") from error
    except (PermissionError, IsADirectoryError) as error:
        raise NotText(_why(error)) from error
    if len(data) > MAX_BYTES:
        raise NotText(too_large(os.path.getsize(whole)))
    if b"\0" in data[:SNIFF]:
        raise NotText("binary")
    try:
        return data.decode("utf-8-sig"), len(data)
    except UnicodeDecodeError as error:
        raise NotText(f"not UTF-8 (byte {error.start})") from error


def is_under(path: str, root: str) -> bool:
    """Whether an absolute, normalised path is `root` or below it."""
    return path == root or path.startswith(root.rstrip(os.sep) + os.sep)


def too_large(size: int) -> str:
    return f"too large: {size / 1024**2:.1f} MiB, at most {MAX_BYTES // 1024**2} are read"


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _shown(path: str) -> str:
    """A path that can be written into a report whatever it holds."""
    return path if path.isprintable() else clean(path, 1000)


def _why(error: OSError) -> str:
    return clean(error.strerror or type(error).__name__, 200).lower()
