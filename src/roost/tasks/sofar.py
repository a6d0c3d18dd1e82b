"""What the log says of a task that is delivered again: its outcome, or how often it was tried."""

from __future__ import annotations

from roost.errors import JetStreamError
from roost.tasks.attempts import past_attempts, readable
from roost.tasks.log import Log, Record
from roost.tasks.records import AttemptRecord, Ref

TOO_MANY_RESULTS = 413
"""More than 1,000 subjects match a batched read."""


async def so_far(log: Log, ref: Ref, seq: int) -> tuple[Record | None, list[AttemptRecord]]:
    """The `end` of a task if it has one, else the attempts that its notes tell of; `seq` is its sequence.

    Of three copies, the leader's has the last word. A task comes back within a millisecond of its note, and from a
    replica that lags behind it would seem never to have been tried.
    """
    end, notes = log.subjects.end(ref), log.subjects.note(ref, "*")
    try:
        found = list((await log.newest([end, notes], leader=log.replicated)).values())
    except JetStreamError as error:
        if error.code != TOO_MANY_RESULTS:
            raise
        found = await log.read_all(notes, start_seq=seq)
        stored = await log.last(end, leader=True)
        found += [stored] if stored is not None else []
    ends = [record for record in found if record.subject == end]
    if ends:
        return ends[0], []
    if log.replicated:
        found += await _later(log, notes, max((record.seq for record in found), default=seq))
    return None, past_attempts(readable((record.subject, record.data) for record in found))


async def _later(log: Log, notes: str, seq: int) -> list[Record]:
    """The notes after `seq` that the leader has."""
    found: list[Record] = []
    newest = await log.last(notes, leader=True)
    while newest is not None and seq < newest.seq:
        record = await log.from_leader({"seq": seq + 1, "next_by_subj": notes})
        if record is None:  # its run was removed
            break
        found.append(record)
        seq = record.seq
    return found
