"""The budget of retries: a fifth of the calls, and ten, however many fail."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from roost.resilience import RetryBudget
from roost.resilience.budget import BURST, PER_CALL


@given(st.lists(st.integers(0, 20), max_size=200))
def test_retries_are_never_more_than_a_fifth_of_the_calls_and_a_burst(tries: list[int]) -> None:
    budget = RetryBudget()
    paid = 0
    for wanted in tries:
        budget.called()
        paid += sum(budget.spend() for _ in range(wanted))
        assert 0 <= budget.tokens <= BURST
    assert paid <= BURST + PER_CALL * len(tries) + 1e-6


def test_quiet_days_do_not_save_up_for_a_storm() -> None:
    budget = RetryBudget()
    for _ in range(10_000):
        budget.called()
    assert sum(budget.spend() for _ in range(100)) == BURST
