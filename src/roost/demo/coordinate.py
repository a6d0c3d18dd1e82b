"""The coordinator's part, a durable workflow: list the files, fan them out, have the report written.

Each line that does something is an operation on record. A coordinator that dies is resumed by another one, which
reads what is recorded, waits for what is under way, and doubles nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from roost.demo.contracts import (
    FileRef,
    Folder,
    Progress,
    ReportOrder,
    Skipped,
    Written,
    digest,
    links,
    report,
)
from roost.demo.digest import is_markdown
from roost.demo.faults import pause_s, planted
from roost.demo.listing import SKIPPED_BYTES, Listing, skipped_bytes
from roost.runs import Run
from roost.tasks import Dead, Outcome

TELL_EVERY_S = 0.1

Tell = Callable[[str, Progress], Awaitable[None]]
"""Tells whoever listens how far the audit of a name is."""


async def run_audit(folder: Folder, run: Run[Tell]) -> Written:
    """List, fan out, report. Raises OSError if the folder cannot be listed."""
    paths, skipped, more_skipped = await list_files(folder, run)
    files = [FileRef(audit=folder.audit, root=folder.root, path=path) for path in paths]
    if folder.faults:
        paused = pause_s(len(files))
        files = planted(folder) + [file.model_copy(update={"pause_s": paused}) for file in files]
    markdown = [file for file in files if is_markdown(file.path)]
    told = _Told(run.deps, folder.audit, len(files) + len(markdown))
    async with (
        told.now_and_then(),
        run.map(digest, files, key=_path) as digests,
        run.map(links, markdown, key=_path) as checks,
    ):
        async for digested in digests:
            told.ended(digested)
        async for checked in checks:
            told.ended(checked)
    order = ReportOrder(
        run=run.id, root=folder.root, out=folder.out, skipped=skipped, more_skipped=more_skipped
    )
    return await run.call(report, order)


async def list_files(folder: Folder, run: Run[Tell]) -> tuple[list[str], list[Skipped], int]:
    """The files to audit, what is left out, and how much more of that there is than can be carried."""
    listing = Listing(Path(folder.root), Path(folder.out))
    files: list[str] = []
    skipped: list[Skipped] = []
    room, more, number, last = SKIPPED_BYTES, 0, 0, False
    while not last:
        part = await run.step(f"list-{number}", listing.part, files[-1] if files else "")
        files += part.files
        for one in part.skipped:
            room -= skipped_bytes(one)
            if room > 0:
                skipped.append(one)
            else:
                more += 1
        more += part.more_skipped
        number, last = number + 1, part.last
    return files, skipped, more


def _path(file: FileRef) -> str:
    return file.path


class _Told:
    """Counts what has ended and tells so to whoever listens."""

    def __init__(self, tell: Tell, audit: str, submitted: int) -> None:
        self._tell = tell
        self._audit = audit
        self._now = Progress(ended=0, submitted=submitted)

    def ended(self, outcome: Outcome[object]) -> None:
        self._now.ended += 1
        self._now.dead += isinstance(outcome, Dead)

    @asynccontextmanager
    async def now_and_then(self) -> AsyncIterator[None]:
        """Tell at the beginning, while there is news, and at the end of the block."""
        await self._tell(self._audit, self._now)
        telling = asyncio.create_task(self._news(), name="roost-demo-progress")
        try:
            yield
        finally:
            telling.cancel()
            await asyncio.gather(telling, return_exceptions=True)
        await self._tell(self._audit, self._now)

    async def _news(self) -> None:
        told = 0
        while True:
            await asyncio.sleep(TELL_EVERY_S)
            if self._now.ended > told:
                told = self._now.ended
                await self._tell(self._audit, self._now)
