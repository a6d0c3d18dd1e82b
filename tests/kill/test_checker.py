"""The checker itself: for each promise a log that breaks it, and one that breaks none."""

from __future__ import annotations

import pytest

from kill.checker import check
from kill.leader_processes import longest_gap_s

Log = list[tuple[int, list[str], bytes]]


def log(*records: str) -> Log:
    """Records such as `end a done`: kind, id and, of an `end`, its status."""
    found: Log = []
    for sequence, record in enumerate(records, 1):
        kind, id, *status = record.split()
        data = f'{{"status": "{status[0]}"}}'.encode() if status else b"{}"
        found.append((sequence, [id, kind, "work", id], data))
    return found


SOUND = log("task a", "end a done", "task b", "task c", "end b dead", "dead b", "end c cancelled", "task d")
IDS = ["try a", "ok a", "try b", "try c", "ok b", "ok c", "try d", "unknown d", "try e"]


def test_a_sound_log_is_found_sound() -> None:
    figures, faults = check(SOUND, IDS)
    assert faults == {}
    assert (figures["accepted"], figures["unknown"], figures["unknown but stored"]) == (3, 2, 1)
    assert (figures["done"], figures["cancelled"]) == (1, 1)


def test_an_unknown_id_may_be_accepted_later() -> None:
    assert check(log("task a", "end a done"), ["try a", "unknown a", "ok a"])[1] == {}


@pytest.mark.parametrize(
    ("records", "ids", "fault"),
    [
        (log("task a"), ["try a", "ok a"], "accepted without outcome"),
        (log(), ["try a", "ok a"], "accepted but not stored"),
        (log("task a", "end a done", "end a done"), ["try a", "ok a"], "several outcomes"),
        (log("task a", "end a done", "end a dead", "dead a"), ["try a"], "several outcomes"),
        (log("task a", "task a", "end a done"), ["try a", "ok a"], "stored twice"),
        (log("task a", "end a done"), [], "foreign id"),
        (log("end a done"), ["try a"], "outcome without task"),
        (log("end a done", "task a"), ["try a"], "outcome without task"),
        (log("task a", "end a dead"), ["try a", "ok a"], "dead but not listed"),
        (log("task a", "end a done", "dead a"), ["try a", "ok a"], "listed but not dead"),
        (log("task a", "dead a"), ["try a"], "listed but not dead"),
        (log("task a", "end a maybe"), ["try a", "ok a"], "unreadable outcome"),
        (log("task a", "end a"), ["try a", "ok a"], "unreadable outcome"),
    ],
)
def test_each_broken_promise_is_found(records: Log, ids: list[str], fault: str) -> None:
    assert fault in check(records, ids)[1]


@pytest.mark.parametrize(
    ("moments", "gap_s"),
    [((), 10), ((1, 2, 3), 7), ((8, 9), 8), ((9, 2, 1), 7), ((1, 4, 9), 5), ((-5, 5, 50), 5)],
)
def test_a_gap_is_found_between_moments_before_the_first_and_behind_the_last(
    moments: tuple[float, ...], gap_s: float
) -> None:
    assert longest_gap_s(moments, 0, 10) == gap_s
