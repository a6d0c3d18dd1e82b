"""The coordinator's part: list the files, fan them out, wait until every task has ended.

Every task has a key made of the audit and the path. So a coordinator that died and is run again finds what it had
submitted, submits what is missing, and doubles nothing.
"""

from __future__ import annotations

import asyncio
import contextlib
from pathlib import Path
from typing import Any

from roost.context import Context
from roost.demo.contracts import (
    Fanout,
    FileRef,
    Folder,
    Progress,
    Skipped,
    digest,
    links,
    progress,
)
from roost.demo.digest import is_markdown
from roost.demo.scan import scan
from roost.demo.write import outputs
from roost.errors import RoostError
from roost.tasks import Dead, Handle

TELL_EVERY_S = 0.1
SKIPPED_BYTES = 100_000
"""Of what was skipped, as much as a message may well carry; the rest is counted."""


async def run_audit(folder: Folder, ctx: Context[Any]) -> Fanout:
    """Scan, fan out, wait. Raises OSError if the folder cannot be listed."""
    files, skipped, more_skipped = await asyncio.to_thread(plan, Path(folder.root), Path(folder.out))
    handles: list[Handle[Any]] = []
    for task, paths in ((digest, files), (links, [path for path in files if is_markdown(path)])):
        values = [FileRef(audit=folder.audit, root=folder.root, path=path) for path in paths]
        keys = [f"{folder.audit}/{path}" for path in paths]
        handles += await ctx.submit_many(task, values, keys=keys)
    told = _Told(ctx, folder.audit, len(handles))
    await told.tell()
    async with asyncio.TaskGroup() as group:
        for handle in handles:
            group.create_task(told.wait_for(handle), name="roost-demo-outcome")
    await told.tell()
    return Fanout(
        files=len(files), submitted=len(handles), dead=told.dead, skipped=skipped, more_skipped=more_skipped
    )


def plan(root: Path, out: Path) -> tuple[list[str], list[Skipped], int]:
    """The files to audit, what is left out, and how much more of that there is than can be carried."""
    files: list[str] = []
    skipped: list[Skipped] = []
    room, more = SKIPPED_BYTES, 0
    for found in scan(root, exclude=outputs(root, out)):
        if isinstance(found, str):
            files.append(found)
            continue
        room -= 40 + 6 * (len(found.path) + len(found.reason))  # as JSON, at most
        if room > 0:
            skipped.append(found)
        else:
            more += 1
    return files, skipped, more


class _Told:
    """Counts what has ended and tells so, now and then, to whoever listens."""

    def __init__(self, ctx: Context[Any], audit: str, submitted: int) -> None:
        self._ctx = ctx
        self._to = progress.at(audit=audit)
        self._submitted = submitted
        self._ended = 0
        self._last = 0.0
        self.dead = 0

    async def wait_for(self, handle: Handle[Any]) -> None:
        outcome = await handle.outcome()
        self._ended += 1
        self.dead += isinstance(outcome, Dead)
        now = asyncio.get_running_loop().time()
        if now - self._last > TELL_EVERY_S:
            self._last = now
            await self.tell()

    async def tell(self) -> None:
        value = Progress(ended=self._ended, submitted=self._submitted, dead=self.dead)
        with contextlib.suppress(RoostError):  # nothing depends on it, and the next one says more
            await self._ctx.publish(self._to, value)
