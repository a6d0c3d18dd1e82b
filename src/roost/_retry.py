"""When a failed attempt is tried again: arithmetic and one decision. Pure; randomness is passed in.

A fixed delay makes everything that failed together come back together, and knock down again what had just got up.
So delays double, are cut at a cap, and are spread over the upper half of their length. That is "equal jitter" of
https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/: half of the delay stays, so that a retry
never comes at once, and the other half is random, so that retries do not come together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from roost._text import clean, quoted
from roost.errors import ConfigError, InvalidMessage, Reject, RetryLater

_MAX_DOUBLINGS = 1000  # 2.0 ** 1024 overflows, and every cap is reached long before


@dataclass(frozen=True, slots=True, kw_only=True)
class TryAgain:
    """Another attempt, not before `delay_s` seconds have passed."""

    delay_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveUp:
    """No other attempt: a dead letter. `cause` is for counters, `reason` for people."""

    cause: Literal["rejected", "not_retryable", "exhausted"]
    reason: str


Verdict: TypeAlias = TryAgain | GiveUp


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry:
    """How often, how late and after which exceptions a task is tried again. ConfigError names a wrong field."""

    attempts: int = 5
    """How often the handler runs at most, the first time included.

    A first attempt whose process dies within a third of the contract's `ack_wait_s` leaves no trace and is not
    counted: then it runs once more than this. Only ``attempts=1`` is exact, at the price of one more record.
    """
    base_s: float = 0.2
    """Seconds before the second attempt; each later delay is twice the one before."""
    cap_s: float = 30
    """No delay is longer than this."""
    retry_on: tuple[type[Exception], ...] = (Exception,)
    """Only these exceptions are tried again."""
    never_on: tuple[type[Exception], ...] = ()
    """These never are; stronger than `retry_on`."""

    def __post_init__(self) -> None:
        if type(self.attempts) is not int or self.attempts < 1:
            raise ConfigError(f"Retry: attempts = {quoted(self.attempts)}: must be an int >= 1.")
        check_seconds("Retry", "base_s", self.base_s)
        check_seconds("Retry", "cap_s", self.cap_s)
        if self.cap_s < self.base_s:
            raise ConfigError(f"Retry: cap_s = {self.cap_s:g}: must be >= base_s, which is {self.base_s:g}.")
        check_classes("Retry", "retry_on", self.retry_on)
        check_classes("Retry", "never_on", self.never_on)

    def delay_s(self, failures: int, u: float) -> float:
        """Seconds to wait after the attempt that made it `failures` failures; `u` is random in [0, 1).

        Between half of `base_s * 2 ** (failures - 1)`, or of `cap_s` if that is less, and the whole of it.
        """
        longest = min(self.cap_s, self.base_s * 2.0 ** min(failures - 1, _MAX_DOUBLINGS))
        return longest * (0.5 + u / 2)

    def verdict(self, error: Exception, failures: int, u: float) -> Verdict:
        """What follows from `error`, raised by the attempt that made it `failures` failures.

        A `RetryLater` counts as a failed attempt like any other, as it does in Celery, dramatiq and Temporal: a
        task that asks for more time for ever would never have an outcome. Its own delay replaces the computed
        one and may exceed `cap_s`. Work that has to wait for a quota gets more `attempts`, and a `deadline_s`.
        """
        if isinstance(error, Reject):
            return GiveUp(cause="rejected", reason=_said(error.reason) or "rejected by its handler")
        if isinstance(error, InvalidMessage) and error.final:
            return GiveUp(cause="not_retryable", reason=_said(str(error)))
        asked = isinstance(error, RetryLater)
        if not asked and (isinstance(error, self.never_on) or not isinstance(error, self.retry_on)):
            return GiveUp(cause="not_retryable", reason=f"{_described(error)} is not to be tried again")
        if failures >= self.attempts:
            tried = (
                f"{failures} attempts failed, the last with"
                if failures != 1
                else "the only attempt failed with"
            )
            return GiveUp(cause="exhausted", reason=f"{tried} {_described(error)}")
        return TryAgain(delay_s=error.after_s if isinstance(error, RetryLater) else self.delay_s(failures, u))


def check_seconds(owner: str, name: str, value: Any, *, least: float = 0) -> None:
    """ConfigError unless `value` is a finite number of seconds, > 0 and >= `least`."""
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and math.isfinite(value) and value > 0 and value >= least:
        return
    allowed = f">= {least:g}" if least else "> 0"
    raise ConfigError(f"{owner}: {name} = {quoted(value)}: must be a finite number of seconds {allowed}.")


def check_classes(owner: str, name: str, classes: Any) -> None:
    """ConfigError unless `classes` is a tuple of classes of Exception."""
    if not isinstance(classes, tuple) or not all(map(_is_exception_class, classes)):
        raise ConfigError(
            f"{owner}: {name} = {quoted(classes)}: must be a tuple of classes of Exception, such as (ValueError,)."
        )


def _is_exception_class(value: object) -> bool:
    return isinstance(value, type) and issubclass(value, Exception)


def _described(error: Exception) -> str:
    try:
        text = _said(str(error))
    except Exception as broken:  # the text of an exception may be the user's own code
        text = f"its text cannot be had ({type(broken).__name__})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _said(text: str) -> str:
    return clean(text, 1000)
