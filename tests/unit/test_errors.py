"""The error tree: what it catches, what the errors carry, what they say."""

from __future__ import annotations

import asyncio
import copy
import pickle
from dataclasses import dataclass

import pytest

from roost import errors
from roost.errors import (
    BreakerOpen,
    ConfigError,
    ConfigMismatch,
    Conflict,
    ConnectError,
    ConnectionClosed,
    DeadlineExceeded,
    Difference,
    Disconnected,
    HandlerSignal,
    HistoryMismatch,
    InvalidMessage,
    JetStreamError,
    NoResponders,
    NotConnected,
    Overloaded,
    PermissionDenied,
    Reject,
    RemoteError,
    RequestTimeout,
    RetryLater,
    RoostError,
    ServerUnavailable,
    StoreFull,
    StreamMissing,
    SubmissionUnknown,
    TaskCancelled,
    TaskDead,
    TooLarge,
    UnsafeToken,
    WrongLoop,
)


@dataclass(frozen=True)
class Letter:
    reason: str
    attempts: int


EXAMPLES: list[RoostError | HandlerSignal] = [
    BreakerOpen("lookup", since_s=1_700_000_000, reason="6 of 10 calls failed", retry_after_s=4.5),
    ConfigError("attempts = 0: must be an int >= 1"),
    ConfigMismatch("stream ROOST", [Difference(field="max_age", found=60, wanted=0)]),
    ServerUnavailable("no nats-server found"),
    ConnectError("nats://ann:secret@host", "refused"),
    NotConnected("publish"),
    Disconnected("publish"),
    ConnectionClosed(),
    WrongLoop("publish"),
    PermissionDenied("a.b", "publish"),
    NoResponders("a.b"),
    RequestTimeout("a.b", 2.0),
    DeadlineExceeded("request"),
    RemoteError("handler_failed", "no such page", subject="a.b"),
    Overloaded(subject="a.b"),
    InvalidMessage(subject="a.b", field="pages.0.url", reason="Field required"),
    TooLarge(subject="a.b", size=300_000, limit=262_144),
    UnsafeToken(name="agent", value="a.*", reason="character '*'"),
    Conflict(key="k", subject="a.b"),
    StoreFull(stream="ROOST", used=80, limit=100),
    StreamMissing("ROOST"),
    JetStreamError(code=400, err_code=10071, description="wrong last sequence"),
    SubmissionUnknown(["a", "b", "c", "d"]),
    HistoryMismatch(run="audit:1", operation="scan", asked="call scan", recorded="step"),
    TaskDead(Letter("empty page", 1), id="t1"),
    TaskCancelled(by="ann", reason="changed her mind", id="t1"),
    Reject("empty page"),
    RetryLater(after_s=2.5, reason="rate limit"),
]


def test_every_error_has_an_example_here() -> None:
    defined = {
        name for name in errors.__all__ if name not in {"Difference", "Letter", "RoostError", "HandlerSignal"}
    }
    assert {type(error).__name__ for error in EXAMPLES} == defined


def test_the_tree_in_the_docstring_names_every_error() -> None:
    tree = errors.__doc__ or ""
    assert [
        name for name in errors.__all__ if name not in {"Difference", "Letter"} and f" {name} " not in tree
    ] == []


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_an_error_survives_pickle_and_copy(error: Exception) -> None:
    for twin in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
        assert type(twin) is type(error)
        assert str(twin) == str(error)
        assert vars(twin) == vars(error)


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
def test_a_message_is_one_printable_line(error: Exception) -> None:
    assert str(error).isprintable()


def test_text_of_strangers_cannot_break_a_message() -> None:
    foul = "x\nERROR \x1b[2J" + "y" * 10_000
    for error in (
        RemoteError(foul, foul, subject=foul),
        InvalidMessage(subject=foul, field=foul, reason=foul),
        UnsafeToken(name=foul, value=foul, reason=foul),
        TaskDead(Letter(foul, 1), id=foul),
        TaskCancelled(by=foul, reason=foul, id=foul),
        JetStreamError(code=1, err_code=2, description=foul),
        ConnectError(foul, foul),
        PermissionDenied(foul, foul),
    ):
        assert str(error).isprintable()
        assert len(str(error)) < 2_000


@pytest.mark.parametrize(
    ("error", "builtin"),
    [
        (ConfigError(""), ValueError),
        (ConnectError("", ""), ConnectionError),
        (NotConnected(""), ConnectionError),
        (Disconnected(""), ConnectionError),
        (ConnectionClosed(), ConnectionError),
        (WrongLoop(""), RuntimeError),
        (PermissionDenied("", ""), PermissionError),
        (RequestTimeout("", 1), TimeoutError),
        (RequestTimeout("", 1), asyncio.TimeoutError),
        (DeadlineExceeded(""), TimeoutError),
        (InvalidMessage(subject="", field="", reason=""), ValueError),
        (UnsafeToken(name="", value="", reason=""), ValueError),
    ],
)
def test_an_error_is_also_the_builtin_that_a_reader_expects(
    error: RoostError, builtin: type[Exception]
) -> None:
    assert isinstance(error, builtin)
    assert isinstance(error, RoostError)


def test_a_verdict_of_a_handler_is_not_caught_as_an_error_of_a_call() -> None:
    def handler() -> None:
        try:
            raise Reject("empty page")
        except RoostError:
            pytest.fail("a handler's `except RoostError` swallowed its own verdict")

    with pytest.raises(Reject):
        handler()


def test_a_cancelled_task_does_not_cancel_who_waits_for_it() -> None:
    assert not issubclass(TaskCancelled, asyncio.CancelledError)


def test_a_mismatch_lists_every_difference_and_the_next_step() -> None:
    error = ConfigMismatch(
        "stream ROOST",
        [
            Difference(field="max_age", found=60, wanted=0),
            Difference(field="storage", found="memory", wanted="file"),
        ],
    )
    assert "max_age is 60, wanted 0" in str(error)
    assert "storage is 'memory', wanted 'file'" in str(error)
    assert "roost provision" in str(error)
    assert error.what == "stream ROOST"
    assert [difference.field for difference in error.differences] == ["max_age", "storage"]


def test_a_connect_error_hides_the_password_everywhere() -> None:
    error = ConnectError("nats://ann:secret@host", "refused by nats://ann:secret@host")
    assert "secret" not in f"{error} {error!r} {vars(error)}"


def test_an_unknown_submission_names_its_ids_and_says_that_repeating_is_safe() -> None:
    error = SubmissionUnknown(["a", "b", "c", "d"])
    assert error.ids == ("a", "b", "c", "d")
    assert "same keys" in str(error)
    assert error.retryable


def test_only_what_may_be_repeated_without_harm_is_retryable() -> None:
    retryable = {
        type(error).__name__ for error in EXAMPLES if isinstance(error, RoostError) and error.retryable
    }
    assert retryable == {
        "BreakerOpen",
        "ConnectError",
        "NotConnected",
        "NoResponders",
        "Overloaded",
        "StoreFull",
        "SubmissionUnknown",
    }


@pytest.mark.parametrize("after_s", [-1, float("nan"), float("inf"), "5", None, True])
def test_a_delay_that_is_no_finite_number_of_seconds_is_refused(after_s: float) -> None:
    with pytest.raises(ConfigError, match="after_s = "):
        RetryLater(after_s=after_s)


def test_a_delay_of_zero_is_allowed() -> None:
    assert RetryLater(after_s=0).after_s == 0.0


def test_a_failed_handler_is_not_said_to_have_failed_twice() -> None:
    assert "failed: no such page" in str(RemoteError("failed", "no such page", subject="a"))
    assert "failed (busy): no such page" in str(RemoteError("busy", "no such page", subject="a"))


def test_a_traceback_is_promised_only_where_there_is_one_and_once() -> None:
    """Bug: also of a refusal, and a second time by whoever passed the error on."""
    first = RemoteError("failed", "ValueError: no such page", subject="a")
    assert str(first).endswith("(Its own log has the traceback.)")
    assert str(RemoteError("failed", f"RemoteError: {first}", subject="b")).count("traceback") == 1
    for code in ("rejected", "invalid", "unknown"):
        assert "traceback" not in str(RemoteError(code, "no such page", subject="a"))


def test_a_log_that_is_gone_is_said_to_be_gone() -> None:
    missing = JetStreamError(code=404, err_code=10059, description="stream not found")
    assert "(code 404, error 10059). The log is not on this server any more" in str(missing)
    assert "roost provision" in str(missing)
    assert "log" not in str(JetStreamError(code=404, err_code=10014, description="consumer not found"))


def test_a_dead_task_says_once_how_often_it_was_tried() -> None:
    """Bug: "is dead after 2 attempt(s): 2 attempts failed, the last with …"."""
    letter = Letter("2 attempts failed, the last with ValueError: no", 2)
    text = str(TaskDead(letter, id="t"))
    assert text.startswith(
        "task 't' is dead: 2 attempts failed, the last with ValueError: no. Its input and history"
    )
