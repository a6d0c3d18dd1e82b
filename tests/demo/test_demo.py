"""`roost demo` from end to end: a real server, a process for each agent, files on the disk."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from demo_kit import PROGRAM, demo, folder, folder_in, numbers

import roost
from roost.demo import contracts, team
from roost.demo.contracts import FileRef, Folder, Progress
from roost.demo.gather import gather
from roost.demo.progress import Lines

__all__ = ["folder"]  # a fixture

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def audited(tmp_path_factory: pytest.TempPathFactory) -> tuple[subprocess.CompletedProcess[str], Path]:
    """What one demo said, and where its files are."""
    place = tmp_path_factory.mktemp("audited")
    return demo(folder_in(place), place / "out"), place / "out"


def test_a_folder_is_audited_by_a_team_of_processes(
    audited: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    done, out = audited
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    submitted, ended, dead, cancelled, retries, seconds = numbers(lines[-1])
    assert (submitted, ended, dead, cancelled, retries) == (
        8,
        8,
        0,
        0,
        0,
    )  # 4 digests, 2 links, audit, report
    assert 0 < seconds < 30
    assert "6 of 6 tasks for files have ended (100 %)" in lines
    assert "8 tasks in all: 4 digest and 2 links for files, 1 audit, 1 report" in lines
    assert "6 tasks for files: 6 done" in (out / "report.md").read_text()

    report = json.loads((out / "report.json").read_text())
    assert [one["path"] for one in report["files"]] == ["README.md", "docs/a.md", "tool.py"]
    broken = [(one["path"], one["line"], one["target"]) for one in report["links"]["broken"]]
    assert broken == [("README.md", 3, "docs/gone.md"), ("README.md", 3, "#nothing")]
    assert (report["links"]["checked"], report["links"]["external"]) == (3, 1)
    assert [(one["path"], one["word"], one["line"]) for one in report["marks"]] == [
        ("docs/a.md", "TODO", 3),
        ("tool.py", "FIXME", 1),
    ]
    assert {one["path"]: one["reason"] for one in report["skipped"]} == {
        "latin.txt": "not UTF-8 (byte 10000)",
        "loop": "a symbolic link, not followed",
        "pic.png": "binary",
    }
    assert "`README.md:3` `docs/gone.md`: no such file" in (out / "report.md").read_text()


def test_the_timeline_has_a_lane_for_every_agent(
    audited: tuple[subprocess.CompletedProcess[str], Path],
) -> None:
    done, out = audited
    assert done.returncode == 0
    root = ElementTree.parse(out / "timeline.svg").getroot()
    lanes = {(one.text or "").rpartition("-")[0] for one in root.iter() if one.get("class") == "ink name"}
    assert {"coordinator-1", "linker-1", "reporter-1"} <= lanes
    assert lanes & {"digester-1", "digester-2"}
    words = " ".join(text.strip() for text in root.itertext())
    assert not re.search(r"\d (running|open)", words), "it is drawn when all has ended"
    assert "7 tasks, 7 done" in words  # of the run; the run itself is told apart


def test_json_is_all_there_is_on_standard_output(folder: Path, tmp_path: Path) -> None:
    done = demo(folder, tmp_path / "out", "--json")
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads(done.stdout)
    counted = ["submitted", "done", "dead", "cancelled", "retries", "seconds"]
    assert list(found) == [*counted, "kinds", "files"]
    assert (found["submitted"], found["done"]) == (8, 8)
    assert {kind: one["submitted"] for kind, one in found["kinds"].items()} == {
        "audit": 1,
        "digest": 4,
        "links": 2,
        "report": 1,
    }
    out = tmp_path / "out"
    assert found["files"] == [str(out / name) for name in ("report.md", "report.json", "timeline.svg")]


@pytest.mark.slow_limit(120)
def test_the_repository_itself_is_audited(tmp_path: Path) -> None:
    done = demo(REPOSITORY, tmp_path / "out")
    assert (done.returncode, done.stderr) == (0, "")
    submitted, ended, dead, *_ = numbers(done.stdout.splitlines()[-1])
    assert submitted == ended > 100
    assert dead == 0
    report = json.loads((tmp_path / "out" / "report.json").read_text())
    assert "src/roost/demo/main.py" in {one["path"] for one in report["files"]}
    assert not any(one["path"].startswith((".venv", ".git/")) for one in report["files"])


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda root: root / "gone", "there is no folder"),
        (lambda root: root / "file", "is a file; give the folder"),
        (lambda root: root / "empty", "no text files found under"),
        (lambda root: root / "pictures", "(left out: 1 binary)"),
    ],
    ids=["missing", "a file", "empty", "only pictures"],
)
def test_a_path_that_cannot_be_audited_is_refused_at_once(
    tmp_path: Path, make: Callable[[Path], Path], says: str
) -> None:
    (tmp_path / "file").touch()
    (tmp_path / "empty").mkdir()
    (tmp_path / "pictures").mkdir()
    (tmp_path / "pictures" / "a.png").write_bytes(b"\0")
    done = demo(make(tmp_path), tmp_path / "out")
    assert (done.returncode, done.stdout) == (2, "")
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_an_output_that_cannot_be_a_folder_is_refused_at_once(folder: Path) -> None:
    done = demo(folder, folder / "tool.py" / "out")
    assert done.returncode == 2
    assert "is a file; name another folder for the report with --out" in done.stderr


def test_an_output_in_a_file_system_that_takes_no_folder_is_refused_before_anything_is_started(
    folder: Path,
) -> None:
    done = demo(folder, Path("/proc/roost-demo"))
    assert (done.returncode, done.stdout) == (2, "")
    assert "nothing can be written to /proc/roost-demo (" in done.stderr


@pytest.mark.parametrize(("ended", "said"), [(196, "54 %"), (361, "100 %"), (40, "11 %")])
def test_the_share_that_is_told_is_the_share_that_has_ended(
    ended: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Lines().progress(Progress(ended=ended, submitted=361))
    assert capsys.readouterr().out == f"{ended} of 361 tasks for files have ended ({said})\n"


@asynccontextmanager
async def started(
    root: Path, out: Path
) -> AsyncIterator[tuple[asyncio.subprocess.Process, asyncio.StreamReader]]:
    """A demo and what it says; killed at the end if it still runs."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", PROGRAM, str(root), str(out)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        yield process, process.stdout
    finally:
        if process.returncode is None:
            process.kill()
            await process.communicate()


async def half_way(lines: asyncio.StreamReader) -> None:
    """Returns when a demo tells for the first time that tasks have ended."""
    while line := await lines.readline():
        if b"have ended" in line:
            return
    raise AssertionError("it ended before it told of any task")


def alive(pids: list[int]) -> list[int]:
    return [pid for pid in pids if Path(f"/proc/{pid}").exists()]


def children(pid: int) -> dict[int, str]:
    """The processes below a process, with their command lines."""
    parents: dict[int, int] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
            except (OSError, IndexError):
                continue
    below = {pid}
    for _ in range(10):
        below |= {child for child, parent in parents.items() if parent in below}
    found = {}
    for child in below - {pid}:
        try:
            found[child] = Path(f"/proc/{child}/cmdline").read_text().replace("\0", " ")
        except OSError:
            continue
    return found


def server_of(pid: int) -> int:
    """The process that listens where the agents below `pid` connect to."""
    agent = next(child for child, command in children(pid).items() if "roost.demo.team" in command)
    environment = dict(
        one.split("=", 1) for one in Path(f"/proc/{agent}/environ").read_text().split("\0") if "=" in one
    )
    port = f":{int(environment['NATS_URL'].rpartition(':')[2]):04X}"
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = next(row[9] for row in rows if row[1].endswith(port) and row[3] == "0A")
    for descriptor in Path("/proc").glob("[0-9]*/fd/*"):
        try:
            if os.readlink(descriptor) == f"socket:[{listening}]":
                return int(descriptor.parts[2])
        except OSError:
            continue
    raise AssertionError(f"nobody listens on port {port}")


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("victim", ["digester", "coordinator"])
async def test_a_process_killed_in_the_middle_loses_and_doubles_nothing(victim: str, tmp_path: Path) -> None:
    root = tmp_path / "work"
    root.mkdir()
    for number in range(2000):
        (root / f"f{number}.md").write_text(f"# T\n\n[a](f{number + 1}.md)\n" * 5)
    async with started(root, tmp_path / "out") as (process, lines):
        await half_way(lines)
        pid = next(pid for pid, command in children(process.pid).items() if f"team:{victim}" in command)
        os.kill(pid, signal.SIGKILL)
        out, errors = await process.communicate()
        submitted, done, *_ = numbers(out.decode().splitlines()[-1])
        assert (submitted, done) == (4002, 4002)
        assert re.search(
            rf"{victim}-\d-\w+ \(pid {pid}\) was killed by SIGKILL; it starts again", errors.decode()
        )
        report = json.loads((tmp_path / "out" / "report.json").read_text())
        assert len(report["files"]) == 2000
        assert [one["path"] for one in report["links"]["broken"]] == ["f1999.md"] * 5


async def test_an_interrupted_demo_stops_its_team_and_says_so(tmp_path: Path) -> None:
    root = tmp_path / "work"
    root.mkdir()
    for number in range(3000):
        (root / f"f{number}.md").write_text("# T\n")
    async with started(root, tmp_path / "out") as (process, lines):
        await half_way(lines)
        below = children(process.pid)
        process.send_signal(signal.SIGINT)
        _, errors = await process.communicate()
        assert process.returncode == 130
        assert "interrupted" in errors.decode()
        assert "Traceback" not in errors.decode()
        assert not alive([pid for pid, command in below.items() if "roost" in command])


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="needs /proc")
async def test_a_demo_whose_server_dies_ends_and_says_why(tmp_path: Path) -> None:
    root = tmp_path / "work"
    root.mkdir()
    for number in range(3000):
        (root / f"f{number}.md").write_text("# T\n")
    async with started(root, tmp_path / "out") as (process, lines):
        await half_way(lines)
        os.kill(server_of(process.pid), signal.SIGKILL)
        _, errors = await process.communicate()
        assert process.returncode == 1
        assert "roost demo: the local server has ended" in errors.decode()
        assert "Traceback" not in errors.decode()


# --- the agents, in this process ---------------------------------------------------------------------


@asynccontextmanager
async def serving(
    url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, *agents: roost.Agent[Any]
) -> AsyncIterator[roost.Bus]:
    """The agents on a bus; those with connections of their own find the same server."""
    monkeypatch.setenv("NATS_URL", url)
    monkeypatch.setenv("ROOST_NAMESPACE", namespace)
    async with roost.connect() as bus, bus.serving(*agents):
        yield bus


async def test_an_audit_started_twice_is_one_run(
    folder: Path, nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    heard: list[Progress] = []
    audience = roost.Agent("audience")

    @audience.handles(contracts.progress, concurrency=1, deliver="every")
    async def hear(value: Progress) -> None:
        heard.append(value)

    everybody = (team.coordinator, team.digester, team.linker, team.reporter, audience)
    order = Folder(audit="one", root=str(folder), out=str(folder / "out"))
    async with serving(nats_url, namespace, monkeypatch, *everybody) as bus:
        first = await bus.start(contracts.audit, order, key="one")
        second = await bus.start(contracts.audit, order, key="one")
        written = await first.result(timeout_s=30)
        assert (await second.result(timeout_s=30), second.id) == (written, first.id)
        assert (written.digested, written.skipped, written.broken_links) == (3, 3, 2)
        found = (await gather(bus.log, first.id)).histories
    assert sorted(one.name for one in found) == ["audit", *["digest"] * 4, "links", "links", "report"]
    assert heard[-1] == Progress(ended=6, submitted=6, dead=0)


async def test_a_dead_task_is_in_the_report_with_its_reason(
    folder: Path, nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = roost.Agent("broken")

    @broken.handles(contracts.digest)
    async def refuse(file: FileRef) -> contracts.Digest:
        if file.path == "tool.py":
            raise roost.Reject("no disk today")
        return contracts.Digest(path=file.path)

    order = Folder(audit="one", root=str(folder), out=str(folder / "out"))
    everybody = (team.coordinator, broken, team.linker, team.reporter)
    async with serving(nats_url, namespace, monkeypatch, *everybody) as bus:
        await (await bus.start(contracts.audit, order)).result(timeout_s=30)
    report = json.loads((folder / "out" / "report.json").read_text())
    assert [(one["task"], one["path"], one["reason"]) for one in report["dead"]] == [
        ("digest", "tool.py", "no disk today")
    ]
    assert report["tasks"]["dead"] == 1
    assert "`digest` of `tool.py`: `no disk today`" in (folder / "out" / "report.md").read_text()


async def test_a_stranger_s_record_is_counted_and_spoils_no_report(
    folder: Path, nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    order = Folder(audit="one", root=str(folder), out=str(folder / "out"))
    everybody = (team.coordinator, team.digester, team.linker, team.reporter)
    async with serving(nats_url, namespace, monkeypatch, *everybody) as bus:
        handle = await bus.start(contracts.audit, order)
        await handle.result(timeout_s=30)
        before = await gather(bus.log, handle.id)
        run = f"{namespace}.run.{handle.id}"
        await bus.link.jetstream.publish(f"{run}.task.digest.x", b"{not json")
        await bus.link.jetstream.publish(f"{run}.end.links.y", b'{"status": "odd"}')
        found = await gather(bus.log, handle.id)
        assert (found.digests, found.link_reports) == (before.digests, before.link_reports)
        assert len(found.histories) == len(before.histories) + 1
        assert bus.counters["record_unreadable"] == 2
