"""`roost demo --faults`: processes are killed, two files fail, and the job comes to the same report."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from demo_kit import demo, folder, numbers

from roost.demo.contracts import AtWork, Digest, FileRef, Folder, Progress
from roost.demo.faults import FLAKY, MOST_S, RAISES, Planted, digest_planted, pause_s, planted
from roost.demo.saboteur import Saboteur
from roost.demo.summary import LISTED, incidents, resumptions
from roost.tasks import Attempt, TaskHistory

__all__ = ["folder"]


def of_the_disk(out: Path) -> dict[str, Any]:
    """A report without what differs from run to run and without the planted files."""
    report = json.loads((out / "report.json").read_text())
    for name in ("began", "tasks", "resumptions"):
        del report[name]
    report["files"] = [one for one in report["files"] if one["path"] != FLAKY]
    report["kinds"] = [one for one in report["kinds"] if one["kind"] != "planted"]
    report["dead"] = [one for one in report["dead"] if one["path"] != RAISES]
    return dict(report)


@pytest.mark.slow_limit(120)
def test_kills_and_failing_files_change_nothing_else_in_the_report(folder: Path, tmp_path: Path) -> None:
    assert demo(folder, tmp_path / "calm").returncode == 0
    done = demo(folder, tmp_path / "out", "--faults")
    assert done.returncode == 0, done.stdout + done.stderr
    for victim in (r"digester-\d", "coordinator-1"):
        assert re.search(rf"{victim}-\w+ \(pid \d+\) was killed by SIGKILL; it starts again", done.stderr)
    assert of_the_disk(tmp_path / "out") == of_the_disk(tmp_path / "calm")

    lines = done.stdout.splitlines()
    submitted, ended, dead, cancelled, retries, _ = numbers(lines[-1])
    assert (submitted, ended, dead, cancelled) == (10, 9, 1, 0)  # 6 digests, 2 links, audit, report
    assert retries >= 2
    assert any(line.startswith(f"dead letter: digest {RAISES}: 5 attempts failed") for line in lines)
    assert any(re.match(rf"retried: digest {FLAKY}: failed .*failed .*lost .*done", line) for line in lines)
    assert any(re.match(r"resumed: coordinator-1-\w+ went on", line) for line in lines)

    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert [(one["task"], one["path"], one["attempts"]) for one in report["dead"]] == [("digest", RAISES, 5)]
    assert report["resumptions"] >= 1
    assert "Its coordinator was lost and resumed" in (tmp_path / "out" / "report.md").read_text()

    root = ElementTree.parse(tmp_path / "out" / "timeline.svg").getroot()
    words = " ".join(text.strip() for text in root.itertext())
    for word in (
        "1 dead",
        "retries",
        "failed, tried again",
        "lost: its process died",
        "dead letter",
        FLAKY,
        RAISES,
    ):
        assert word in words, word
    assert re.search(r"audit.*taken over", words)


@pytest.mark.slow_limit(120)
def test_one_file_is_enough(tmp_path: Path) -> None:
    root = tmp_path / "work"
    root.mkdir()
    (root / "only.txt").write_text("hello\n")
    done = demo(root, tmp_path / "out", "--faults", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["submitted"], found["done"], found["dead"]) == (5, 4, 1)


# --- what is planted ---------------------------------------------------------------------------------


def test_no_file_on_a_disk_has_the_path_of_a_planted_one() -> None:
    for file in planted(Folder(audit="one", root="/r", out="/o")):
        assert os.path.normpath(file.path) != file.path


async def test_the_flaky_file_fails_twice_and_then_waits_to_be_killed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("roost.demo.faults.HOLD_S", 0.02)
    monkeypatch.setattr("roost.demo.faults.SAY_EVERY_S", 0.01)
    file = FileRef(audit="one", root="/r", path=FLAKY, fault="flaky")
    said: list[int] = []

    async def say() -> None:
        said.append(1)

    for attempt in (1, 2):
        with pytest.raises(Planted):
            await digest_planted(file, attempt, say)
    assert said == []
    assert await digest_planted(file, 3, say) == Digest(path=FLAKY, kind="planted")
    assert len(said) == 2
    assert await digest_planted(file, 4, say) == Digest(path=FLAKY, kind="planted")
    assert len(said) == 2


async def test_the_other_one_raises_each_time() -> None:
    async def say() -> None:
        raise AssertionError("it has nothing to say")

    for attempt in range(1, 10):
        with pytest.raises(Planted):
            await digest_planted(FileRef(audit="one", root="/r", path=RAISES, fault="raises"), attempt, say)


def test_few_files_are_slowed_down_more_than_many() -> None:
    assert pause_s(0) == pause_s(1) == MOST_S > pause_s(1000) > pause_s(10_000) > 0


@pytest.mark.parametrize(("ended", "ready"), [(0, False), (3, False), (4, True), (10, True)])
def test_the_blow_waits_for_a_third_of_the_tasks(ended: int, ready: bool) -> None:
    saboteur = Saboteur(lambda line: None)
    saboteur.hear_at_work(AtWork(instance="digester-2"))
    saboteur.hear_progress(Progress(ended=ended, submitted=10))
    assert saboteur.is_time is ready


# --- what is told ------------------------------------------------------------------------------------


def history(name: str, id: str, *results: str, status: str = "done") -> TaskHistory:
    attempts = tuple(
        Attempt(number=number, by=f"w-{number}", started_s=10.0 + number, ended_s=None, result=result)  # type: ignore[arg-type]
        for number, result in enumerate(results, 1)
    )
    return TaskHistory(
        run="r",
        name=name,
        id=id,
        submitted_s=10.0,
        ended_s=20.0,
        status=status,  # type: ignore[arg-type]
        reason="it is broken" if status == "dead" else "",
        attempts=attempts,
    )


def test_a_calm_run_has_no_incidents() -> None:
    calm = [history("digest", "a.md", "done"), history("audit", "audit", "done")]
    assert (incidents(calm), resumptions(calm)) == ([], 0)


def test_incidents_are_the_dead_the_retried_and_the_resumptions() -> None:
    found = [
        history("digest", "a.md", "failed", "done"),
        history("digest", "b.md", "failed", status="dead"),
        history("audit", "audit", "lost", "done"),
    ]
    assert incidents(found) == [
        "dead letter: digest b.md: it is broken",
        "retried: digest a.md: failed (w-1), done (w-2)",
        "resumed: w-2 went on with the audit at 2.0 s",
    ]
    assert resumptions(found) == 1


def test_many_incidents_are_counted() -> None:
    found = [history("digest", f"{number}.md", "failed", "done") for number in range(LISTED + 7)]
    assert incidents(found)[-1] == "retried or dead: 7 more tasks"
