"""What each notebook begins and ends with."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import build
import lesson
import lesson_leftovers as leftovers
import nats
import psutil
import pytest
from course_kit import lesson_folder, run, write
from hub import hub, url_of
from jupyter_client.manager import KernelManager
from lesson import Lesson
from lesson_place import Place, examine
from nats.aio.client import Client
from nbclient.exceptions import CellExecutionError

from roost.server import LocalServer, find_server

ALL = {"jetstream": "", "schedules": "", "trace": "", "agents": "", "local servers": ""}


@pytest.fixture(autouse=True)
def stock_client(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a lesson mends in its own kernel must not reach the tests that come after it in this process."""
    monkeypatch.setattr(Client, "_send_ping", Client._send_ping)


@pytest.fixture(scope="module")
def shared() -> Iterator[LocalServer]:
    with hub() as server:
        yield server


def a_lesson(prefix: str = "", **missing: str) -> Lesson:
    return Lesson(
        "Test", Place("nats://127.0.0.1:1", prefix, (2, 15, 1), ALL | missing), {}, AsyncExitStack()
    )


# --- names -----------------------------------------------------------------------------------------------


def test_on_a_server_of_ones_own_names_stay_what_they_are() -> None:
    mine = a_lesson()
    assert mine.subject("agents.>") == mine.bare("agents.>") == "agents.>"
    assert mine.stream("TASKS") == "TASKS"
    assert mine.namespace == "roost"


def test_on_a_shared_server_all_names_have_the_learners_prefix() -> None:
    mine = a_lesson("ada")
    assert mine.subject("agents.>") == "ada.agents.>"
    assert mine.bare("ada.agents.x") == "agents.x"
    assert mine.stream("TASKS") == "ada_TASKS"
    assert mine.namespace == "ada"


@pytest.mark.parametrize(
    ("environment", "begins"),
    [
        ({"NATS_PREFIX": "ada", "JUPYTERHUB_USER": "bob"}, "ada"),
        ({"JUPYTERHUB_USER": "bob"}, "bob"),
        ({"NATS_PREFIX": "ada.lovelace@example.org"}, "ada-lovelace-example-org-"),
        ({"NATS_PREFIX": "ada_b"}, "ada-b-"),
        ({"NATS_PREFIX": ".*>"}, ""),
        ({"LOGNAME": "grace"}, "grace-"),
    ],
)
def test_the_prefix_is_one_safe_token(
    environment: dict[str, str], begins: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NATS_PREFIX", "JUPYTERHUB_USER"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    prefix = lesson._prefix()
    assert prefix.startswith(begins)
    assert prefix.replace("-", "").isalnum()


# --- what can run here -----------------------------------------------------------------------------------


async def test_a_hub_is_examined_by_trying(shared: LocalServer) -> None:
    whole = await examine(url_of(shared, "ada"), prefix="ada")
    assert not any(whole.missing.values())
    assert "secret" not in str(whole.rows())
    without = await examine(url_of(shared, "eve"), prefix="eve")
    assert "JetStream not enabled" in without.missing["jetstream"]
    assert not without.missing["trace"]
    few = await examine(url_of(shared, "rex"), prefix="rex")
    assert "permissions violation" in few.missing["jetstream"]
    assert few.missing["schedules"]
    assert "may not serve agents" in few.missing["agents"]
    with pytest.raises(PermissionError, match=r"ada\.check.*No section can run here"):
        await examine(url_of(shared, "rex"), prefix="ada")
    with pytest.raises(PermissionError, match=r"publish to \"mute\.check\""):
        await examine(url_of(shared, "mute"), prefix="mute")


@pytest.fixture
def plain_url() -> Iterator[str]:
    """A server without JetStream, which LocalServer always has."""
    command = [str(find_server()), "-a", "127.0.0.1", "-p", "-1"]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        assert server.stderr is not None
        lines = iter(server.stderr)
        address = next(line.split()[-1] for line in lines if "Listening for client connections" in line)
        assert any("Server is ready" in line for line in lines)
        yield f"nats://{address}"
        server.kill()


async def test_a_server_without_jetstream_is_told_in_words(plain_url: str) -> None:
    place = await examine(plain_url, prefix="ada")
    assert place.missing["jetstream"] == place.missing["schedules"]
    assert place.missing["jetstream"].startswith("JetStream is not switched on at this server")


async def test_nobody_at_nats_url_is_told_with_what_to_do() -> None:
    with pytest.raises(ConnectionError, match="unset NATS_URL"):
        await examine("nats://ada:secret@127.0.0.1:1", prefix="ada")


def test_a_cell_that_cannot_run_here_is_one_line_instead(capsys: pytest.CaptureFixture[str]) -> None:
    mine = a_lesson(jetstream="there is none")
    assert mine._skip(["# needs: trace, jetstream\n", "x = 1\n"]) == ["__lesson__.skipped('jetstream')\n"]
    assert mine._skip(["# needs: trace\n", "x = 1\n"]) == ["# needs: trace\n", "x = 1\n"]
    assert mine._skip(["x = 1\n"]) == ["x = 1\n"]
    mine.skipped("jetstream")
    assert capsys.readouterr().out == "Not run here: this cell needs jetstream, but there is none.\n"


def test_a_check_that_cannot_run_here_says_so_for_its_exercise(capsys: pytest.CaptureFixture[str]) -> None:
    mine = a_lesson(jetstream="there is none")
    cell = ["# needs: jetstream\n", "await lesson.check(\n", "    2, answer_2, tried)\n"]
    assert mine._skip(cell) == ["__lesson__.skipped('jetstream', 2)\n"]
    mine.skipped("jetstream", 2)
    said = "Exercise 2: Not run here: this cell needs jetstream, but there is none.\n"
    assert capsys.readouterr().out == said


def test_the_card_names_the_sections_that_cannot_run() -> None:
    mine = a_lesson("ada", jetstream="there is none")
    mine.needs = {"Replay": "jetstream", "Ask the server": "trace"}
    assert "Cannot run here  Replay (there is none)" in repr(mine)
    assert "Ask the server" not in repr(mine)
    assert "text-align:left'>Replay (there is none)</td>" in mine._repr_mimebundle_()["text/html"]


# --- exercises -------------------------------------------------------------------------------------------


async def test_an_answer_is_open_right_or_wrong_with_a_hint(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    mine = a_lesson()

    async def tried(answer: int) -> bool | str:
        return answer == 2 or f"{answer} is too {'small' if answer < 2 else 'large'}."

    async def waits(answer: int) -> bool:
        return await asyncio.Event().wait()

    monkeypatch.setattr(lesson, "ANSWER_LIMIT_S", 0.05)
    await mine.check(1, ..., tried)
    await mine.check(1, 2, tried)
    await mine.check(1, 1, tried)
    await mine.check(1, "two", tried)
    await mine.check(1, 2, waits)
    await mine.check(1, 3, lambda answer: answer == 2)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Exercise 1: not answered yet."
    assert lines[1] == "Exercise 1: right."
    assert lines[2] == "Exercise 1: not right yet. 1 is too small."
    assert "TypeError" in lines[3]
    assert "took too long" in lines[4]
    assert lines[5] == "Exercise 1: not right yet. Look again at the cells above."


# --- the end ---------------------------------------------------------------------------------------------


async def test_only_the_streams_of_this_learner_are_deleted(shared: LocalServer) -> None:
    of_ada = {"ada_TASKS", "KV_ada_facts", "OBJ_ada_files", "ROOST_ada", "OBJ_ROOST_ada", "ROOST-SCHED_ada"}
    others = {"ada-2_TASKS", "KV_bob_ada", "ROOST_ada-2", "TASKS"}
    client = await nats.connect(url_of(shared, "admin"))
    stream = client.jetstream()
    for number, name in enumerate(of_ada | others):
        await stream.add_stream(name=name, subjects=[f"deleted.s{number}"])
    assert set(await leftovers.delete_streams(url_of(shared, "ada"), "ada")) == of_ada
    assert {one.config.name for one in await stream.streams_info()} == others
    for name in others:
        await stream.delete_stream(name)
    await client.close()


OPENED = """
    import asyncio, subprocess
    import nats
    from lesson import Lesson
    lesson = await Lesson.open("Small")
"""


def test_what_cells_left_is_named_and_ended(tmp_path: Path) -> None:
    source = write(
        tmp_path,
        OPENED,
        """
        forgotten = await nats.connect(lesson.url, name="forgotten")
        await forgotten.subscribe("agents.>")
        process = subprocess.Popen(["sleep", "1000"])
        async def forever():
            await asyncio.Event().wait()
        task = asyncio.create_task(forever())
        (lesson.folder / "notes").write_text("notes")
        print("process", process.pid)
        print("folder", lesson.folder)
        """,
        "await lesson.close()",
    )
    text = run(source)
    for one in ("a connection named forgotten", "the task forever", "the process sleep 1000"):
        assert f"Left open by a cell above, ended now: {one}." in text.splitlines()
    assert text.splitlines()[-2:].count("Nothing is left.") == 1
    told = dict(line.split(" ", 1) for line in text.splitlines() if line.startswith(("process", "folder")))
    assert not psutil.pid_exists(int(told["process"]))
    assert not Path(told["folder"]).exists()


async def test_a_killed_kernel_leaves_no_server_and_no_process_of_its_cells(tmp_path: Path) -> None:
    manager = KernelManager(kernel_name="python3")
    environment = {name: value for name, value in os.environ.items() if name not in build.OF_LEARNER}
    await asyncio.to_thread(manager.start_kernel, cwd=str(lesson_folder(tmp_path)), env=environment)
    client = manager.client()
    client.start_channels()
    try:
        await asyncio.to_thread(client.wait_for_ready, timeout=30)
        cell = (
            "from lesson import Lesson\nimport psutil, os, json, subprocess\n"
            "lesson = await Lesson.open('Killed')\n"
            "process = subprocess.Popen(['sleep', '1000'])\n"
            "children = [one.pid for one in psutil.Process().children(recursive=True)]\n"
            "text = json.dumps([os.getpid(), process.pid, children])"
        )
        answer = await asyncio.to_thread(
            client.execute_interactive, cell, user_expressions={"told": "text"}, timeout=30
        )
        content = answer["content"]["user_expressions"]["told"]
        kernel, started, children = json.loads(content["data"]["text/plain"].strip("'"))
        assert len(set(children) - {started}) >= 2, "the lesson started no server"
        processes = [psutil.Process(number) for number in children]
        os.kill(kernel, signal.SIGKILL)
        _, alive = await asyncio.to_thread(psutil.wait_procs, processes, timeout=20)
        assert alive == []
    finally:
        client.stop_channels()
        await asyncio.to_thread(manager.shutdown_kernel, now=True)


# --- the build -------------------------------------------------------------------------------------------


def test_a_cell_that_raises_is_shown_and_keeps_the_stored_notebook(tmp_path: Path) -> None:
    source = write(tmp_path, "1 / 0")
    kept = source.with_suffix(".ipynb")
    kept.write_text("as it was")
    name, found, _ = build.build(source)
    assert name == "00-small"
    assert "ZeroDivisionError" in found[0]
    assert "1 / 0" in found[0]
    assert kept.read_text() == "as it was"


def test_a_solution_without_its_exercise_is_refused(tmp_path: Path) -> None:
    source = write(tmp_path, "answer_1 = ...")
    (tmp_path / "solutions").mkdir()
    (tmp_path / "solutions" / source.name).write_text("# %% exercise-1\nanswer_1 = 3\n")
    with pytest.raises(ValueError, match="without an exercise: exercise-1"):
        build.read(source, solved=True)


def test_an_exercise_that_cannot_run_here_is_not_wrong(tmp_path: Path) -> None:
    source = write(tmp_path, "print('Exercise 1: Not run here: no JetStream.')", "print('Nothing is left.')")
    cells = source.read_text()
    source.write_text(f'# %% tags=["exercise-1", "quiet"]\nanswer_1 = ...\n\n{cells}')
    (tmp_path / "solutions").mkdir()
    (tmp_path / "solutions" / source.name).write_text("# %% exercise-1\nanswer_1 = 3\n")
    assert build.check(source)[1] == []
    source.write_text(source.read_text().replace("Not run here", "not right yet"))
    assert build.check(source)[1] == ["Exercise 1: not right yet: no JetStream."]


def test_notebooks_of_one_learner_run_one_after_the_other(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        build.main(["--check", "--jobs", "2", "--nats-url", "nats://127.0.0.1:1"])
    assert "one notebook at a time" in capsys.readouterr().err


def test_a_failing_cell_is_an_error_of_the_run(tmp_path: Path) -> None:
    with pytest.raises(CellExecutionError, match="no such thing"):
        run(write(tmp_path, "raise KeyError('no such thing')"))
