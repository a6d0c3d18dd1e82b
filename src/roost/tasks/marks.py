"""What the header of a task says beside its input: version, whom it has to wait for, until when it has time. Pure.

A worker must know them before it looks at the input, which it may not be able to read, and so must workers in
other languages. A task of version 1 that has no order and no deadline has none of these headers, and costs nothing.
"""

from __future__ import annotations

from typing import Any

from pydantic_core import to_json

from roost import _json
from roost._text import quoted
from roost.contracts import Task, Workflow
from roost.errors import ConfigError, InvalidMessage
from roost.subjects import key_token, token
from roost.tasks.batch import Pairs

VERSION = "Roost-Version"
ORDER = "Roost-Order"
NOT_BEFORE = "Roost-Not-Before"
"""Until when it has to wait: milliseconds since 1970, server time."""
DEADLINE = "Roost-Deadline"
"""When it must have an outcome: milliseconds since 1970, server time."""
OBJECT = "Roost-Object"
"""The record refers to its payload, which is an object: its token (`references`)."""
MARKS = (VERSION, ORDER, NOT_BEFORE, DEADLINE, OBJECT)
ANY = b"\r\nRoost-"
"""Stands in a header block that has a mark."""
MOST_DIGITS = 6
MOST_TIME_DIGITS = 15


def marks_of(contract: Task[Any, Any] | Workflow[Any, Any], value: Any, due_s: float | None = None) -> Pairs:
    """The marks of a task that is submitted with `value`, to be over by `due_s` (seconds since 1970).

    Raises ConfigError for an order key that is no text, UnsafeToken for an empty one, and what the contract's
    function raises.
    """
    marks: Pairs = () if contract.version == 1 else ((VERSION, str(contract.version)),)
    if due_s is not None:
        marks = (*marks, (DEADLINE, str(round(due_s * 1000))))
    if contract.order_key is None:
        return marks
    key = contract.order_key(value)
    if key is None:
        return marks
    if not isinstance(key, str):
        raise ConfigError(
            f"{contract}: order_key returned {quoted(key)}: must be a str, or None for no order; nothing was submitted"
        )
    return (*marks, (ORDER, key_token(key)))


def read_marks(head: bytes) -> Pairs:
    """The marks in the header block of a task."""
    if ANY not in head:
        return ()
    return tuple((name, value) for name in MARKS if (value := find(head, name)))


def find(head: bytes, name: str) -> str:
    """The value of one header, found without parsing the others; empty if it is not there."""
    begin = head.find(f"\r\n{name}:".encode())
    if begin < 0:
        return ""
    begin += len(name) + 3
    return head[begin : head.find(b"\r\n", begin)].decode("ascii", "replace").strip()


def order_of(marks: Pairs) -> str:
    """The token of the order key among `marks`; empty if there is none, or a stranger's that is no token."""
    for name, value in marks:
        if name == ORDER:
            try:
                return token(value)
            except ValueError:
                return ""
    return ""


def due_of(marks: Pairs) -> float | None:
    """The deadline among `marks`, seconds since 1970; None if there is none, or a stranger's that is no number."""
    ms = _time(marks, DEADLINE)
    return ms / 1000 if ms is not None else None


def begin_mark(begin_ms: int | None) -> Pairs:
    """The mark of a task that may not begin before a time, in milliseconds since 1970."""
    return () if begin_ms is None else ((NOT_BEFORE, str(begin_ms)),)


def begin_of(marks: Pairs) -> int | None:
    """When a task with these marks may begin, milliseconds since 1970; None: at once, or a stranger's is no number."""
    return _time(marks, NOT_BEFORE)


def _time(marks: Pairs, wanted: str) -> int | None:
    for name, value in marks:
        if name == wanted and value.isdecimal() and value.isascii() and len(value) <= MOST_TIME_DIGITS:
            return int(value)
    return None


def renewed(marks: Pairs, due_s: float | None) -> Pairs:
    """The same marks with another deadline, or none: of a task that is submitted in the place of an old one.

    What the old one has waited for is over, and a large input becomes an object of the new one.
    """
    others = tuple(pair for pair in marks if pair[0] not in (DEADLINE, NOT_BEFORE, OBJECT))
    return others if due_s is None else (*others, (DEADLINE, str(round(due_s * 1000))))


def version_of(marks: Pairs) -> int:
    """The contract's version among `marks`; 1 if there is none, or a stranger's that is no number."""
    for name, value in marks:
        if name == VERSION and value.isdecimal() and value.isascii() and len(value) <= MOST_DIGITS:
            return int(value)
    return 1


def encode_input(task: Task[Any, Any] | Workflow[Any, Any], value: Any, subject: str) -> bytes:
    """The input of a task as it is stored. Raises InvalidMessage (TooLarge), told by the contract's name."""
    try:
        return task.input_codec.encode(value, subject=subject)
    except InvalidMessage as error:
        raise error.of_input(task) from error.__cause__


def decode_input(task: Task[Any, Any] | Workflow[Any, Any], data: bytes, version: int, subject: str) -> Any:
    """The input of a task of a `version` that is the contract's or an earlier one. Raises InvalidMessage."""
    codec = task.input_codec
    if version >= task.version:
        return codec.decode(data, subject=subject)
    at = version
    try:
        for at in range(version, task.version):
            step = task.upgrade.get(at)
            if step is not None:
                data = to_json(step(_json.parse(data, task.limits.max_depth)))
        return codec.decode(data, subject=subject)
    except InvalidMessage as error:
        field, reason = error.field, error.reason
    except _json.BadJson as error:
        field, reason = error.field, error.reason
    except Exception as error:  # it is the user's code
        field, reason = "", f"upgrade[{at}] raised {type(error).__name__}: {error}"
    raise InvalidMessage(
        subject=subject,
        field=field,
        reason=f"{reason} (it was submitted as version {version} and the worker's contract is version {task.version}: "
        f"give that an upgrade={{{version}: ...}} and replay the task)",
    )
