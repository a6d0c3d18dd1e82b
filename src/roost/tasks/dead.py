"""Dead letters: listing them, and submitting their work again.

The index (`dead` records) is found through the stream's own subject index, so a listing of a thousand in a
log of a million records takes milliseconds; reason and history are read from the `end` records.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Any, Literal, overload

from roost import _json
from roost.errors import ConfigError, InvalidMessage
from roost.observe import Trace
from roost.tasks.log import Log, chunks
from roost.tasks.marks import renewed
from roost.tasks.outcome import DeadLetter, letter_of
from roost.tasks.records import DeadIndex, Ref, encode_dead_index, end_codec
from roost.tasks.references import is_large
from roost.tasks.submit import Stored, Submitter

PAGE = 250


async def list_dead(tasks: Log, name: str | None = None, *, limit: int | None = None) -> list[DeadLetter]:
    """The dead letters of a task contract (or of all), oldest first.

    A record that cannot be read is counted and passed over.
    """
    letters: list[DeadLetter] = []
    async for page in dead_pages(tasks, name):
        letters += page
    letters.sort(key=lambda letter: letter.died_s)
    return letters if limit is None else letters[:limit]


async def dead_pages(tasks: Log, name: str | None = None) -> AsyncIterator[list[DeadLetter]]:
    """The same in no order and page by page, so that their inputs never are in memory all at once."""
    await tasks.ensure()
    found = []
    for subject in await tasks.subjects_matching(tasks.subjects.all_dead(name or "*")):
        parsed = tasks.subjects.parse(subject)
        if parsed is not None:
            found.append(parsed[1])
    for page in chunks(found, PAGE):
        yield await _read(tasks, page)


async def find_dead(tasks: Log, ref: Ref) -> DeadLetter:
    """The dead letter of one task. Raises ConfigError when it has none."""
    await tasks.ensure()
    found = await _read(tasks, [ref])
    if not found:
        raise ConfigError(f"task {ref} has no dead letter; `roost dead ls` lists those there are")
    return found[0]


async def _read(tasks: Log, refs: Sequence[Ref]) -> list[DeadLetter]:
    subjects = tasks.subjects
    codec = end_codec(Any)
    wanted = [
        subject for ref in refs for subject in (subjects.end(ref), subjects.task(ref), subjects.dead(ref))
    ]
    records = await tasks.newest(wanted, leader=True)
    letters = []
    for ref in refs:
        record = records.get(subjects.end(ref))
        task = records.get(subjects.task(ref))
        if record is None:
            continue
        try:
            end = codec.decode(record.data, subject=record.subject)
        except InvalidMessage as error:
            tasks.journal.record("record_unreadable", subject=record.subject, reason=str(error))
            continue
        if end["status"] == "dead":
            index = records.get(subjects.dead(ref))
            letter = letter_of(end, ref, record)
            letters.append(
                replace(
                    letter,
                    input=task.data if task else b"",
                    replays=tuple(_replays(index.data)) if index else (),
                    marks=task.marks if task else (),
                )
            )
    return letters


async def input_of(tasks: Log, letter: DeadLetter) -> bytes:
    """The payload as it was submitted, read if it is an object. Raises InvalidMessage when that is lost."""
    if not is_large(letter.marks):
        return letter.input
    return await tasks.objects.fetch(tasks.subjects.task(letter.ref), letter.input)


def replay_ref(letter: DeadLetter) -> Ref:
    """Where the next replay of a dead letter goes: the same run, an id that names what it replaces."""
    return Ref(letter.run, letter.name, f"{letter.id}:r{len(letter.replays) + 1}")


async def note_replay(tasks: Log, letter: DeadLetter, replay: Ref) -> None:
    """Write into the index that a dead letter has been replayed."""
    if replay.id in letter.replays:
        return
    index: DeadIndex = {"reason": letter.reason, "replays": [*letter.replays, replay.id]}
    await tasks.link.jetstream.publish(tasks.subjects.dead(letter.ref), encode_dead_index(index))


@overload
async def replay_raw(
    log: Log, ref: Ref, payload: bytes | None = ..., *, again: Literal[True] = ..., timeout_s: float = ...
) -> Stored: ...
@overload
async def replay_raw(
    log: Log, ref: Ref, payload: bytes | None = ..., *, again: bool, timeout_s: float = ...
) -> Stored | None: ...
async def replay_raw(
    log: Log, ref: Ref, payload: bytes | None = None, *, again: bool = True, timeout_s: float = 10.0
) -> Stored | None:
    """Submit a dead letter's work again without its contract, as it was or with another JSON payload.

    One that was replayed before is replayed once more; not with `again` False: then None is returned.

    Only that the payload is proper JSON can be checked here; one that does not fit its model becomes a dead
    letter at the worker, whose contract also says how much time it has. Raises ConfigError when there is no such
    letter, InvalidMessage; else as `submit`.
    """
    letter = await find_dead(log, ref)
    if letter.replays and not again:
        return None
    target = replay_ref(letter)
    if payload is None:
        data = await input_of(log, letter)
    else:
        data = payload.strip()
        try:
            _json.parse(data)
        except _json.BadJson as error:
            reason = str(error)
            raise InvalidMessage(
                subject=log.subjects.task(target), field=error.field, reason=reason
            ) from error
    submitter = Submitter(log)
    marks = renewed(letter.marks, None)
    item = await submitter.item(target, data, Trace.new().header, marks, timeout_s=timeout_s)
    stored = await submitter.submit(item, timeout_s=timeout_s)
    await note_replay(log, letter, target)
    return stored


def _replays(data: bytes) -> list[str]:
    try:
        index = json.loads(data)
    except (ValueError, RecursionError):
        return []
    found = index.get("replays", []) if isinstance(index, dict) else []
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []
