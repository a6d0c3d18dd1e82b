"""The matrix itself: a row of it runs, what it finds is told, and the page says what the data say."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

import pytest

from faults import matrix, rows, table
from faults.scene import RESULTS, Found, Scene
from roost.testing.faults import FaultUnavailable


def of(name: str) -> rows.Row:
    return next(row for row in rows.ROWS if row.name == name)


def test_a_row(seed: int) -> None:
    told = matrix.judged(of("submitted_again"), 1, seed)
    assert told["held"], told["broken"]
    assert told["tasks"] >= 100
    assert told["outcomes"]["done"] > 0


def test_what_a_row_finds_is_told(seed: int) -> None:
    async def loses(scene: Scene) -> Found:
        scene.more += ["try work:77", "ok work:77"]  # accepted, says the submitter, and nowhere to be found
        return await scene.end()

    broken = dataclasses.replace(of("submitted_again"), run=loses, rate=20)
    told = matrix.judged(broken, 1, seed)
    assert told["held"] is False
    assert told["lost"] == 2  # neither stored nor ended
    assert "work:77" in told["broken"]["accepted but not stored"]


def test_a_row_that_this_machine_cannot_run(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    async def unavailable(row: rows.Row, servers: int, seed: int) -> Found:
        raise FaultUnavailable("no root")

    monkeypatch.setattr(matrix, "run", unavailable)
    told = matrix.judged(of("disk_full"), 1, seed)
    assert told["not_run"] == "no root"
    assert "not run: no root" in table.line(of("disk_full"), 1, [told])


def test_the_page_says_what_the_data_say() -> None:
    results: list[dict[str, Any]] = json.loads(RESULTS.read_text())
    assert table.table(results) in table.PAGE.read_text(), "run: cd tests && python -m faults.table"


def test_nothing_that_is_promised_is_broken() -> None:
    promised = {row.name for row in rows.ROWS if not row.no_promise}
    for one in json.loads(RESULTS.read_text()):
        assert one["row"] not in promised or "not_run" in one or one["held"], one
