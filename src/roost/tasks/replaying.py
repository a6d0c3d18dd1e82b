"""Replaying many dead letters, no faster than stated, so that it may be stopped and repeated at any moment.

A letter's replay has an id that follows from the letter's: one that was stored and not noted yet, because whoever did
it was stopped between the two, is found when it is repeated, and not doubled. Letters that were replayed are left out.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass

from roost.errors import ConfigError, Conflict, InvalidMessage
from roost.tasks.dead import dead_pages, replay_raw
from roost.tasks.groups import error_of, group_id
from roost.tasks.log import Log
from roost.tasks.records import Ref


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """A dead letter that was not replayed yet."""

    ref: Ref
    error: str
    group: str
    died_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """What came of replaying one letter."""

    ref: Ref
    replay: Ref | None
    """The new task; None if it could not be replayed, or was already by somebody else: `note` says why."""
    note: str = ""


async def candidates(log: Log, name: str | None = None, group: str | None = None) -> list[Candidate]:
    """The dead letters of a contract, or of one group, that were not replayed, oldest first."""
    found = []
    async for page in dead_pages(log, name):
        for letter in page:
            error = error_of(letter)
            id = group_id(letter.name, error)
            if not letter.replays and group in (None, id):
                found.append(Candidate(ref=letter.ref, error=error, group=id, died_s=letter.died_s))
    found.sort(key=lambda one: one.died_s)
    return found


async def replay_each(log: Log, refs: Iterable[Ref], *, rate: float) -> AsyncIterator[Replayed]:
    """Replay letters one after the other, at most `rate` of them per second; what came of each.

    A letter that cannot be replayed keeps no other from its turn. Raises StoreFull, SubmissionUnknown, NotConnected
    and the like when it makes no sense to go on.
    """
    loop = asyncio.get_running_loop()
    next_at = 0.0
    for ref in refs:
        now = loop.time()
        if next_at > now:
            await asyncio.sleep(next_at - now)
        next_at = max(next_at, now) + 1 / rate
        try:
            stored = await replay_raw(log, ref, again=False)
        except (ConfigError, Conflict, InvalidMessage) as error:
            yield Replayed(ref=ref, replay=None, note=str(error))
            continue
        if stored is None:
            yield Replayed(ref=ref, replay=None, note="it was replayed meanwhile")
        else:
            yield Replayed(ref=ref, replay=stored.ref, note="" if stored.seq > 0 else "it was there already")
