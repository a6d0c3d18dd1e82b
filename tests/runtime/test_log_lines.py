"""Log lines of agent processes: whose, safe to print, and about the user's own code."""

from __future__ import annotations

import logging
import sys

import pytest

from roost import ConfigError
from roost.runtime.logs import LineFormatter, set_up


def handler(value: int) -> int:
    raise ValueError("no such page")


def line_for(error: BaseException) -> str:
    info = (type(error), error, error.__traceback__)
    record = logging.LogRecord("shop", logging.ERROR, __file__, 1, "failed\t%s", ("\x07x",), info)
    return LineFormatter("packer-1").format(record)


def test_a_line_says_whose_it_is_and_cannot_move_a_cursor() -> None:
    text = line_for(ValueError("page \x1b[31m\nforged 2026-01-01 INFO roost: all is well"))
    first, *rest = text.split("\n")
    assert first.endswith(r" packer-1 ERROR shop: failed    \x07x")
    assert rest[0] == r"ValueError: page \x1b[31m"
    assert all(line.isprintable() for line in [first, *rest])


def test_a_traceback_begins_in_the_users_own_code() -> None:
    source = compile("def outer(f):\n    f(1)\n", f"{_package()}/worker.py", "exec")
    names: dict[str, object] = {}
    exec(source, names)
    outer = names["outer"]
    assert callable(outer)
    with pytest.raises(ValueError, match="no such page") as caught:
        outer(handler)
    frames = caught.value.__traceback__
    assert frames is not None
    text = line_for(caught.value.with_traceback(frames.tb_next))  # without this test's own frame
    assert "worker.py" not in text
    assert "in handler" in text


def test_a_level_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="use debug, info, warning or error"):
        set_up("packer-1", "loud")


def _package() -> str:
    path = sys.modules["roost"].__file__
    assert path is not None
    return path.rpartition("/")[0]
