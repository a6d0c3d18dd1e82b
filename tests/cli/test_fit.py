"""Tables on a terminal: one line for each row, whatever its width, and what gives way first."""

from __future__ import annotations

import asyncio
import os
import pty
import struct
import subprocess
import sys
import termios
from fcntl import ioctl
from pathlib import Path

import pytest
from test_operator import Operator, agent

import roost
from roost.cli._fit import NAME, Moment, cut, fit, middle

HEADS = ("DIED", "TASK", "ID", "TRIED", "REASON")
LONG = "2 attempts failed, the last with ConnectError: cannot reach the catalogue"
SHORT_ID, LONG_ID = "digest:docs-readme", "audit:" + "a" * 30 + "/digest/digest:" + "b" * 30
DIED = Moment("2026-01-02 12:00:00", "12:00:00")


def test_with_room_nothing_is_shortened() -> None:
    fitted = fit(HEADS, [(DIED, "digest", SHORT_ID, "2", LONG)], 200)
    assert fitted.rows == ((DIED, "digest", SHORT_ID, "2", LONG),)


def test_times_give_way_first() -> None:
    row = (DIED, "digest", SHORT_ID, "2", LONG)
    width = 8 + 6 + len(SHORT_ID) + 5 + 8 + 31
    fitted = fit(HEADS, [row], width, spare=("TRIED", "TASK"))
    assert fitted.rows == (("12:00:00", *row[1:]),)
    assert fitted.widths[-1] == 31


def test_then_long_names_are_cut_in_the_middle_and_spare_columns_go() -> None:
    rows = [(DIED, "digest", SHORT_ID, "2", LONG), (DIED, "digest", LONG_ID, "", LONG)]
    fitted = fit(HEADS, rows, 80, spare=("TRIED", "TASK"))
    assert [HEADS[number] for number in fitted.columns] == ["DIED", "ID", "REASON"]
    assert fitted.rows[0][1] == SHORT_ID
    shown = fitted.rows[1][1]
    assert len(shown) == NAME
    assert shown.startswith("audit:aaa")
    assert shown.endswith("bbb")
    assert fitted.widths[-1] >= 30


@pytest.mark.parametrize("width", [20, 40, 60, 80, 120])
def test_rows_never_need_more_than_there_is(width: int) -> None:
    rows = [(DIED, "digest", LONG_ID, "2", LONG)] * 3
    fitted = fit(HEADS, rows, width, spare=("TRIED", "TASK"))
    for row in fitted.rows:
        used = sum(size + 2 for size in fitted.widths[:-1]) + len(cut(row[-1], fitted.widths[-1]))
        assert used <= max(width, 34)


def test_what_is_cut_says_so_and_counts_wide_characters() -> None:
    assert cut("abcdef", 6) == "abcdef"
    assert cut("abcdefg", 6) == "abcde…"
    assert cut("日本語日本語", 6) == "日本…"
    assert middle("abcdefghij", 7) == "abc…hij"


def on_a_terminal(width: int, *arguments: str, cwd: Path) -> list[str]:
    """The lines that a command prints on a terminal that is `width` wide, without colours."""
    ours, theirs = pty.openpty()
    try:
        ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, width, 0, 0))
        environment = {
            key: value
            for key, value in os.environ.items()
            if key not in ("COLUMNS", "LINES", "NATS_URL", "FORCE_COLOR")
        }
        with subprocess.Popen(
            [str(Path(sys.executable).with_name("roost")), *arguments],
            cwd=cwd,
            env={**environment, "NO_COLOR": "1", "TERM": "dumb"},
            stdin=theirs,
            stdout=theirs,
            stderr=subprocess.DEVNULL,
        ) as process:
            os.close(theirs)
            theirs = -1
            said = b""
            while True:
                try:
                    data = os.read(ours, 65536)
                except OSError:  # Linux says so when nobody holds the other end any more
                    break
                if not data:
                    break
                said += data
        assert process.returncode == 0
        return said.decode().replace("\r\n", "\n").splitlines()
    finally:
        os.close(ours)
        if theirs >= 0:
            os.close(theirs)


@pytest.mark.parametrize("width", [80, 120])
async def test_a_dead_letter_is_one_line_and_wide_shows_all_of_it(
    width: int, nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        operator = Operator(bus, nats_url, tmp_path)
        for key in ("docs/a.md", "docs/b.md"):
            await operator.task("wrong", key)
        where = ("--url", nats_url, "--namespace", namespace)
        lines = await asyncio.to_thread(on_a_terminal, width, "dead", "ls", *where, cwd=tmp_path)
        assert len(lines) == 3
        assert all(len(line) <= width for line in lines)
        assert all("2 attempts failed, the last" in line for line in lines[1:])
        wide = await asyncio.to_thread(on_a_terminal, width, "dead", "ls", "--wide", *where, cwd=tmp_path)
        assert [line.endswith("ValueError: no such word") for line in wide] == [False, True, True]
