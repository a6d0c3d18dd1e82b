"""Every error that Roost raises, in one tree, so that one `except` is never too narrow or too wide.

    RoostError                                 anything below
    ├── ConfigError             ValueError        a contract, option or setting is wrong
    │   └── ConfigMismatch                        the server has it, but configured differently
    ├── ServerUnavailable                         no local server could be found or started
    ├── ConnectError            ConnectionError   the connection could not be made
    ├── NotConnected            ConnectionError   there is no connection at the moment; not sent
    ├── Disconnected            ConnectionError   lost with something in flight; arrival unknown
    ├── ConnectionClosed        ConnectionError   this bus was closed
    ├── WrongLoop               RuntimeError      used from another event loop than it was opened on
    ├── PermissionDenied        PermissionError   the server refused a subject to this user
    ├── NoResponders                              nobody listens on the subject
    ├── RequestTimeout          TimeoutError      no answer in time
    ├── DeadlineExceeded        TimeoutError      the deadline that came with the work has passed
    ├── RemoteError                               the handler at the other end failed
    │   └── Overloaded                            it refused, being full; nothing was run
    ├── BreakerOpen                               a circuit breaker refused; nothing was called
    ├── InvalidMessage          ValueError        a payload that does not fit its contract
    │   └── TooLarge                              larger than the limit
    ├── UnsafeToken             ValueError        a text that may not stand in a subject
    ├── Conflict                                  the key was used before with another payload
    ├── StoreFull                                 the log has no room for new work
    ├── StreamMissing                             the namespace has not been provisioned
    ├── JetStreamError                            any other refusal of the JetStream API
    ├── SubmissionUnknown                         not known whether the work was stored
    ├── HistoryMismatch                           a workflow's code does not fit what its run has on record
    ├── TaskDead                                  the task ended as a dead letter
    └── TaskCancelled                             the task was cancelled

    HandlerSignal                              not errors: what a handler says about its own work
    ├── Reject                                    do not try again: dead letter
    └── RetryLater                                try again after a stated time

`Reject` and `RetryLater` stand outside the tree on purpose. A handler that calls others writes
`except RoostError:` around those calls; were its own verdict a `RoostError`, that clause would swallow it
and a rejected task would be retried, or reported done.

Data stand in attributes, with units in their names. A message says what happened, what was kept and what
to do next; text of strangers in it is escaped and cut. Every error survives `pickle` and `copy`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from copy import copy
from datetime import UTC, datetime
from typing import ClassVar, Self

from roost._error_parts import Difference, Portable, RoostError
from roost._log_errors import (
    Conflict,
    HistoryMismatch,
    JetStreamError,
    Letter,
    StoreFull,
    StreamMissing,
    SubmissionUnknown,
    TaskCancelled,
    TaskDead,
)
from roost._text import clean, quoted, redact

__all__ = [
    "BreakerOpen",
    "ConfigError",
    "ConfigMismatch",
    "Conflict",
    "ConnectError",
    "ConnectionClosed",
    "DeadlineExceeded",
    "Difference",
    "Disconnected",
    "HandlerSignal",
    "HistoryMismatch",
    "InvalidMessage",
    "JetStreamError",
    "Letter",
    "NoResponders",
    "NotConnected",
    "Overloaded",
    "PermissionDenied",
    "Reject",
    "RemoteError",
    "RequestTimeout",
    "RetryLater",
    "RoostError",
    "ServerUnavailable",
    "StoreFull",
    "StreamMissing",
    "SubmissionUnknown",
    "TaskCancelled",
    "TaskDead",
    "TooLarge",
    "UnsafeToken",
    "WrongLoop",
]


# --- configuration ----------------------------------------------------------------------------------


class ConfigError(RoostError, ValueError):
    """A contract, an option or a setting is wrong; the message names the field, the value, what is allowed."""


class ConfigMismatch(ConfigError):
    """A stream or consumer exists with another configuration; it was left as it was."""

    def __init__(self, what: str, differences: Sequence[Difference]) -> None:
        self.what = what
        self.differences = tuple(differences)
        listed = "; ".join(map(str, self.differences))
        super().__init__(
            f"{clean(what)} is configured differently: {listed}. Nothing was changed. Run `roost provision` as "
            "an administrator to apply what the code asks for, or change the code."
        )


class ServerUnavailable(RoostError):
    """No local server could be found or started; the message says what was tried and what to install."""


# --- the connection ---------------------------------------------------------------------------------


class ConnectError(RoostError, ConnectionError):
    """The connection could not be made. `url` has no credentials in it."""

    retryable = True

    def __init__(self, url: str, reason: str) -> None:
        self.url = redact(url)
        self.reason = clean(redact(reason[:2000]), 500)
        super().__init__(
            f"cannot connect to {clean(self.url)}: {self.reason}. Check that the server runs and that address "
            "and credentials are right (NATS_URL, or the url given to roost.connect)."
        )


class NotConnected(RoostError, ConnectionError):
    """There is no connection at the moment; nothing was sent. `operation` says what was wanted."""

    retryable = True

    def __init__(self, operation: str) -> None:
        self.operation = clean(operation)
        super().__init__(
            f"not connected to the server: {self.operation} was not sent. Roost goes on reconnecting; try again later."
        )


class Disconnected(RoostError, ConnectionError):
    """The connection was lost while `operation` was in flight; whether it arrived is unknown."""

    def __init__(self, operation: str) -> None:
        self.operation = clean(operation)
        super().__init__(
            f"the connection was lost while {self.operation} was in flight; whether it arrived is unknown. Repeat "
            "it if doing it twice is harmless; a task may always be submitted again with the same key."
        )


class ConnectionClosed(RoostError, ConnectionError):
    """The bus was closed, by its owner or for good by the server; `reason` says by what."""

    def __init__(self, reason: str = "it was left or closed") -> None:
        self.reason = clean(reason, 500)
        super().__init__(
            f"this bus is closed ({self.reason}). Nothing was sent. Open another with `async with roost.connect()`."
        )


class WrongLoop(RoostError, RuntimeError):
    """A bus belongs to the event loop it was opened on; using it from another would hang or corrupt it."""

    def __init__(self, operation: str) -> None:
        self.operation = clean(operation)
        super().__init__(
            f"{self.operation} was called from another event loop than the one the bus was opened on. Nothing was "
            "sent. Open a bus in this loop, or hand over with asyncio.run_coroutine_threadsafe."
        )


class PermissionDenied(RoostError, PermissionError):
    """The server does not let this user `action` ("publish" or "subscribe") on `subject`.

    `missing` has that and all `others` that are known to be missing too, each as (subject, action); `kept` says what
    was done all the same.
    """

    def __init__(
        self,
        subject: str,
        action: str,
        *,
        others: Sequence[tuple[str, str]] = (),
        kept: str = "Nothing was delivered.",
    ) -> None:
        self.subject = subject
        self.action = action
        self.missing = ((subject, action), *others)
        self.kept = kept
        which = ", ".join(f"{clean(verb)} on {quoted(place, 300)}" for place, verb in self.missing)
        those = (
            "those permissions (`roost permissions` lists what an agent needs)"
            if others
            else "that permission"
        )
        super().__init__(
            f"the server does not allow this user to {which}. {kept} "
            f"Ask an administrator for {those}, or connect with other credentials."
        )


# --- requests ---------------------------------------------------------------------------------------


class NoResponders(RoostError):
    """Nobody listens on `subject`; the server said so at once and nothing was delivered."""

    retryable = True

    def __init__(self, subject: str) -> None:
        self.subject = subject
        super().__init__(
            f"nobody answers on {quoted(subject)}: nothing was delivered. Start the agent that handles it, and "
            "compare namespace and server of both sides."
        )


class RequestTimeout(RoostError, TimeoutError):
    """No answer within `timeout_s` seconds; the request may have been handled all the same."""

    def __init__(self, subject: str, timeout_s: float, text: str = "") -> None:
        self.subject = subject
        self.timeout_s = timeout_s
        super().__init__(
            text
            or f"no answer on {quoted(subject)} within {timeout_s:g} s; it may have been handled all the same. Repeat "
            "it if that is harmless, allow more time (timeout_s), or make it a task."
        )


class DeadlineExceeded(RoostError, TimeoutError):
    """The deadline that travels with the work has passed; `operation` was not begun or was abandoned."""

    def __init__(self, operation: str) -> None:
        self.operation = clean(operation)
        super().__init__(
            f"the deadline passed before {self.operation} was finished, so it was given up. Allow more time where "
            "the work begins (timeout_s of a request, deadline_s of a task)."
        )


_TRACEBACK = " (Its own log has the traceback.)"


class RemoteError(RoostError):
    """The handler at the other end failed. `code` and `message` are its words, never its traceback."""

    def __init__(self, code: str, message: str, *, subject: str) -> None:
        self.code = clean(code, 64)
        self.message = clean(message, 1000)
        self.subject = subject
        code = "" if self.code == "failed" else f" ({self.code})"
        super().__init__(f"the handler on {quoted(subject)} failed{code}: {self.message}{self._advised()}")

    def _advised(self) -> str:
        """Only who failed has a traceback; an error that passed through has named the log of the first already."""
        return _TRACEBACK if self.code == "failed" and not self.message.endswith(_TRACEBACK) else ""


class Overloaded(RemoteError):
    """The handler is at its limit and refused; nothing was run."""

    retryable = True

    def __init__(self, message: str = "too many requests at once", *, subject: str) -> None:
        super().__init__("overloaded", message, subject=subject)

    def _advised(self) -> str:
        return " (Nothing was run: try again later, or start more instances.)"


class BreakerOpen(RoostError):
    """The circuit breaker `name` is open since `since_s` (seconds since 1970), or half open: nothing was called.

    In `retry_after_s` seconds it lets one call through; 0 while such a probe is under way.
    """

    retryable = True

    def __init__(self, name: str, *, since_s: float, reason: str, retry_after_s: float) -> None:
        self.name = clean(name)
        self.since_s = since_s
        self.reason = clean(reason, 500)
        self.retry_after_s = retry_after_s
        due = f"is due in {retry_after_s:.1f} s" if retry_after_s > 0 else "is under way"
        super().__init__(
            f"the circuit breaker of {self.name} is open since {datetime.fromtimestamp(since_s, UTC):%H:%M:%S} UTC: "
            f"{self.reason}. Nothing was called. Do without it, or try again later: the next probe {due}."
        )


# --- messages and subjects --------------------------------------------------------------------------


class InvalidMessage(RoostError, ValueError):
    """A payload does not fit its contract. `field` is a path such as `pages.0.url`, empty for the whole."""

    final: bool = False
    """Whether it is told of a result whose function has run: what fails of it is not tried again."""
    _remedy: ClassVar[str] = "correct the sender, or the model that both sides share"
    _input_remedy: ClassVar[str] = "correct the value, or the model that both sides share"

    def __init__(self, *, subject: str, field: str, reason: str) -> None:
        self.subject = subject
        self.field = clean(field)
        self.reason = clean(reason, 500)
        super().__init__(
            f"message on {quoted(subject)} refused: {self._what}. It reached no handler; {self._remedy}."
        )

    @property
    def _what(self) -> str:
        return f"{f'field {self.field!r}' if self.field else 'the payload'}: {self.reason}"

    def of_input(self, contract: object) -> Self:
        """The same, told of a value that was to be submitted: by its contract, such as ``Task 'scan'``."""
        error = copy(self)
        error.args = (f"{contract}: {self._what}. It was not submitted; {self._input_remedy}.",)
        return error

    def of_result(self, function: str) -> Self:
        """The same, told of what a function within a handler returned, such as ``ctx.once 'charge'``: it has run."""
        error = copy(self)
        error.final = True
        error.args = (
            f"{function} has run, but its result cannot be kept: {self._what}. An attempt that fails of this is the "
            "last, for another would repeat what was done. Let the function return what can be kept, such as an id or "
            "a reference; a replay of the dead letter calls it again.",
        )
        return error

    def of_outcome(self) -> Self:
        """The same, told of an outcome in the log: its handler ran, and nothing of it is lost."""
        error = copy(self)
        error.field = self.field.removeprefix("done.value.").removeprefix("done.")
        error.args = (
            f"the outcome on {quoted(self.subject)} does not fit the contract: {error._what}. The handler ran and its "
            "outcome stays stored: correct the model here, or read it with the one that it was written with.",
        )
        return error


class TooLarge(InvalidMessage):
    """The payload has `size` bytes where `limit` bytes are allowed."""

    _remedy = "store large data elsewhere and send a reference to it"
    _input_remedy = f"give the contract limits=Limits(max_bytes=…), up to 64 MiB, or {_remedy}"

    def __init__(self, *, subject: str, size: int, limit: int) -> None:
        self.size = size
        self.limit = limit
        super().__init__(subject=subject, field="", reason=f"{size} bytes, allowed are {limit}")


class UnsafeToken(RoostError, ValueError):
    """A text that may not stand in a subject: a wildcard in it would reach, or delete, what belongs to others.

    `name` is the parameter, `value` its printable form.
    """

    def __init__(self, *, name: str, value: object, reason: str) -> None:
        self.name = clean(name)
        self.value = quoted(value)
        self.reason = clean(reason)
        super().__init__(f"{self.name} = {self.value} cannot stand in a subject: {self.reason}.")


# --- what a handler says ----------------------------------------------------------------------------


class HandlerSignal(Portable):
    """A handler's verdict on its own work. Not an error, and so not caught by `except RoostError`."""


class Reject(HandlerSignal):
    """This work can never succeed: no further attempt, a dead letter with `reason`."""

    def __init__(self, reason: str) -> None:
        self.reason = str(reason)
        super().__init__(self.reason)


class RetryLater(HandlerSignal):
    """This work should be tried again in `after_s` seconds, whatever the retry policy's own delay is.

    Raises ConfigError if `after_s` is not a finite number >= 0.
    """

    def __init__(self, *, after_s: float, reason: str = "") -> None:
        if type(after_s) not in (int, float) or not math.isfinite(after_s) or after_s < 0:
            raise ConfigError(
                f"after_s = {quoted(after_s)}: RetryLater needs a finite number of seconds >= 0."
            )
        self.after_s = float(after_s)
        self.reason = reason
        super().__init__(f"retry in {after_s:g} s" + (f": {reason}" if reason else ""))
