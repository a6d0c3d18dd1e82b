"""docs/errors.md lists every error that a user can meet, and says truly which calls may be repeated."""

from __future__ import annotations

import re
from pathlib import Path

from roost import errors

PAGE = Path(__file__).parents[2] / "docs" / "errors.md"


def test_every_error_has_its_line() -> None:
    lines = re.findall(r"^\| `(\w+)` \|.*\| (yes|no) \|$", PAGE.read_text(encoding="utf-8"), re.M)
    listed = {name: said == "yes" for name, said in lines}
    classes = [one for one in vars(errors).values() if isinstance(one, type)]
    there = {
        one.__name__: one.retryable
        for one in classes
        if issubclass(one, errors.RoostError) and one is not errors.RoostError
    }
    assert listed == there
    assert len(lines) == len(listed)
