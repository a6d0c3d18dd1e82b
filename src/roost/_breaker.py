"""When a circuit breaker opens, for how long, and which errors count: one value. Pure; no state is here."""

from __future__ import annotations

from dataclasses import dataclass

from roost._retry import check_classes, check_seconds
from roost._text import quoted
from roost.errors import (
    ConfigError,
    ConnectionClosed,
    DeadlineExceeded,
    InvalidMessage,
    NotConnected,
    PermissionDenied,
    Reject,
    RemoteError,
    UnsafeToken,
    WrongLoop,
)

_OWN_FAULTS = (
    ConfigError,
    ConnectionClosed,
    DeadlineExceeded,
    InvalidMessage,
    NotConnected,
    PermissionDenied,
    Reject,
    UnsafeToken,
    WrongLoop,
)
"""What says nothing of whoever is called: the caller's mistake, its own time that is over, its own connection."""
_OWN_FAULT_CODES = ("invalid", "rejected", "unknown")
"""The same, as the other side says it (`RemoteError.code`)."""
_MAX_DOUBLINGS = 1000  # as in `Retry`: 2.0 ** 1024 overflows


@dataclass(frozen=True, slots=True, kw_only=True)
class BreakerPolicy:
    """When a circuit breaker opens and when it tries again. ConfigError names a wrong field.

    It opens when, of the calls that ended within `window_s`, and there were `minimum_calls`, the share
    `failure_rate` failed, or the share `slow_call_rate` was slow. Cancelled calls are not counted, and neither are
    the caller's own mistakes: `Reject`, `InvalidMessage`, `ConfigError`, a deadline of the caller's that is over, no
    connection, or a `RemoteError` that says so.
    """

    window_s: float = 10
    """Seconds of the past that are looked at: an outage of everything is noticed within half of it, and one bad
    second in a busy minute is not taken for an outage. Longer where calls are rare or take longer. It moves on in
    tenths."""
    minimum_calls: int = 10
    """Fewer calls in the window decide nothing: of ten, where one in twenty fails, five fail together by
    chance once in 15,000 times; of four, two once in 70."""
    failure_rate: float = 0.5
    """Above 0, at most 1. When half of all calls fail, retries no longer help: of three tries in a row one in eight
    fails still, and all are paid for."""
    slow_call_s: float | None = None
    """Calls that take at least this long are slow; None: none are."""
    slow_call_rate: float = 0.8
    """Above 0, at most 1. More than `failure_rate`: a slow answer is an answer."""
    open_s: float = 5
    """Seconds until the first probe: what restarts is mostly back by then. Doubled by each probe that fails in a row,
    and spread over the upper half of its length, so that callers do not come back together."""
    open_cap_s: float = 60
    """It is never open for longer without a probe. A probe that has said nothing for as long is taken for lost."""
    failures_on: tuple[type[Exception], ...] = (Exception,)
    """Only these exceptions count as failures."""
    never_on: tuple[type[Exception], ...] = ()
    """These are not counted; stronger than `failures_on`."""

    def __post_init__(self) -> None:
        for name in ("window_s", "open_s", "open_cap_s"):
            check_seconds("BreakerPolicy", name, getattr(self, name))
        if self.slow_call_s is not None:
            check_seconds("BreakerPolicy", "slow_call_s", self.slow_call_s)
        if type(self.minimum_calls) is not int or self.minimum_calls < 1:
            raise ConfigError(
                f"BreakerPolicy: minimum_calls = {quoted(self.minimum_calls)}: must be an int >= 1."
            )
        for name in ("failure_rate", "slow_call_rate"):
            rate = getattr(self, name)
            if type(rate) not in (int, float) or not 0 < rate <= 1:
                raise ConfigError(
                    f"BreakerPolicy: {name} = {quoted(rate)}: must be a number above 0 and at most 1."
                )
        if self.open_cap_s < self.open_s:
            raise ConfigError(
                f"BreakerPolicy: open_cap_s = {self.open_cap_s:g}: must be >= open_s, which is {self.open_s:g}."
            )
        check_classes("BreakerPolicy", "failures_on", self.failures_on)
        check_classes("BreakerPolicy", "never_on", self.never_on)

    def open_for_s(self, failed_probes: int, u: float) -> float:
        """Seconds until the probe that follows so many failed ones; `u` is random in [0, 1)."""
        longest = min(self.open_cap_s, self.open_s * 2.0 ** min(failed_probes, _MAX_DOUBLINGS))
        return longest * (0.5 + u / 2)

    def counts(self, error: BaseException) -> bool:
        """Whether an exception counts as a failure of what was called."""
        if isinstance(error, _OWN_FAULTS) or not isinstance(error, self.failures_on):
            return False
        if isinstance(error, RemoteError) and error.code in _OWN_FAULT_CODES:
            return False
        return not isinstance(error, self.never_on)

    def is_slow(self, took_s: float) -> bool:
        return self.slow_call_s is not None and took_s >= self.slow_call_s
