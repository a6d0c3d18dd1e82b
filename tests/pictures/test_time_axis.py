"""Ticks stand at round values of one unit; durations read as a person would say them."""

from __future__ import annotations

import itertools
import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from roost.pictures._axis import duration, ticks


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (0, "0 s"),
        (2e-7, "1 µs"),
        (85e-5, "850 µs"),
        (0.00142, "1.42 ms"),
        (0.0124, "12.4 ms"),
        (0.9996, "1 s"),
        (1.8432, "1.84 s"),
        (59.97, "1 min"),
        (125, "2 min 5 s"),
        (3600, "1 h"),
        (11_520, "3 h 12 min"),
        (86_400 * 2 + 3600 * 4, "2 d 4 h"),
    ],
)
def test_a_duration_is_told_in_the_unit_a_person_would_choose(seconds: float, said: str) -> None:
    assert duration(seconds) == said


@pytest.mark.parametrize(
    ("span_s", "labels"),
    [
        (0.0, ["0"]),
        (0.0004, ["0", "100 µs", "200 µs", "300 µs", "400 µs"]),
        (0.7, ["0", "200 ms", "400 ms", "600 ms"]),
        (1.2, ["0", "0.5 s", "1 s"]),
        (70, ["0", "0:30 min", "1:00 min"]),
        (600, ["0", "5 min", "10 min"]),
        (7200, ["0", "30 min", "60 min", "90 min", "120 min"]),
        (86_400 * 3, ["0", "1 d", "2 d", "3 d"]),
    ],
)
def test_ticks_stand_at_round_values(span_s: float, labels: list[str]) -> None:
    assert [tick.label for tick in ticks(span_s, at_most=5)] == labels


@settings(deadline=None)
@given(span_s=st.floats(1e-6, 1e11), at_most=st.integers(2, 20))
def test_ticks_are_evenly_spaced_within_the_span_and_never_too_many(span_s: float, at_most: int) -> None:
    found = ticks(span_s, at_most=at_most)
    assert 1 <= len(found) <= at_most
    assert found[-1].at_s <= span_s * (1 + 1e-6)
    assert len({tick.label for tick in found}) == len(found)
    steps = [b.at_s - a.at_s for a, b in itertools.pairwise(found)]
    assert all(math.isclose(step, steps[0], rel_tol=1e-6) for step in steps)
