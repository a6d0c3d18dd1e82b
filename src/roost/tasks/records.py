"""The records of a task, as subjects and JSON: the wire contract of the log.

Pure functions; `docs/wire.md` describes the same for other languages. Whatever stands in the log may
come from a stranger: decoding checks everything and raises InvalidMessage.

    <ns>.run.<run>.task.<name>.<id>      input of a task                 written once
    <ns>.run.<run>.end.<name>.<id>       its outcome                     written once, guarded
    <ns>.run.<run>.dead.<name>.<id>      index of dead letters           written after a dead end
    <ns>.run.<run>.note.<name>.<id>.<k>  attempt k started, failed       outside the guard
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, Generic, Literal

from typing_extensions import NotRequired, TypedDict, TypeVar

from roost.codec import Codec, Limits

O = TypeVar("O")

RECORD_LIMITS = Limits(max_bytes=512 * 1024, max_depth=36)
"""An outcome is a value (at most 256 KiB, 32 levels) within a record, beside the history of its attempts."""

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

    def guard(self, ref: Ref) -> str:
        """What an `end` is guarded over: task, end and dead of this task, not its notes."""
        return f"{self._runs}{ref.run}.*.{ref.name}.{ref.id}"

    def live_end(self, ref: Ref) -> str:
        return f"{self.live}{ref.run}.end.{ref.name}.{ref.id}"

    def live_ends(self, name: str) -> str:
        """The hints of all outcomes of a contract."""
        return f"{self.live}*.end.{name}.*"

    def tasks_of(self, name: str) -> str:
        """All tasks of a contract: the filter of its consumer."""
        return f"{self._runs}*.task.{name}.>"

    def all_dead(self, name: str = "*") -> str:
        return f"{self._runs}*.dead.{name}.>"

    def run(self, run: str) -> str:
        return f"{self._runs}{run}.>"

    def parse(self, subject: str) -> tuple[str, Ref] | None:
        """Kind and reference of a record's subject, or None if it is not one of this namespace."""
        if not subject.startswith(self._runs):
            return None
        parts = subject[len(self._runs) :].split(".")
        if len(parts) < 4 or len(parts) > 5 or (len(parts) == 5) != (parts[1] == "note"):
            return None
        return parts[1], Ref(parts[0], parts[2], parts[3])


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


def end_codec(output: Any) -> Codec[Any]:
    """The codec of `end` records whose value is of type `output`."""
    union: Any = DoneRecord[output] | DeadRecord | CancelledRecord
    return Codec(union, limits=RECORD_LIMITS)


def encode_done(token: str, attempts: list[AttemptRecord], value: bytes) -> bytes:
    """A done record around a value that is JSON already."""
    head = json.dumps({"status": "done", "token": token, "attempts": attempts}, separators=(",", ":"))
    return head[:-1].encode() + b',"value":' + value + b"}"


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
    return {"type": type(error).__name__, "message": str(error)[:ERROR_TEXT]}


def _json(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
