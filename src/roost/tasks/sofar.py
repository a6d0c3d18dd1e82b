"""What the log says of a task that is delivered again: its outcome, or how often it was tried."""

from __future__ import annotations

from roost.errors import JetStreamError
from roost.tasks.attempts import past_attempts, readable
from roost.tasks.log import Log, Record
from roost.tasks.records import AttemptRecord, Ref

TOO_MANY_RESULTS = 413
"""More than 1,000 subjects match a batched read."""


async def so_far(log: Log, ref: Ref, seq: int) -> tuple[Record | None, list[AttemptRecord]]:
    """The `end` of a task if it has one, and the attempts that its notes tell of; `seq` is its sequence."""
    end, notes = log.subjects.end(ref), log.subjects.note(ref, "*")
    try:
        found = list((await log.newest([end, notes])).values())
    except JetStreamError as error:
        if error.code != TOO_MANY_RESULTS:
            raise
        found = await log.read_all(notes, start_seq=seq)
        stored = await log.last(end)
        found += [stored] if stored is not None else []
    ends = [record for record in found if record.subject == end]
    noted = readable((record.subject, record.data) for record in found if record.subject != end)
    return ends[0] if ends else None, past_attempts(noted)
