"""Dead letters by what killed them: a thousand letters are often three mistakes.

Letters of one contract whose last errors differ only in numbers and ids are one group. A group's id follows from the
contract and that error, so it stays the same from one listing to the next.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from roost._text import clean
from roost.tasks.dead import dead_pages
from roost.tasks.log import Log
from roost.tasks.outcome import DeadLetter
from roost.tasks.records import Ref

ERROR = 200
"""Characters of an error that tell groups apart."""

_variable = re.compile(
    r"0[xX][0-9a-fA-F]+"  # addresses
    r"|\b[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}\b"  # UUIDs
    r"|\b(?=[A-Za-z_-]*\d)[A-Za-z0-9_-]{8,}\b"  # other ids: long words with a digit in them
    r"|\d+(?:[.,]\d+)*"
).sub


@dataclass(frozen=True, slots=True, kw_only=True)
class DeadGroup:
    """Dead letters of one contract with one error."""

    id: str
    """Eight hexadecimal digits."""
    name: str  # of the contract
    error: str
    """Type and message of the last error, else the reason, with # for each number and id."""
    count: int
    replayed: int
    """How many of them were submitted again."""
    first_s: float  # server time, seconds since 1970
    last_s: float
    example: Ref
    """The latest of them."""


def error_of(letter: DeadLetter) -> str:
    """What a letter died of, without what differs from one to the next."""
    return _variable("#", clean(letter.error or letter.reason, 4 * ERROR))[:ERROR]


def group_id(name: str, error: str) -> str:
    """Of the letters of a contract with this `error_of`."""
    return hashlib.sha256(f"{name}\n{error}".encode()).hexdigest()[:8]


def group_of(letter: DeadLetter) -> str:
    return group_id(letter.name, error_of(letter))


async def dead_groups(log: Log, name: str | None = None) -> list[DeadGroup]:
    """The dead letters of a contract (or of all) by their errors, the largest group first."""
    groups: dict[tuple[str, str], DeadGroup] = {}
    async for page in dead_pages(log, name):
        for letter in page:
            key = letter.name, error_of(letter)
            groups[key] = _with(groups.get(key), letter, key[1])
    return sorted(groups.values(), key=lambda one: (-one.count, one.name, one.error))


def _with(group: DeadGroup | None, letter: DeadLetter, error: str) -> DeadGroup:
    latest = group is None or letter.died_s >= group.last_s
    return DeadGroup(
        id=group_id(letter.name, error) if group is None else group.id,
        name=letter.name,
        error=error,
        count=1 if group is None else group.count + 1,
        replayed=bool(letter.replays) if group is None else group.replayed + bool(letter.replays),
        first_s=letter.died_s if group is None else min(group.first_s, letter.died_s),
        last_s=letter.died_s if group is None else max(group.last_s, letter.died_s),
        example=letter.ref if latest or group is None else group.example,
    )
