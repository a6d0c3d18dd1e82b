"""Outcomes as values: what a task came to, once and for all."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Generic, TypeAlias

from typing_extensions import TypeVar

from roost.codec import Codec
from roost.errors import InvalidMessage, TaskCancelled, TaskDead
from roost.tasks.attempts import as_history, describe
from roost.tasks.batch import Pairs
from roost.tasks.history import Attempt
from roost.tasks.log import Log, Record
from roost.tasks.records import Ref
from roost.tasks.references import done_whole, is_large

O = TypeVar("O")


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A task that nobody will try again: its reason, its last error and how it came to this."""

    reason: str
    attempts: int  # handler runs that are on record
    error: str = ""  # of the last failed attempt, such as "ValueError: no such page"
    history: tuple[Attempt, ...] = ()
    run: str = ""
    name: str = ""  # of the task contract
    id: str = ""
    input: bytes = field(default=b"", repr=False)  # as submitted, or its reference; filled in by listings
    died_s: float = 0.0  # server time, seconds since 1970
    replays: tuple[str, ...] = ()  # ids of tasks submitted in its place
    marks: Pairs = field(default=(), repr=False)  # version and order key, as submitted; filled in by listings

    @property
    def ref(self) -> Ref:
        return Ref(self.run, self.name, self.id)


@dataclass(frozen=True, slots=True)
class Done(Generic[O]):
    """The handler returned `value`."""

    __match_args__ = ("value",)

    value: O
    key: str = ""
    history: tuple[Attempt, ...] = field(default=(), repr=False)
    index: int = -1  # of the item in a fan-out


@dataclass(frozen=True, slots=True)
class Dead:
    """No further attempt will be made; `letter` says why."""

    __match_args__ = ("letter",)

    letter: DeadLetter
    key: str = ""
    index: int = -1  # of the item in a fan-out

    @property
    def history(self) -> tuple[Attempt, ...]:
        return self.letter.history


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Somebody cancelled it before it was done."""

    by: str
    reason: str = ""
    key: str = ""
    history: tuple[Attempt, ...] = field(default=(), repr=False)
    index: int = -1  # of the item in a fan-out


Outcome: TypeAlias = Done[O] | Dead | Cancelled


async def whole(log: Log, record: Record, codec: Codec[Any]) -> Record:
    """An `end` record with its value in it, if that is an object. Raises as `Objects.fetch`."""
    if not is_large(record.marks):
        return record
    most_bytes = codec.limits.max_bytes
    value = await log.objects.fetch(record.subject, record.data, most_bytes=most_bytes)
    return replace(record, data=done_whole(record.data, value))


def decode_outcome(record: Record, ref: Ref, key: str, codec: Codec[Any], index: int = -1) -> Outcome[Any]:
    """The outcome in an `end` record. Raises InvalidMessage if it is none, or its value does not fit the contract."""
    try:
        end = codec.decode(record.data, subject=record.subject)
    except InvalidMessage as error:
        raise error.of_outcome() from error.__cause__
    attempts = end["attempts"]
    if end["status"] == "done":
        history = tuple([as_history(attempt) for attempt in attempts[:-1]])
        if attempts:
            history += (as_history(attempts[-1], done=True),)
        return Done(end["value"], key, history, index)
    history = tuple(as_history(attempt) for attempt in attempts)
    if end["status"] == "cancelled":
        return Cancelled(end["by"], end["reason"], key, history, index)
    return Dead(letter_of(end, ref, record), key, index)


def letter_of(end: Any, ref: Ref, record: Record) -> DeadLetter:
    """The dead letter in a decoded `end` record."""
    attempts = end["attempts"]
    return DeadLetter(
        reason=end["reason"],
        attempts=max(len(attempts), attempts[-1]["k"]) if attempts else 0,
        error=describe(attempts[-1]) if attempts else "",
        history=tuple(as_history(attempt) for attempt in attempts),
        run=ref.run,
        name=ref.name,
        id=ref.id,
        died_s=record.stored_s,
    )


def placed(outcome: Outcome[O], index: int) -> Outcome[O]:
    """The outcome with its item's place in a fan-out."""
    return replace(outcome, index=index)


def value_of(outcome: Outcome[O], ref: Ref) -> O:
    """The value of a `Done`. Raises TaskDead or TaskCancelled for the other two."""
    match outcome:
        case Done(value):
            return value
        case Dead(letter):
            raise TaskDead(letter, id=str(ref))
        case Cancelled():
            raise TaskCancelled(by=outcome.by, reason=outcome.reason, id=str(ref))
