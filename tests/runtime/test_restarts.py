"""When a process is started again: the arithmetic."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roost.runtime.backoff import BASE_S, CAP_S, STEADY_S, Deaths


def test_the_delay_doubles_from_death_to_death_up_to_a_cap() -> None:
    deaths = Deaths()
    longest = []
    for _ in range(8):
        deaths = deaths.one_more(0.0)
        longest.append(deaths.delay_s(0.999999))
    assert [round(one, 2) for one in longest] == [0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 30.0, 30.0]


def test_a_process_that_was_ready_for_a_while_begins_anew() -> None:
    tried = Deaths(in_a_row=6)
    assert tried.one_more(STEADY_S) == Deaths(1)
    assert tried.one_more(STEADY_S - 0.1) == Deaths(7)


@given(st.integers(0, 10_000), st.floats(0, 1, exclude_max=True))
def test_no_delay_is_zero_or_beyond_the_cap(in_a_row: int, u: float) -> None:
    assert BASE_S / 2 <= Deaths(in_a_row).delay_s(u) <= CAP_S
