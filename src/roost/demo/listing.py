"""The list of files in parts, each small enough for one record of a workflow.

A list that is made anew by a coordinator that takes over may differ: somebody has saved a file meanwhile. Then the
fan-out on record and the list would not fit each other. So each part is a recorded step, and the next one goes on
behind its last file, whoever makes it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

from roost.demo.contracts import Part, Skipped
from roost.demo.scan import scan
from roost.demo.write import outputs

FILES_BYTES = 100_000
SKIPPED_BYTES = 100_000
"""Of what was skipped, as much as a record may well carry; the rest is counted."""


class Listing:
    """Lists the text files under `root`, without the output of an audit in `out`."""

    def __init__(self, root: Path, out: Path) -> None:
        self._root = root
        self._excluded = outputs(root, out)
        self._found: Iterator[str | Skipped] | None = None
        self._at = ""

    async def part(self, after: str) -> Part:
        """The next files behind the file `after`, from the first one if it is empty. Raises OSError."""
        return await asyncio.to_thread(self._part, after)

    def _part(self, after: str) -> Part:
        if self._found is None or self._at != after:
            self._found = _behind(after, scan(self._root, exclude=self._excluded))
        part = Part()
        files_room, skipped_room = FILES_BYTES, SKIPPED_BYTES
        for found in self._found:
            if isinstance(found, str):
                part.files.append(found)
                files_room -= 10 + 6 * len(found)  # as JSON, at most
                if files_room <= 0:
                    self._at = found
                    return part
                continue
            skipped_room -= skipped_bytes(found)
            if skipped_room > 0:
                part.skipped.append(found)
            else:
                part.more_skipped += 1
        part.last = True
        self._found = None
        return part


def skipped_bytes(one: Skipped) -> int:
    """The size of an entry as JSON, at most."""
    return 40 + 6 * (len(one.path) + len(one.reason))


def place(path: str) -> list[tuple[bool, str]]:
    """Sorts paths as `scan` finds them: the files of a folder before the folders in it."""
    *folders, name = path.split("/")
    return [*((True, folder) for folder in folders), (False, name)]


def _behind(after: str, found: Iterator[str | Skipped]) -> Iterator[str | Skipped]:
    """What comes behind a file, also if it is no longer there."""
    if not after:
        yield from found
        return
    last = place(after)
    skipped: list[Skipped] = []  # since the last file that comes no later than `after`
    for one in found:
        if isinstance(one, Skipped):
            skipped.append(one)
        elif place(one) <= last:
            skipped.clear()
        else:
            yield from skipped
            yield one
            break
    else:
        yield from skipped
    yield from found
