"""The workflow of an audit, called as the function that it is: no server, canned outcomes."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

import roost
from roost.demo import listing
from roost.demo.contracts import (
    Digest,
    FileRef,
    Folder,
    LinkReport,
    Part,
    Progress,
    ReportOrder,
    Written,
    digest,
    links,
    report,
)
from roost.demo.coordinate import Tell, run_audit
from roost.demo.faults import FLAKY, RAISES
from roost.testing import FakeRun

WRITTEN = Written(files=["report.md"], digested=3, broken_links=0, marks=0, skipped=1)


@pytest.fixture
def order(tmp_path: Path) -> Folder:
    (tmp_path / "docs").mkdir()
    for path in ("a.md", "b.py", "docs/c.md"):
        (tmp_path / path).write_text("text\n")
    (tmp_path / "pic.png").write_bytes(b"\0")
    return Folder(audit="one", root=str(tmp_path), out=str(tmp_path / "out"))


class Stage:
    """What the workflow is given, and what became of it."""

    def __init__(self, **more: Any) -> None:
        self.digested: list[FileRef] = []
        self.checked: list[str] = []
        self.orders: list[ReportOrder] = []
        self.told: list[Progress] = []
        outcomes: dict[Any, Any] = {digest: self._digest, links: self._check, report: self._report}
        self.run: FakeRun[Tell] = FakeRun(self._tell, outcomes=outcomes, **more)

    async def _tell(self, audit: str, value: Progress) -> None:
        self.told.append(value.model_copy())

    def _digest(self, file: FileRef) -> Digest:
        if file.fault == "raises":
            raise roost.Reject("planted")
        self.digested.append(file)
        return Digest(path=file.path)

    def _check(self, file: FileRef) -> LinkReport:
        self.checked.append(file.path)
        return LinkReport(path=file.path)

    def _report(self, given: ReportOrder) -> Written:
        self.orders.append(given)
        return WRITTEN


async def test_every_file_is_digested_and_the_links_of_markdown_are_checked(order: Folder) -> None:
    stage = Stage(id="run-1")
    assert await run_audit(order, stage.run) == WRITTEN
    assert [file.path for file in stage.digested] == ["a.md", "b.py", "docs/c.md"]
    assert stage.checked == ["a.md", "docs/c.md"]
    assert stage.run.operations == [
        ("step", "list-0"),
        ("map", "digest"),
        ("map", "links"),
        ("call", "report"),
    ]
    (given,) = stage.orders
    assert (given.run, given.root, given.out) == ("run-1", order.root, order.out)
    assert [one.path for one in given.skipped] == ["pic.png"]
    assert stage.told[0] == Progress(ended=0, submitted=5)
    assert stage.told[-1] == Progress(ended=5, submitted=5)


async def test_a_recorded_list_counts_even_if_the_folder_has_changed(order: Folder) -> None:
    recorded = Part(files=["gone.md"], last=True)
    stage = Stage(steps={"list-0": recorded})
    await run_audit(order, stage.run)
    assert [file.path for file in stage.digested] == stage.checked == ["gone.md"]


async def test_a_long_list_is_several_steps(order: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "FILES_BYTES", 1)
    stage = Stage()
    await run_audit(order, stage.run)
    assert [name for kind, name in stage.run.operations if kind == "step"] == [f"list-{n}" for n in range(4)]
    assert [file.path for file in stage.digested] == ["a.md", "b.py", "docs/c.md"]


async def test_faults_add_two_files_slow_down_the_others_and_one_death_is_told(order: Folder) -> None:
    stage = Stage()
    await run_audit(order.model_copy(update={"faults": True}), stage.run)
    assert [file.path for file in stage.digested] == [FLAKY, "a.md", "b.py", "docs/c.md"]
    assert all(file.pause_s > 0 for file in stage.digested if not file.fault)
    assert RAISES not in stage.checked
    assert stage.told[-1] == Progress(ended=7, submitted=7, dead=1)


async def test_a_folder_that_cannot_be_listed_raises(order: Folder) -> None:
    with pytest.raises(FileNotFoundError):
        await run_audit(order.model_copy(update={"root": f"{order.root}/gone"}), Stage().run)


async def test_what_ended_at_once_is_told_while_the_next_one_takes_its_time(order: Folder) -> None:
    stage, two_told = Stage(), asyncio.Event()

    async def tell(audit: str, value: Progress) -> None:
        if value.ended == 2:
            two_told.set()

    async def last_one_waits(file: FileRef) -> Digest:
        if file.path == "docs/c.md":
            await two_told.wait()
        return Digest(path=file.path)

    outcomes: dict[Any, Any] = {digest: last_one_waits, links: stage._check, report: stage._report}
    run: FakeRun[Tell] = FakeRun(tell, outcomes=outcomes)
    async with asyncio.timeout(10):
        assert await run_audit(order, run) == WRITTEN
