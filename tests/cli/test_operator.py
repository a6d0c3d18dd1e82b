"""What an operator sees of tasks and dead letters, and how they are submitted again."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from test_commands import run

import roost
from roost import Agent, Bus, Context, Dead, Done, Handle, Reject, Retry, Task
from roost.tasks.storing import store

HOSTILE = "no \x1b[31mred\x1b[0m\x07 [bold]page[/bold]\nforged line \u202eevil"


class Page(BaseModel):
    text: str


digest = Task("digest", Page, int, retry=Retry(attempts=2, base_s=0.01, cap_s=0.01))
agent = Agent("digester")


@agent.handles(digest)
async def do_digest(page: Page, ctx: Context) -> int:
    if page.text == "bad":
        raise Reject("no such page")
    if page.text == "wrong":
        raise ValueError("no such word")
    return len(page.text)


class Operator:
    """Runs commands on the test's server and namespace, in an empty folder."""

    def __init__(self, bus: Bus, url: str, folder: Path) -> None:
        self.bus = bus
        self._where = ("--url", url, "--namespace", bus.namespace)
        self.folder = folder

    async def __call__(self, *arguments: str, input: str | None = None) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(run, *arguments, *self._where, cwd=self.folder, input=input)

    async def json(self, *arguments: str) -> Any:
        answer = await self(*arguments, "--json")
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)

    async def task(self, text: str, key: str) -> Handle[int]:
        handle = await self.bus.submit(digest, Page(text=text), key=key)
        await handle.outcome(timeout_s=20)
        return handle


async def test_dead_letters_are_listed_for_people_and_for_programs(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        operator = Operator(bus, nats_url, tmp_path)
        await operator.task("fine", "a")
        bad = await operator.task("bad", "b")
        wrong = await operator.task("wrong", "c")

        answer = await operator("dead", "ls")
        assert answer.returncode == 0
        heading, *rows = [line.split("\t") for line in answer.stdout.splitlines()]
        assert heading == ["DIED", "TASK", "ID", "TRIED", "REPLAYED", "REASON"]
        assert [(row[1], row[2], row[3]) for row in rows] == [
            ("digest", bad.id, "1"),
            ("digest", wrong.id, "2"),
        ]
        letters = await operator.json("dead", "ls", "digest")
        assert [letter["id"] for letter in letters] == [bad.id, wrong.id]
        assert letters[1]["input"] == {"text": "wrong"}
        assert [one["result"] for one in letters[1]["attempts"]] == ["failed", "failed"]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", letters[1]["died"])
        assert [one["id"] for one in await operator.json("dead", "ls", "--limit", "1")] == [wrong.id]
        assert await operator.json("dead", "ls", "other") == []


async def test_a_dead_letter_is_shown_with_its_attempts_and_its_input(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        operator = Operator(bus, nats_url, tmp_path)
        wrong = await operator.task("wrong", "c")
        answer = await operator("dead", "show", wrong.id)
        assert f"id      {wrong.id}\n" in answer.stdout
        assert answer.stdout.count("ValueError: no such word") == 3
        assert '{\n  "text": "wrong"\n}\n' in answer.stdout
        assert (await operator.json("dead", "show", wrong.id))["input"] == {"text": "wrong"}

        fine = await operator.task("fine", "a")
        answer = await operator("dead", "show", fine.id)
        assert answer.returncode == 1
        assert f"task {fine.id} has no dead letter" in answer.stderr


async def test_a_dead_letter_is_replayed_as_it_was_or_with_another_input(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        operator = Operator(bus, nats_url, tmp_path)
        bad = await operator.task("bad", "b")
        answer = await operator("dead", "replay", bad.id)
        first = f"{bad.id}/digest/{bad.id}:r1"
        assert (answer.returncode, answer.stdout) == (0, f"{bad.id} replayed as {first}\n")
        assert isinstance(await bus.handle(digest, first).outcome(timeout_s=20), Dead)

        (tmp_path / "fixed.json").write_text('{"text": "mended"}\n')
        answer = await operator("dead", "replay", bad.id, "--edit", "fixed.json")
        second = answer.stdout.split()[-1]
        match await bus.handle(digest, second).outcome(timeout_s=20):
            case Done(value):
                assert value == len("mended")
            case other:
                pytest.fail(str(other))

        answer = await operator("dead", "replay", first, "--edit", "-", input='{"text": "abc"}')
        assert await bus.handle(digest, answer.stdout.split()[-1]).result(timeout_s=20) == 3
        assert (await operator.json("dead", "show", bad.id))["replays"] == [
            f"{bad.id}/digest/{bad.id}:r1",
            f"{bad.id}/digest/{bad.id}:r2",
        ]


async def test_an_input_that_is_no_json_is_refused_and_nothing_submitted(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        operator = Operator(bus, nats_url, tmp_path)
        bad = await operator.task("bad", "b")
        for text in ('{"a": 1, "a": 2}', ""):
            answer = await operator("dead", "replay", bad.id, "--edit", "-", input=text)
            assert (answer.returncode, answer.stdout) == (1, "")
            assert answer.stderr.startswith("roost: standard input holds no JSON for an input: ")
        (tmp_path / "broken.json").write_text('{"text"')
        answer = await operator("dead", "replay", bad.id, "--edit", "broken.json")
        assert answer.stderr.startswith("roost: broken.json holds no JSON for an input: ")
        assert (await operator.json("dead", "show", bad.id))["replays"] == []
        answer = await operator("dead", "replay", bad.id, "--edit", "missing.json")
        assert answer.returncode == 1
        assert "missing.json" in answer.stderr


async def test_an_id_with_a_wildcard_reaches_nothing(nats_url: str, namespace: str, tmp_path: Path) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        operator = Operator(bus, nats_url, tmp_path)
        await operator.task("bad", "b")
        tried = [
            ("show", ">"),
            ("show", "*/digest/*"),
            ("replay", "digest:*"),
            ("replay", "*/digest/digest:*"),
        ]
        for command, id in tried:
            answer = await operator("dead", command, id)
            assert answer.returncode == 1
            assert "is not the id of a task" in answer.stderr or f"no task '{id}'" in answer.stderr


async def test_a_tasks_history_tells_who_tried_it_when_and_what_came_of_it(
    nats_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOST_INSTANCE", "digester-7")
    async with roost.connect(nats_url, namespace=namespace) as bus:
        operator = Operator(bus, nats_url, tmp_path)
        async with bus.serving(agent):
            fine = await operator.task("fine", "a")
            wrong = await operator.task("wrong", "c")
        waiting = await bus.submit(digest, Page(text="x"), key="later")

        answer = await operator("tasks", "show", fine.id)
        assert "status     done after" in answer.stdout
        assert "\tdigester-7\t" in answer.stdout

        history = await operator.json("tasks", "show", wrong.id)
        assert history["status"] == "dead"
        assert [(one["number"], one["by"], one["result"]) for one in history["attempts"]] == [
            (1, "digester-7", "failed"),
            (2, "digester-7", "failed"),
        ]
        assert history["attempts"][0]["error"] == "ValueError: no such word"

        history = await operator.json("tasks", "show", waiting.id)
        assert (history["status"], history["attempts"], history["ended"]) == ("open", [], None)
        answer = await operator("tasks", "show", waiting.id)
        assert "status     open, no attempt on record yet: it waits, or is in its first one" in answer.stdout

        answer = await operator("tasks", "show", "nosuch")
        assert answer.returncode == 1
        assert (
            f"there is no task 'nosuch' in ROOST_{namespace} (of one submitted with key='nosuch'"
            in answer.stderr
        )


async def test_a_timeline_is_drawn_as_text_and_as_a_picture(
    nats_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOST_INSTANCE", "digester-7")
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        operator = Operator(bus, nats_url, tmp_path)
        fine = await operator.task("fine", "a")
        await operator.task("wrong", "c")
        answer = await operator("timeline", "--all")
        assert answer.returncode == 0, answer.stderr
        assert "digester-7" in answer.stdout
        one = await operator("timeline", fine.id)
        assert len(one.stdout) < len(answer.stdout)
        await operator("timeline", "--all", "--svg", "t.svg")
        assert ET.parse(tmp_path / "t.svg").getroot().tag.endswith("svg")


async def stranger(bus: Bus, id: str, end: bytes) -> None:
    """A dead task as somebody else wrote it into the log."""
    prefix = f"{bus.namespace}.run.{id}"
    for kind, data in (("task", HOSTILE.encode()), ("end", end), ("dead", b"{}")):
        await store(bus.log, f"{prefix}.{kind}.digest.{id}", data, patience_s=5)


async def test_what_strangers_wrote_into_the_log_reaches_no_terminal(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    attempt = {"k": 1, "by": HOSTILE, "at": 1e300, "s": -1.0, "error": {"type": HOSTILE, "message": HOSTILE}}
    end = {"status": "dead", "token": "t", "reason": HOSTILE, "attempts": [attempt]}
    async with roost.connect(nats_url, namespace=namespace) as bus:
        await bus.log.ensure()
        await stranger(bus, "x", json.dumps(end).encode())
        operator = Operator(bus, nats_url, tmp_path)
        for command in (["dead", "ls"], ["dead", "show", "x"], ["tasks", "show", "x"], ["timeline", "x"]):
            answer = await operator(*command)
            assert answer.returncode == 0, answer.stderr
            assert all(one.isprintable() or one in "\t\n" for one in answer.stdout)
            if command != ["timeline", "x"]:
                assert r"no \x1b[31mred\x1b[0m\x07 [bold]page[/bold]\nforged line \u202eevil" in answer.stdout
        assert (await operator.json("dead", "ls"))[0]["reason"] == HOSTILE


async def test_a_record_that_cannot_be_read_is_said_to_be_missing_from_the_list(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        operator = Operator(bus, nats_url, tmp_path)
        await operator.task("bad", "b")
    # Without a worker, which would give it a readable outcome.
    async with roost.connect(nats_url, namespace=namespace) as bus:
        await stranger(bus, "x", b"\x1b[2J")
        answer = await Operator(bus, nats_url, tmp_path)("dead", "ls")
        assert len(answer.stdout.splitlines()) == 2
        assert answer.stderr == "roost: 1 record(s) of the log could not be read and are left out\n"


async def test_a_reader_that_has_enough_ends_the_command_quietly(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        operator = Operator(bus, nats_url, tmp_path)
        await operator.task("bad", "b")
        script = (
            f"roost dead ls --json --url {nats_url} --namespace {namespace} | true; exit ${{PIPESTATUS[0]}}"
        )

        process = await asyncio.create_subprocess_exec(
            "bash",
            "-c",
            f"PATH={Path(sys.executable).parent}:$PATH; {script}",
            stderr=asyncio.subprocess.PIPE,
        )
        _, err = await process.communicate()
        assert err == b""
        assert process.returncode in (0, 1, 128 + signal.SIGPIPE)
