"""The records of a run beside its tasks, as subjects and JSON. Pure.

    <ns>.run.<run>.epoch              who coordinates: written at takeover only, and the guard of all else
    <ns>.run.<run>.step.<op>          the result of a step, a part of a fan-out, a signal that was taken
    <ns>.run.<run>.state              parked, cancelling, ended
    <ns>.run.<run>.signal.<name>      a signal, from anybody, any number

`<run>` is the run in which the workflow's own records stand: that of its task if it was started by itself,
else one that follows from the task's place in its parent's run, so that parent and child find each other.
"""

from __future__ import annotations

import base64
import hashlib
import json
from typing import Any, Literal, NotRequired

from typing_extensions import TypedDict

from roost.codec import Codec, Limits
from roost.errors import InvalidMessage
from roost.subjects import key_token
from roost.tasks.records import Ref

Kind = Literal["step", "call", "map", "signal", "wait"]

STEP_LIMITS = Limits(max_bytes=512 * 1024, max_depth=36)


class StepRecord(TypedDict):
    """What an operation came to. `input` is a hash of what it was given; `value` is there once it has one."""

    kind: Kind
    op: str
    contract: str
    input: str
    by: str
    at: float
    s: NotRequired[float]
    value: NotRequired[Any]
    chunk: NotRequired[int]  # of a map: which part
    count: NotRequired[int]  # of a map: how many items the part has
    last: NotRequired[bool]  # of a map: no part follows
    seq: NotRequired[int]  # of a signal: the record that was taken; 0 when the wait timed out
    until: NotRequired[float]  # of a wait: server time at which it times out


class EpochRecord(TypedDict):
    """A takeover. `task` is the workflow's own task; its end is this run's outcome.

    One execution has one `token`. Two records with the same one are a takeover and its repetition, made to be
    certain of a write whose answer was lost.
    """

    token: str
    by: str
    at: float
    workflow: str
    task: str
    deaths: NotRequired[int]  # executions in a row before this one that died and left no record


class StateRecord(TypedDict):
    """`waiting` is only written where several executions had died before one came so far."""

    status: Literal["parked", "cancelling", "waiting", "done", "dead", "cancelled"]
    at: float
    by: str
    reason: str


def inner_run(ref: Ref) -> str:
    """The run that holds the records of the workflow whose task is `ref`."""
    if ref.run == ref.id:
        return ref.run
    place = "/".join((ref.run, ref.name, ref.id)).encode()
    return f"{ref.name}:{base64.b32encode(hashlib.sha256(place).digest()).decode().lower()[:26]}"


class RunSubjects:
    """The subjects of one run."""

    __slots__ = ("_live", "_prefix", "run")

    def __init__(self, namespace: str, run: str) -> None:
        self.run = run
        self._prefix = f"{namespace}.run.{run}."
        self._live = f"{namespace}.live.run.{run}."

    @property
    def epoch(self) -> str:
        return self._prefix + "epoch"

    @property
    def state(self) -> str:
        return self._prefix + "state"

    @property
    def steps(self) -> str:
        return self._prefix + "step.*"

    @property
    def tasks(self) -> str:
        return self._prefix + "task.>"

    def step(self, op: str) -> str:
        return f"{self._prefix}step.{op}"

    def called(self, op: str) -> str:
        """The task of a call and its outcome, whatever its contract."""
        return f"{self._prefix}*.*.{op}"

    def signal(self, name: str) -> str:
        return f"{self._prefix}signal.{name}"

    def all_of(self, kind: str) -> str:
        return f"{self._prefix}{kind}.>"

    def live(self, kind: str) -> str:
        return f"{self._live}{kind}.>"

    def live_signal(self, name: str) -> str:
        return f"{self._live}signal.{name}"


def op_token(name: str) -> str:
    """The token of an operation's name; raises UnsafeToken for an empty one."""
    return key_token(name)


def chunk_token(op: str, number: int) -> str:
    """The token of one part of a fan-out."""
    return f"{op}:{number}"


def digest(data: bytes) -> str:
    """What a record says of an input: 128 bits of its SHA-256, in hexadecimal."""
    return hashlib.sha256(data).hexdigest()[:32]


def encode(record: StepRecord | EpochRecord | StateRecord, value: bytes | None = None) -> bytes:
    """A record as JSON, around a value that is JSON already."""
    data = json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    return data if value is None else data[:-1] + b',"value":' + value + b"}"


_steps: Codec[StepRecord] | None = None
_states: Codec[StateRecord] | None = None


def decode_step(data: bytes, *, subject: str) -> StepRecord:
    """Raises InvalidMessage."""
    global _steps
    if _steps is None:
        _steps = Codec(StepRecord, limits=STEP_LIMITS)
    return _steps.decode(data, subject=subject)


def decode_state(data: bytes, *, subject: str) -> StateRecord | None:
    """None for a record that is none."""
    global _states
    if _states is None:
        _states = Codec(StateRecord, limits=STEP_LIMITS)
    try:
        return _states.decode(data, subject=subject)
    except InvalidMessage:
        return None
