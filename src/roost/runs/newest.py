"""The newest record under a pattern, as the stream's leader knows it.

A replica may lag behind: that it has no record says nothing. And a pattern costs the leader an index look-up,
whereas reading on from a sequence costs it a walk over everything that others have stored since.
"""

from __future__ import annotations

from roost.tasks.log import Log, Record


async def newest_under(log: Log, pattern: str) -> Record | None:
    """The newest record on subjects that match `pattern`. Raises the errors of a read."""
    return await log.from_leader({"last_by_subj": pattern})
