"""What `--faults` plants: two files that are not on the disk, and what they do to their handlers.

The flaky one fails twice. In its third attempt it says in whose hands it is and waits a while to be killed there:
a process that is killed between two files would show nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from roost.demo.contracts import Digest, FileRef, Folder

RAISES, FLAKY = "planted//raises-each-time", "planted//fails-twice"
"""No file on a disk has such a path: there `//` is `/`."""
FAILURES = 2
HOLD_S = 30.0
"""For so long the third attempt waits to be killed; then it comes to its end."""
SAY_EVERY_S = 0.2

LASTS_S = 3.0
AT_ONCE = 16
MOST_S = 0.3

Say = Callable[[], Awaitable[None]]


class Planted(Exception):
    """A handler was made to fail."""


def planted(folder: Folder) -> list[FileRef]:
    """The two files, to be added to those of the folder."""
    return [
        FileRef(audit=folder.audit, root=folder.root, path=RAISES, fault="raises"),
        FileRef(audit=folder.audit, root=folder.root, path=FLAKY, fault="flaky"),
    ]


def pause_s(files: int) -> float:
    """Seconds by which each of so many files is slowed down, so that all of them last about `LASTS_S`."""
    return round(min(MOST_S, LASTS_S * AT_ONCE / max(1, files)), 4)


async def digest_planted(file: FileRef, attempt: int, say: Say) -> Digest:
    """The handler of a planted file; `say` tells that it is at work and may be killed. Raises Planted."""
    if file.fault == "raises":
        raise Planted("this file was planted: its handler raises each time")
    if attempt <= FAILURES:
        raise Planted(f"this file was planted: its handler fails {FAILURES} times")
    if attempt == FAILURES + 1:
        for _ in range(round(HOLD_S / SAY_EVERY_S)):
            await say()
            await asyncio.sleep(SAY_EVERY_S)
    return Digest(path=file.path, kind="planted")
