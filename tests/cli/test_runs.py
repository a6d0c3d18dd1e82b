"""What an operator sees of runs, and how one is forked and cancelled, by commands as somebody types them."""

from __future__ import annotations

import asyncio
import json
import re
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel
from test_commands import run as roost_command

import roost
from roost import Agent, Bus, Handle, Reject, Retry, Run, Task, Workflow
from roost.runs.records import RunSubjects

HOSTILE = "no \x1b[31mred\x1b[0m\x07 [bold]page[/bold]\nforged line \u202eevil"


class Page(BaseModel):
    text: str


digest = Task("digest", Page, int, retry=Retry(attempts=2, base_s=0.01, cap_s=0.01))
audit = Workflow("audit", Page, int, ack_wait_s=0.5)
newer = Workflow("audit-2", Page, int, ack_wait_s=0.5)
above = Workflow("above", Page, int, ack_wait_s=0.5)
agent = Agent("auditor")


@agent.handles(digest)
async def do_digest(page: Page) -> int:
    if page.text == "bad":
        raise Reject(HOSTILE)
    return len(page.text)


async def words(page: Page) -> list[str]:
    return page.text.split()


@agent.handles(audit)
async def plan(page: Page, run: Run) -> int:
    found = await run.step("words", words, page)
    total = 0
    async with run.map(digest, [Page(text=word) for word in found]) as outcomes:
        async for outcome in outcomes:
            total += outcome.value if isinstance(outcome, roost.Done) else 0
    return total + await run.call(digest, Page(text="more"), name="extra")


@agent.handles(newer)
async def plan_2(page: Page, run: Run) -> int:
    return len(await run.step("words", words, page)) * 1000


class Operator:
    """Runs commands on the test's server and namespace, in an empty folder."""

    def __init__(self, bus: Bus, url: str, folder: Path) -> None:
        self.bus = bus
        self._where = ("--url", url, "--namespace", bus.namespace)
        self.folder = folder

    async def __call__(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return await asyncio.to_thread(roost_command, "runs", *arguments, *self._where, cwd=self.folder)

    async def json(self, *arguments: str) -> Any:
        answer = await self(*arguments, "--json")
        assert answer.returncode == 0, answer.stderr
        return json.loads(answer.stdout)

    async def a_run(self, key: str, text: str = "one bad three") -> Handle[int]:
        handle = await self.bus.start(audit, Page(text=text), key=key)
        await handle.outcome(timeout_s=20)
        return handle


@pytest.mark.parametrize("command", ["ls", "show", "timeline", "fork", "cancel"])
def test_every_command_explains_itself_with_an_example(command: str, tmp_path: Path) -> None:
    answer = roost_command("runs", command, "--help", cwd=tmp_path)
    assert answer.returncode == 0
    assert re.search(rf"Examples?:\n +roost runs {command}", answer.stdout)
    assert "--url" in answer.stdout
    assert "--namespace" in answer.stdout


async def test_runs_are_listed_for_people_and_for_programs(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        operator = Operator(bus, nats_url, tmp_path)
        one, two = await operator.a_run("a"), await operator.a_run("b")
        answer = await operator("ls")
        heading, *rows = [line.split("\t") for line in answer.stdout.splitlines()]
        assert heading == ["RUN", "STATUS", "BEGUN", "TOOK", "BY", "REASON"]
        assert [(row[0], row[1]) for row in rows] == [(two.id, "done"), (one.id, "done")]
        found = await operator.json("ls", "audit", "--limit", "1")
        assert [(run["id"], run["workflow"], run["status"]) for run in found] == [(two.id, "audit", "done")]
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", found[0]["begun"])
        assert await operator.json("ls", "other") == []
        assert (await operator("ls", "other")).stderr.startswith("no runs")


async def test_a_run_is_shown_with_its_coordinators_operations_and_tasks(
    nats_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOST_INSTANCE", "auditor-7")
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        operator = Operator(bus, nats_url, tmp_path)
        handle = await operator.a_run("a")
        answer = await operator("show", handle.id)
        assert f"run           {handle.id}\n" in answer.stdout
        assert "coordinators  auditor-7\n" in answer.stdout
        assert "tasks         3 done, 1 dead\n" in answer.stdout
        rows = [line.split("\t") for line in answer.stdout.splitlines() if "\t" in line]
        assert rows[0] == ["OPERATION", "KIND", "CONTRACT", "BEGUN", "TOOK", "BY", "DETAIL"]
        assert [(row[0], row[1], row[2], row[6]) for row in rows[1:]] == [
            ("words", "step", "", ""),
            ("digest", "map", "digest", "3 items"),
            ("extra", "call", "digest", "done"),
        ]
        shown = await operator.json("show", handle.id)
        assert shown["tasks"] == {"done": 3, "dead": 1}
        assert [(one["by"], one["kind"]) for one in shown["coordinators"]] == [("auditor-7", "coordinator")]
        assert [(one["name"], one["items"]) for one in shown["operations"]] == [
            ("words", 0),
            ("digest", 3),
            ("extra", 0),
        ]
        answer = await operator("show", "audit:nosuch")
        assert (answer.returncode, answer.stdout) == (1, "")
        assert "there is no run 'audit:nosuch'" in answer.stderr


async def test_a_timeline_is_drawn_as_text_picture_mermaid_and_json(
    nats_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOST_INSTANCE", "auditor-7")
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        operator = Operator(bus, nats_url, tmp_path)
        handle = await operator.a_run("a")
        answer = await operator("timeline", handle.id)
        assert answer.stdout.startswith("Run audit:a\n1 run   4 tasks   3 done   1 dead   0 retries")
        assert "digest 1: " in answer.stdout
        assert "dead letter" in answer.stdout
        answer = await operator("timeline", handle.id, "--svg", "t.svg")
        assert answer.stderr.startswith("t.svg: 1 run, 4 tasks, 3 done, 1 dead, 0 retries")
        assert ET.parse(tmp_path / "t.svg").getroot().tag.endswith("svg")
        answer = await operator("timeline", handle.id, "--mermaid")
        assert answer.stdout.startswith("gantt\n")
        assert "section auditor-7" in answer.stdout
        found = await operator.json("timeline", handle.id)
        assert [(one["kind"], one["task"], one["status"]) for one in found][:2] == [
            ("run", "audit", "done"),
            ("step", "words", "done"),
        ]
        assert [one["attempts"][0]["by"] for one in found] == ["auditor-7"] * 6
        answer = await operator("timeline", "audit:nosuch")
        assert answer.returncode == 1
        assert "there is no run" in answer.stderr


async def test_a_run_is_forked_also_with_another_workflow(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        operator = Operator(bus, nats_url, tmp_path)
        handle = await operator.a_run("a", "one two three")
        answer = await operator("fork", handle.id, "--from", "extra")
        assert answer.returncode == 0, answer.stderr
        new = answer.stdout.strip()
        assert await bus.handle(audit, new).result(timeout_s=20) == 11 + 4
        answer = await operator("fork", handle.id, "--from", "digest", "--workflow", "audit-2")
        assert await bus.handle(newer, answer.stdout.strip()).result(timeout_s=20) == 3000
        assert (await operator.json("show", new))["coordinators"][0]["by"] == f"fork of {handle.id}"
        for arguments, said in (
            (("--from", "digset"), "it has words, digest, extra"),
            (("--from", "extra", "--workflow", "a.b"), "workflow"),
            ((), "--from"),
        ):
            answer = await operator("fork", handle.id, *arguments)
            assert answer.returncode != 0
            assert answer.stdout == ""
            assert said in answer.stderr


async def test_a_run_is_cancelled_once(nats_url: str, namespace: str, tmp_path: Path) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        operator = Operator(bus, nats_url, tmp_path)
        waiting = Agent("waiting")

        @waiting.handles(audit)
        async def waits(page: Page, run: Run) -> int:
            return await run.call(digest, page)

        begun = asyncio.Event()
        listener = bus.link.client.listen(f"{namespace}.live.run.*.epoch", lambda _: begun.set())
        async with bus.serving(waiting):
            handle = await bus.start(audit, Page(text="x"), key="c")
            await asyncio.wait_for(begun.wait(), 20)
            bus.link.client.unlisten(listener)
            answer = await operator("cancel", handle.id, "--reason", "wrong folder")
            assert answer.returncode == 0, answer.stderr
            outcome = await handle.outcome(timeout_s=20)
            assert isinstance(outcome, roost.Cancelled)
            assert outcome.reason == "wrong folder"
            shown = await operator.json("show", handle.id)
            assert (shown["status"], shown["reason"]) == ("cancelled", "wrong folder")
            answer = await operator("cancel", handle.id)
            assert answer.returncode == 1
            assert f"run {handle.id} had ended already" in answer.stderr


async def test_what_strangers_wrote_into_a_run_reaches_no_terminal(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        operator = Operator(bus, nats_url, tmp_path)
        handle = await operator.a_run("a")
        subjects = RunSubjects(namespace, handle.id)
        odd = {"kind": "step", "op": HOSTILE, "contract": HOSTILE, "input": "", "by": HOSTILE, "at": 1e300}
        epoch = {"token": "t", "by": HOSTILE, "at": 1, "workflow": "audit", "task": handle.id}
        for subject, data in (
            (subjects.step("odd"), json.dumps(odd).encode()),
            (subjects.epoch, json.dumps(epoch).encode()),
            (subjects.step("evil"), HOSTILE.encode()),
        ):
            await bus.link.jetstream.publish(subject, data)
        for command in (
            ("ls",),
            ("show",),
            ("timeline",),
            ("timeline", "--mermaid"),
            ("fork", "--from", "x"),
        ):
            name, *options = command
            answer = await operator(name, *([handle.id] if name != "ls" else []), *options)
            assert all(one.isprintable() or one in "\t\n" for one in answer.stdout + answer.stderr)
            if name in ("show", "timeline"):
                assert "roost: 1 record(s) of the log could not be read and are left out\n" in answer.stderr


async def test_a_run_below_another_is_shown_by_the_id_of_its_handle(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        operator = Operator(bus, nats_url, tmp_path)
        outer = Agent("outer")

        @outer.handles(above)
        async def calls(page: Page, run: Run) -> int:
            return await run.call(audit, page, name="lower")

        async with bus.serving(agent), bus.serving(outer):
            handle = await bus.start(above, Page(text="a b"), key="up")
            await handle.result(timeout_s=20)
            shown = await operator.json("show", f"{handle.id}/audit/lower")
            assert (shown["workflow"], shown["status"]) == ("audit", "done")
            assert shown["task"] == f"{handle.id}/audit/lower"
            answer = await operator("show", shown["id"])
            assert f"below         {handle.id}/audit/lower\n" in answer.stdout
