"""Retry: the delays, and what follows from an exception."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.contracts import GiveUp, Retry, TryAgain
from roost.errors import ConfigError, InvalidMessage, Reject, RetryLater

unit = st.floats(0, 1, exclude_max=True)


def test_delays_double_up_to_the_cap() -> None:
    retry = Retry(base_s=1, cap_s=5)
    assert [retry.delay_s(failures, 0.0) for failures in (1, 2, 3, 4, 5)] == [0.5, 1.0, 2.0, 2.5, 2.5]
    assert retry.delay_s(3, 0.5) == 3.0


@given(st.integers(1, 10**9), unit, st.floats(1e-3, 1e6), st.floats(1, 1e6))
def test_a_delay_lies_in_the_upper_half_of_what_doubling_gives(
    failures: int, u: float, base_s: float, factor: float
) -> None:
    retry = Retry(base_s=base_s, cap_s=base_s * factor)
    doubled = base_s * 2.0 ** min(failures - 1, 1000)
    longest = min(doubled, retry.cap_s)
    assert longest / 2 <= retry.delay_s(failures, u) <= longest
    assert math.isfinite(retry.delay_s(failures, u))


def test_an_exception_is_tried_again_until_the_attempts_are_used_up() -> None:
    retry = Retry(attempts=3, base_s=1)
    assert retry.verdict(OSError("gone"), 1, 0.0) == TryAgain(delay_s=0.5)
    assert retry.verdict(OSError("gone"), 2, 0.0) == TryAgain(delay_s=1.0)
    verdict = retry.verdict(OSError("gone"), 3, 0.0)
    assert isinstance(verdict, GiveUp)
    assert verdict.cause == "exhausted"
    assert verdict.reason == "3 attempts failed, the last with OSError: gone"


def test_one_attempt_means_no_second() -> None:
    verdict = Retry(attempts=1).verdict(OSError("gone"), 1, 0.0)
    assert isinstance(verdict, GiveUp)
    assert verdict.reason == "the only attempt failed with OSError: gone"


def test_what_has_run_and_cannot_be_kept_is_not_repeated() -> None:
    refused = InvalidMessage(subject="s", field="", reason="too much")
    assert isinstance(Retry().verdict(refused, 1, 0.0), TryAgain)
    verdict = Retry().verdict(refused.of_result("ctx.once 'charge'"), 1, 0.0)
    assert isinstance(verdict, GiveUp)
    assert verdict.reason.startswith(
        "ctx.once 'charge' has run, but its result cannot be kept: the payload: too much."
    )


def test_a_rejected_task_is_never_tried_again() -> None:
    retry = Retry(retry_on=(Exception, Reject))
    assert retry.verdict(Reject("empty page"), 1, 0.0) == GiveUp(cause="rejected", reason="empty page")


def test_never_on_is_stronger_than_retry_on() -> None:
    retry = Retry(retry_on=(ValueError,), never_on=(UnicodeError,))
    assert isinstance(retry.verdict(ValueError(), 1, 0.0), TryAgain)
    verdict = retry.verdict(UnicodeError("bad"), 1, 0.0)
    assert isinstance(verdict, GiveUp)
    assert verdict.cause == "not_retryable"
    assert "UnicodeError: bad" in verdict.reason


def test_what_is_not_in_retry_on_is_not_tried_again() -> None:
    assert isinstance(Retry(retry_on=(OSError,)).verdict(ValueError(), 1, 0.0), GiveUp)


def test_retry_later_brings_its_own_delay_also_beyond_the_cap() -> None:
    retry = Retry(cap_s=1, retry_on=(OSError,))
    assert retry.verdict(RetryLater(after_s=60), 1, 0.9) == TryAgain(delay_s=60.0)


def test_retry_later_counts_as_a_failed_attempt() -> None:
    assert isinstance(Retry(attempts=2).verdict(RetryLater(after_s=60), 2, 0.0), GiveUp)


def test_an_exception_whose_text_raises_still_gets_a_verdict() -> None:
    class Broken(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no text")

    verdict = Retry(attempts=1).verdict(Broken(), 1, 0.0)
    assert isinstance(verdict, GiveUp)
    assert "Broken" in verdict.reason


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"attempts": 0}, "attempts = 0"),
        ({"attempts": 2.0}, "attempts = 2.0"),
        ({"attempts": True}, "attempts = True"),
        ({"base_s": 0}, "base_s = 0"),
        ({"base_s": math.nan}, "base_s = nan"),
        ({"base_s": "1"}, "base_s = '1'"),
        ({"cap_s": math.inf}, "cap_s = inf"),
        ({"base_s": 2, "cap_s": 1}, "cap_s = 1: must be >= base_s"),
        ({"retry_on": ValueError}, "retry_on = "),
        ({"never_on": [ValueError]}, "never_on = "),
        ({"never_on": (KeyboardInterrupt,)}, "never_on = "),
        ({"never_on": (ValueError(),)}, "never_on = "),
    ],
)
def test_a_wrong_option_is_named_with_its_value(options: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError) as caught:
        Retry(**options)
    assert named in str(caught.value)
    assert "must be" in str(caught.value)
