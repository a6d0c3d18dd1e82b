"""`--long`: the kill test for 60 s instead of some 12, or for as many as KILL_SECONDS says."""

from __future__ import annotations

import os

import pytest

SHORT_S = 12.0
LONG_S = 60.0
AFTERWARDS_S = 120.0
"""For what comes after the faults: work that ends, processes that stop, the checker."""


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    for item in items:
        if "seconds" in getattr(item, "fixturenames", ()) and item.get_closest_marker("slow_limit") is None:
            item.add_marker(pytest.mark.slow_limit(chosen_s(config) + AFTERWARDS_S))


def chosen_s(config: pytest.Config) -> float:
    given = os.environ.get("KILL_SECONDS")
    if given:
        return float(given)
    return LONG_S if config.getoption("--long", default=False) else SHORT_S


@pytest.fixture(scope="session")
def seconds(pytestconfig: pytest.Config) -> float:
    """How long processes are killed for."""
    return chosen_s(pytestconfig)
