"""The report: sorted, complete, safe to read; its files are put in place whole."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest

from roost.demo.contracts import BrokenLink, Digest, LinkReport, Mark, Skipped
from roost.demo.report import AuditReport, DeadTask, build, totals
from roost.demo.report_md import LISTED, render
from roost.demo.write import write
from roost.tasks import Attempt, TaskHistory

EVIL = "`<b>|*x*` \x1b[31m](y)"


def history(number: int, *, status: str = "done", tries: int = 1) -> TaskHistory:
    attempts = tuple(
        Attempt(number=k + 1, by="w", started_s=10.0 + k, ended_s=10.5 + k, result="done")
        for k in range(tries)
    )
    return TaskHistory(
        run=str(number),
        name="digest",
        id=str(number),
        submitted_s=10.0 + number,
        ended_s=None if status == "open" else 20.0 + number,
        status=status,  # type: ignore[arg-type]
        attempts=attempts,
    )


def a_report(order: random.Random | None = None) -> AuditReport:
    digests = [
        Digest(
            path="b.py",
            kind="Python",
            bytes=10,
            lines=3,
            words=4,
            marks=[Mark(word="TODO", line=2, text=EVIL)],
        ),
        Digest(path="a.md", kind="Markdown", bytes=99, lines=30, words=40, more_marks=2, more_headings=1),
        Digest(path="c.py", kind="Python", bytes=11, lines=5, words=6),
        Digest(path="z.bin", skipped="binary"),
    ]
    checked = [
        LinkReport(
            path="a.md",
            checked=5,
            external=2,
            broken=[BrokenLink(line=7, target=EVIL, reason="no such file")],
        ),
        LinkReport(path="gone.md", skipped="it was gone when it was read"),
    ]
    dead = [
        DeadTask(task="links", path="x.md", reason=EVIL, attempts=4),
        DeadTask(task="digest", path="x.md", reason="no", attempts=1),
        DeadTask(task="digest", path="w.md", reason="no", attempts=1),
    ]
    if order is not None:
        order.shuffle(digests)
        order.shuffle(checked)
        order.shuffle(dead)
    return build(
        folder=EVIL,
        began="2026-01-02T03:04:05Z",
        digests=digests,
        link_reports=checked,
        skipped=[Skipped(path="y.png", reason="binary")],
        more_skipped=3,
        dead=dead,
        histories=[
            history(0),
            history(1, tries=3),
            history(2, status="dead"),
            history(3, status="cancelled"),
        ],
    )


def test_totals_are_sums_of_what_was_found() -> None:
    report = a_report()
    kinds = [(one.kind, one.files, one.lines, one.words, one.bytes) for one in report.kinds]
    assert kinds == [("Markdown", 1, 30, 40, 99), ("Python", 2, 8, 10, 21)]
    assert [one.path for one in report.files] == ["a.md", "b.py", "c.py"]
    assert (report.files[0].headings, report.files[0].marks) == (1, 2)
    assert (len(report.marks), report.more_marks) == (1, 2)
    assert (report.links.checked, report.links.external, report.links.broken[0].path) == (5, 2, "a.md")
    assert [one.path for one in report.skipped] == ["gone.md", "y.png", "z.bin"]


def test_task_totals_add_up() -> None:
    found = a_report().tasks
    assert (found.submitted, found.done, found.dead, found.cancelled, found.open) == (4, 2, 1, 1, 0)
    assert (found.retries, found.seconds) == (2, 13.0)
    assert totals([history(0, status="open")]).seconds == 0
    assert totals([]).submitted == 0


@pytest.mark.parametrize("number", range(5))
def test_the_order_in_which_results_come_does_not_show(number: int) -> None:
    assert a_report(random.Random(number)).model_dump_json() == a_report().model_dump_json()


def test_the_text_says_what_needs_attention_with_its_place() -> None:
    text = render(a_report(), picture="timeline.svg")
    assert "3 files read, 1 broken link of 5 checked, 3 TODO or FIXME marks, 6 files skipped." in text
    for place in ("a.md:7", "b.py:2", "x.md", "y.png", "gone.md"):
        assert f"`{place}`" in text
    assert text.index("## Dead tasks") < text.index("## Broken links") < text.index("## Kinds")
    assert "- and 2 more; report.json" in text
    assert "![What each agent did, and when](timeline.svg)" in text


def test_text_of_strangers_stands_in_code_spans() -> None:
    text = render(a_report(), picture="timeline.svg")
    assert "\x1b" not in text
    outside = re.sub(r"(`+)(?!`).+?(?<!`)\1(?!`)", "", text)
    assert "<b>" not in outside
    assert "*x*" not in outside


def test_nothing_to_tell_is_no_section() -> None:
    empty = build(
        folder="x",
        began="",
        digests=[],
        link_reports=[],
        skipped=[],
        more_skipped=0,
        dead=[],
        histories=[],
    )
    assert re.findall("^## .*", render(empty, picture="p.svg"), re.MULTILINE) == [
        "## Kinds",
        "## Largest files",
    ]


def test_a_long_list_ends_with_the_number_that_is_left() -> None:
    many = LinkReport(
        path="a.md",
        checked=500,
        broken=[BrokenLink(line=n, target="x", reason="no such file") for n in range(150)],
        more_broken=50,
    )
    report = build(
        folder="x",
        began="",
        digests=[],
        link_reports=[many],
        skipped=[],
        more_skipped=0,
        dead=[],
        histories=[],
    )
    text = render(report, picture="p.svg")
    assert text.count("no such file") == LISTED
    assert "- and 100 more" in text


def test_three_files_are_written_and_an_old_report_is_replaced(tmp_path: Path) -> None:
    out = tmp_path / "new" / "out"
    written = write(a_report(), "<svg/>", out)
    assert sorted(path.name for path in out.iterdir()) == ["report.json", "report.md", "timeline.svg"]
    assert sorted(written) == sorted(str(path) for path in out.iterdir())
    assert AuditReport.model_validate_json((out / "report.json").read_text()) == a_report()
    assert json.loads((out / "report.json").read_text())["version"] == 1
    write(a_report(), "<svg>2</svg>", out)
    assert (out / "timeline.svg").read_text() == "<svg>2</svg>"
    assert len(list(out.iterdir())) == 3


def test_a_file_that_cannot_be_put_in_place_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "report.md").mkdir()
    (tmp_path / "report.md" / "full").touch()
    with pytest.raises(OSError, match=r"report\.md"):
        write(a_report(), "<svg/>", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.md"]


def test_the_text_says_that_a_coordinator_was_resumed() -> None:
    report = a_report()
    assert "resumed" not in render(report, picture="p.svg")
    resumed = report.model_copy(update={"resumptions": 1})
    assert "Its coordinator was lost and resumed once." in render(resumed, picture="p.svg")
