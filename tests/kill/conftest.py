"""`--long`: the kill test for 60 s instead of some 12, or for as many as KILL_SECONDS says."""

from __future__ import annotations

import os

import pytest

SHORT_S = 12.0
LONG_S = 60.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--long", action="store_true", default=False, help="the long form of the kill test")


@pytest.fixture(scope="session")
def seconds(pytestconfig: pytest.Config) -> float:
    """How long processes are killed for."""
    given = os.environ.get("KILL_SECONDS")
    if given:
        return float(given)
    return LONG_S if pytestconfig.getoption("--long", default=False) else SHORT_S
