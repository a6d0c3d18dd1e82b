"""Dead letters: listing them, and submitting their work again.

The index (`dead` records) is found through the stream's own subject index, so a listing of a thousand in a
log of a million records takes milliseconds; reason and history are read from the `end` records.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from roost.errors import ConfigError, InvalidMessage
from roost.tasks.log import Log, chunks
from roost.tasks.outcome import DeadLetter, letter_of
from roost.tasks.records import DeadIndex, Ref, encode_dead_index, end_codec

PAGE = 250


async def list_dead(tasks: Log, name: str | None = None, *, limit: int | None = None) -> list[DeadLetter]:
    """The dead letters of a task contract (or of all), oldest first.

    A record that cannot be read is counted and passed over.
    """
    await tasks.ensure()
    found = []
    for subject in await tasks.subjects_matching(tasks.subjects.all_dead(name or "*")):
        parsed = tasks.subjects.parse(subject)
        if parsed is not None:
            found.append(parsed[1])
    letters: list[DeadLetter] = []
    for page in chunks(found, PAGE):
        letters += await _read(tasks, page)
    letters.sort(key=lambda letter: letter.died_s)
    return letters if limit is None else letters[:limit]


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
    records = await tasks.newest(wanted)
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
                )
            )
    return letters


def replay_ref(letter: DeadLetter) -> Ref:
    """Where the next replay of a dead letter goes: the same run, an id that names what it replaces."""
    return Ref(letter.run, letter.name, f"{letter.id}:r{len(letter.replays) + 1}")


async def note_replay(tasks: Log, letter: DeadLetter, replay: Ref) -> None:
    """Write into the index that a dead letter has been replayed."""
    if replay.id in letter.replays:
        return
    index: DeadIndex = {"reason": letter.reason, "replays": [*letter.replays, replay.id]}
    await tasks.link.jetstream.publish(tasks.subjects.dead(letter.ref), encode_dead_index(index))


def _replays(data: bytes) -> list[str]:
    try:
        index = json.loads(data)
    except (ValueError, RecursionError):
        return []
    found = index.get("replays", []) if isinstance(index, dict) else []
    return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []
