"""The records of a task, as subjects and JSON: the wire contract of the log.

Pure functions; `docs/wire.md` describes the same for other languages. Whatever stands in the log may
come from a stranger: decoding checks everything and raises InvalidMessage.

    <ns>.run.<run>.task.<name>.<id>      input of a task                 written once
    <ns>.run.<run>.end.<name>.<id>       its outcome                     written once, guarded
    <ns>.run.<run>.dead.<name>.<id>      index of dead letters           written after a dead end
    <ns>.run.<run>.note.<name>.<id>.<k>  attempt k started, failed       outside the guard
    <ns>.run.<run>.chunk.<name>.<id>.<k>     what attempt k emits        outside the guard
    <ns>.run.<run>.progress.<name>.<id>.<k>  how far attempt k is        outside the guard
    <ns>.run.<run>.once.<name>.<id>.<e>      the result of effect e      written once
    <ns>.run.<run>.deadline.<name>.<id>.<ms> index of deadlines          beside a task that has one of its own

Those of order keys are in `order`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import Annotated, Any, Generic, Literal, NotRequired

from pydantic import Discriminator
from pydantic_core import to_json
from typing_extensions import TypedDict, TypeVar

from roost._text import quoted
from roost.codec import Codec, Limits
from roost.errors import ConfigError

O = TypeVar("O")

RECORD_LIMITS = Limits(max_bytes=512 * 1024, max_depth=36)
"""Of notes, and of outcomes whose value has no limits of its own."""
AROUND_BYTES = 256 * 1024
AROUND_LEVELS = 4
"""What an outcome may measure beyond its value: the history of its attempts (`attempts.HISTORY_BYTES`), reasons."""
DEEPEST = 200
"""Levels of JSON that the parser takes at all."""

_is_record = re.compile(
    r"([A-Za-z0-9_:-]+)\.([a-z]+)\.([A-Za-z0-9_-]+)\.([A-Za-z0-9_:-]+)(\.[A-Za-z0-9_-]+)?"
).fullmatch
_is_id = re.compile("[A-Za-z0-9_:-]+").fullmatch

NUMBERED = ("note", "chunk", "progress", "once", "deadline")
"""Kinds of records of which a task has several: a token follows its id."""
ERROR_TEXT = 1000
"""Characters kept of an error's message in the log."""


@dataclass(frozen=True, slots=True)
class Ref:
    """Which task: its run, the name of its contract, its id. A task submitted by itself has run == id."""

    run: str
    name: str
    id: str

    def __str__(self) -> str:
        return self.id if self.run == self.id else f"{self.run}/{self.name}/{self.id}"

    @classmethod
    def parse(cls, text: str, name: str) -> Ref:
        """The reference that `text` (`str` of one) names, for a task of contract `name` if it stands alone.

        Raises ConfigError for any other text; a wildcard in it would read what belongs to other tasks.
        """
        parts = text.split("/")
        if len(parts) not in (1, 3) or not all(map(_is_id, parts)):
            raise ConfigError(f"{quoted(text)} is not the id of a task; use Handle.id")
        return cls(text, name, text) if len(parts) == 1 else cls(*parts)


class Subjects:
    """The subjects of one namespace."""

    __slots__ = ("_runs", "live", "namespace", "stream")

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace
        self.stream = f"ROOST_{namespace}"
        self._runs = f"{namespace}.run."
        self.live = f"{namespace}.live.run."

    def task(self, ref: Ref) -> str:
        return f"{self._runs}{ref.run}.task.{ref.name}.{ref.id}"

    def end(self, ref: Ref) -> str:
        return f"{self._runs}{ref.run}.end.{ref.name}.{ref.id}"

    def dead(self, ref: Ref) -> str:
        return f"{self._runs}{ref.run}.dead.{ref.name}.{ref.id}"

    def note(self, ref: Ref, k: int | str) -> str:
        return f"{self._runs}{ref.run}.note.{ref.name}.{ref.id}.{k}"

    def said(self, kind: str, ref: Ref, k: int | str) -> str:
        """What attempt *k* says while it runs, of kind ``chunk`` or ``progress``: outside the guard, as notes are."""
        return f"{self._runs}{ref.run}.{kind}.{ref.name}.{ref.id}.{k}"

    def once(self, ref: Ref, name: str) -> str:
        """The recorded result of an effect within a task."""
        return f"{self._runs}{ref.run}.once.{ref.name}.{ref.id}.{name}"

    def deadline(self, ref: Ref, due_ms: int) -> str:
        """That a task has a deadline of its own: milliseconds since 1970."""
        return f"{self._runs}{ref.run}.deadline.{ref.name}.{ref.id}.{due_ms}"

    @property
    def all_deadlines(self) -> str:
        return f"{self._runs}*.deadline.*.*.*"

    def live_said(self, kind: str, ref: Ref) -> str:
        return f"{self.live}{ref.run}.{kind}.{ref.name}.{ref.id}.*"

    def guard(self, ref: Ref) -> str:
        """What an `end` is guarded over: task, end and dead of this task, not its notes."""
        return f"{self._runs}{ref.run}.*.{ref.name}.{ref.id}"

    def live_end(self, ref: Ref) -> str:
        return f"{self.live}{ref.run}.end.{ref.name}.{ref.id}"

    def live_ends(self, name: str) -> str:
        """The hints of all outcomes of a contract."""
        return f"{self.live}*.end.{name}.*"

    def ends_of(self, name: str, run: str = "*") -> str:
        """All outcomes of a contract, or those in one run: the filter of those who report them."""
        return f"{self._runs}{run}.end.{name}.>"

    def cancel(self, ref: Ref) -> str:
        """Where workers are told that a task may have been cancelled."""
        return f"{self.namespace}.cancel.{ref.name}.{ref.run}.{ref.id}"

    def tasks_of(self, name: str) -> str:
        """All tasks of a contract: the filter of its consumer."""
        return f"{self._runs}*.task.{name}.>"

    @property
    def all_places(self) -> str:
        """The places of all tasks with an order key (`order`)."""
        return f"{self._runs}*.queue.*.*.*"

    @property
    def all_turns(self) -> str:
        return f"{self._runs}*.task.*.*.*.*"

    def all_dead(self, name: str = "*") -> str:
        return f"{self._runs}*.dead.{name}.>"

    def run(self, run: str) -> str:
        return f"{self._runs}{run}.>"

    def parse(self, subject: str) -> tuple[str, Ref] | None:
        """Kind and reference of a record's subject, or None if it is not one of this namespace.

        A subject with a token like `*` is none: the server stores it, and a guard or a read made from it
        would reach other tasks.
        """
        if not subject.startswith(self._runs):
            return None
        found = _is_record(subject, len(self._runs))
        if found is None:
            return None
        run, kind, name, id, number = found.groups()
        return (kind, Ref(run, name, id)) if (number is not None) == (kind in NUMBERED) else None


class ErrorRecord(TypedDict):
    type: str
    message: str


class AttemptRecord(TypedDict):
    """One attempt. `at` is its start in server time (seconds since 1970), `s` how long it ran."""

    k: int
    by: str
    at: float
    s: NotRequired[float]
    error: NotRequired[ErrorRecord]
    lost: NotRequired[bool]  # the process died or fell silent: it started and never reported


class DoneRecord(TypedDict, Generic[O]):
    status: Literal["done"]
    token: str
    attempts: list[AttemptRecord]
    value: O


class DeadRecord(TypedDict):
    status: Literal["dead"]
    token: str
    reason: str
    attempts: list[AttemptRecord]


class CancelledRecord(TypedDict):
    status: Literal["cancelled"]
    token: str
    by: str
    reason: str
    attempts: list[AttemptRecord]


class NoteRecord(TypedDict):
    """What a worker says of attempt `k` before its end. `event` is ``started`` or ``failed``."""

    k: int
    event: str
    by: str
    at: float
    s: NotRequired[float]
    error: NotRequired[ErrorRecord]
    retry_in_s: NotRequired[float]


class DeadIndex(TypedDict):
    reason: str
    replays: NotRequired[list[str]]


_notes: Codec[NoteRecord] | None = None


def end_codec(output: Any, limits: Limits | None = None) -> Codec[Any]:
    """The codec of `end` records whose value is of type `output` and within `limits`."""
    union: Any = Annotated[DoneRecord[output] | DeadRecord | CancelledRecord, Discriminator("status")]
    if limits is None:
        return Codec(union, limits=RECORD_LIMITS)
    around = Limits(
        max_bytes=min(limits.max_bytes + AROUND_BYTES, 2**31),
        max_depth=min(limits.max_depth + AROUND_LEVELS, DEEPEST),
    )
    return Codec(union, limits=around)


def encode_done(token: str, attempts: list[AttemptRecord], value: bytes) -> bytes:
    """A done record around a value that is JSON already."""
    return _json({"status": "done", "token": token, "attempts": attempts})[:-1] + b',"value":' + value + b"}"


def encode_dead(token: str, attempts: list[AttemptRecord], reason: str) -> bytes:
    return _json({"status": "dead", "token": token, "reason": reason, "attempts": attempts})


def encode_cancelled(token: str, by: str, reason: str) -> bytes:
    return _json({"status": "cancelled", "token": token, "by": by, "reason": reason, "attempts": []})


def encode_note(note: NoteRecord) -> bytes:
    return _json(note)


def decode_note(data: bytes, *, subject: str) -> NoteRecord:
    """Raises InvalidMessage."""
    global _notes
    if _notes is None:
        _notes = Codec(NoteRecord, limits=RECORD_LIMITS)
    return _notes.decode(data, subject=subject)


def encode_dead_index(index: DeadIndex) -> bytes:
    return _json(index)


def error_record(error: BaseException) -> ErrorRecord:
    try:
        text = str(error)[:ERROR_TEXT]
    except Exception as broken:  # it may be the user's own code
        text = f"its text cannot be had ({type(broken).__name__})"
    return {"type": type(error).__name__, "message": text}


def _json(value: object) -> bytes:
    try:
        return to_json(value)  # a tenth of what the standard library takes
    except ValueError:  # a text with half a surrogate pair in it, such as a file name that is not UTF-8
        return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
