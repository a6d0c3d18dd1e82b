"""Each notebook of the first half runs with its solutions: no error, each exercise right, nothing left."""

from pathlib import Path

import build
import pytest
from course_kit import halves


@pytest.mark.parametrize("source", halves()[0], ids=lambda one: one.stem)
def test_a_notebook_runs_with_its_solutions(source: Path) -> None:
    _, wrong, took_s = build.check(source)
    print(f"{took_s:.1f} s")
    assert not wrong, "\n".join(wrong)
