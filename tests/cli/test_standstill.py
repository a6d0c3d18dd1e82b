"""What an operator is told when work goes nowhere: a store without room, deadlines that passed, tasks of tomorrow."""

from __future__ import annotations

import asyncio
import os
import pty
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from test_doctor import told
from typer.testing import CliRunner

import roost
from roost.cli import _checks, _standstill
from roost.cli.app import app
from roost.cli.tasks import consumer_words
from roost.runs.records import RunSubjects
from roost.server import LocalServer, ServerOptions
from roost.server.profiles import options_for
from roost.tasks.administer import Size, provision
from roost.tasks.backlog import Backlog
from roost.testing import faults

SOON_S = 20.0
text = roost.Task("text", str, int)
small = roost.Task("small", int, int)
late = roost.Task("late", str, int, deadline_s=0.05)


async def fill(url: str) -> None:
    async with roost.connect(url) as bus:
        for _ in range(100):
            await bus.submit(text, "x" * 100_000)


def test_a_server_without_room_fails_the_doctor_and_provision_says_whose_room_it_is() -> None:
    """Bug: nothing said that the store was full; `provision` said "insufficient storage resources available"."""
    with LocalServer(ServerOptions(extra_config="jetstream { max_file_store: 4MB }")) as server:
        made = CliRunner().invoke(app, ["provision", "--url", server.url])
        assert "the log has no limit" in made.stderr
        _, found = told("--url", server.url)
        assert found["writes"]["verdict"] == "ok"
        assert "below its max_file_store" in found["room"]["advice"]
        with pytest.raises(roost.StoreFull):
            asyncio.run(fill(server.url))
        code, found = told("--url", server.url)
        assert code == 1
        assert found["writes"]["verdict"] == "fail"
        assert "the server refuses writes: insufficient resources" in found["writes"]["found"]
        refused = CliRunner().invoke(app, ["provision", "--max-bytes", "100MB", "--url", server.url])
        assert refused.exit_code == 1
        assert "the server (max_file_store), or the account, has not so much room left" in re.sub(
            r"\s+", " ", refused.stdout
        )


def test_what_the_doctor_writes_is_removed_also_what_one_that_was_killed_has_left(
    nats_url: str, namespace: str
) -> None:
    where = ["--url", nats_url, "--namespace", namespace]

    async def prepare() -> None:
        async with roost.connect(nats_url, namespace=namespace) as bus:
            await bus.submit(text, "kept")
            await bus.link.jetstream.publish(f"{namespace}.run.doctor.probe", b"")

    async def left() -> list[str]:
        async with roost.connect(nats_url, namespace=namespace) as bus:
            await bus.log.ensure()
            return [one.subject for one in await bus.log.read_all(f"{namespace}.run.>")]

    asyncio.run(prepare())
    _, found = told(*where)
    assert found["writes"]["verdict"] == "ok"
    (only,) = asyncio.run(left())
    assert ".task.text." in only


def test_a_full_disk_fails_the_doctor(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bug: all was ok while the server acknowledged no write; the submission did not say what to look for."""
    monkeypatch.setattr(_standstill, "WRITE_S", 1.0)
    try:
        with faults.Disk(mb=32) as disk, LocalServer(ServerOptions(store_dir=disk.path / "store")) as server:

            async def submit(value: str) -> None:
                async with roost.connect(server.url) as bus:
                    await bus.submit(text, value, timeout_s=0.5)

            asyncio.run(submit("x"))
            disk.fill()
            code, found = told("--url", server.url)
            assert code == 1
            assert found["writes"]["verdict"] == "fail"
            assert "no write was acknowledged within 1 s" in found["writes"]["found"]
            with pytest.raises(roost.SubmissionUnknown, match=r"full disk.*roost doctor"):
                asyncio.run(submit("y"))
            _, found = told("--url", server.url)
            assert found["writes"]["verdict"] == "fail"
            assert "no space left on device" in found["writes"]["found"], "it knows more by now"
            assert "full or broken disk" in found["writes"]["advice"]
    except faults.FaultUnavailable as error:
        pytest.skip(str(error))


def test_room_that_open_tasks_need_counts(nats_url: str, namespace: str) -> None:
    """Bug: "ok room 52 %" while new work was refused, as each open task reserves a kilobyte."""
    where = ["--url", nats_url, "--namespace", namespace]

    async def prepare() -> None:
        async with roost.connect(nats_url, namespace=namespace) as bus:
            await provision(bus.log, size=Size(max_bytes=1_000_000))
            await bus.submit_many(small, range(2_000))

    with pytest.raises(roost.StoreFull) as full:
        asyncio.run(prepare())
    assert full.value.used < 0.6 * 1_000_000
    _, found = told(*where)
    assert found["room"]["verdict"] != "ok"
    assert re.search(
        r"or when what [\d,]+ open tasks need for their outcomes \(\d+\.\d .B\) fills", found["room"]["found"]
    )
    assert _checks.room(500, 1000, 0).verdict == "ok"
    assert _checks.room(500_000, 1_000_000, 300).verdict == "warn"
    assert _checks.room(500_000, 1_000_000, 489).verdict == "fail"


def test_deadlines_that_nobody_enforces_are_told_of(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: without any process neither the doctor nor who waited heard that the deadline had passed."""
    monkeypatch.setattr(_standstill, "RETRY_S", 0.1)

    async def prepare() -> None:
        async with roost.connect(nats_url, namespace=namespace) as bus:
            handle = await bus.submit(late, "x", key="a")
            with pytest.raises(roost.RequestTimeout, match=r"Its deadline passed at .* UTC, and nobody has"):
                await handle.outcome(timeout_s=0.3)
            later = await bus.submit(text, "y", key="b", delay_s=3600)
            with pytest.raises(roost.RequestTimeout, match="It may not begin before"):
                await later.outcome(timeout_s=0.05)
            plain = await bus.submit(text, "z")
            with pytest.raises(roost.RequestTimeout, match="it stays stored and goes on"):
                await plain.outcome(timeout_s=0.05)

    asyncio.run(prepare())
    code, found = told("--url", nats_url, "--namespace", namespace)
    assert code == 1
    assert found["deadlines"]["verdict"] == "fail"
    assert found["deadlines"]["found"] == "1 past their deadline and open: late:a"
    assert "roost upkeep" in found["deadlines"]["advice"]


def test_tasks_of_tomorrow_are_seen(nats_url: str, namespace: str) -> None:
    """Bug: a delayed task was in no column, and `show` said that it waits or has begun."""
    where = ["--url", nats_url, "--namespace", namespace]

    async def prepare() -> None:
        async with roost.connect(nats_url, namespace=namespace) as bus:
            await bus.submit(text, "y", key="b", delay_s=86_400)
            await bus.submit(text, "y", key="c", delay_s=172_800)

    asyncio.run(prepare())
    (row,) = [
        line.split("\t")
        for line in CliRunner().invoke(app, ["tasks", "ls", *where]).stdout.splitlines()
        if line.startswith("text\t")
    ]
    assert row[1] == "0"
    assert row[2].startswith("2, from ")
    shown = CliRunner().invoke(app, ["tasks", "show", "text:b", *where]).stdout
    assert re.search(r"status +open, delayed until \d\d", shown)
    _, found = told(*where)
    assert found["unserved"]["found"] == "none", "nobody is missed before they may begin"


@pytest.mark.parametrize(("in_work", "said"), [(0, "task_text, nobody pulls just now"), (14, "task_text")])
def test_workers_whose_hands_are_full_are_not_taken_for_absent(in_work: int, said: str) -> None:
    """Bug: two workers at 14 tasks had no hand free to pull with, and were told of as if nobody was there."""
    one = Backlog(
        name="text",
        waiting=16_000,
        in_work=in_work,
        delayed=0,
        next_s=None,
        dead=0,
        consumer="task_text",
        pulls=0,
        max_running=None,
        paused_until="",
    )
    assert consumer_words(one) == said


async def scan(name: str) -> str:
    return name


def test_a_run_that_only_a_person_can_help_is_told_of(nats_url: str, namespace: str) -> None:
    """Bug: a parked run was in no check, and who waited for it heard that it goes on."""
    plan = roost.Workflow("plan", str, str, ack_wait_s=0.5)
    go = roost.Signal("go", str)

    def agent_of(argument: str) -> roost.Agent[None]:
        agent = roost.Agent("planner")

        @agent.handles(plan)
        async def run(value: str, run: roost.Run[Any]) -> str:
            await run.step("scan", scan, argument)
            return await run.wait_for(go)

        return agent

    async def prepare() -> None:
        async with roost.connect(nats_url, namespace=namespace) as bus:
            handle = await bus.start(plan, "x", key="docs")
            place = RunSubjects(namespace, handle.id)
            for argument, record in (("x", f"{place.steps}"), ("another", place.state)):
                async with bus.serving(agent_of(argument)), asyncio.timeout(SOON_S):
                    while not await bus.log.subjects_matching(record):
                        await bus.link.client.flush()
            with pytest.raises(
                roost.RequestTimeout, match=r"Its run is parked, and a person has to help: .*'scan'"
            ):
                await handle.result(timeout_s=0.05)

    asyncio.run(prepare())
    code, found = told("--url", nats_url, "--namespace", namespace)
    assert code == 1
    assert found["runs"]["verdict"] == "fail"
    assert "1 parked" in found["runs"]["found"]
    assert "plan:docs" in found["runs"]["found"]


@pytest.mark.parametrize(("profile", "verdict"), [("dev", "warn"), ("durable", "ok")])
def test_the_server_of_a_profile_says_how_it_syncs(tmp_path: Path, profile: str, verdict: str) -> None:
    """Bug: of Roost's own server it was unknown, as it has no monitoring port."""
    with LocalServer(options_for(profile, store_dir=tmp_path / "store")) as server:
        _, found = told("--url", server.url)
    assert found["power cut"]["verdict"] == verdict


def test_a_group_of_dead_letters_that_is_mistyped_is_an_error(nats_url: str, namespace: str) -> None:
    async def prepare() -> None:
        async with roost.connect(nats_url, namespace=namespace) as bus:
            await bus.log.ensure()

    asyncio.run(prepare())
    for command in (["ls"], ["replay", "--yes"]):
        answer = CliRunner().invoke(
            app, ["dead", *command, "--group", "zz", "--url", nats_url, "--namespace", namespace]
        )
        assert answer.exit_code == 1
        assert "there is no group 'zz' of dead letters; `roost dead groups`" in answer.stderr


def test_prune_asks_on_a_terminal(nats_url: str, namespace: str) -> None:
    async def prepare() -> None:
        agent = roost.Agent("counter")

        @agent.handles(text)
        async def count(value: str) -> int:
            return len(value)

        async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
            await (await bus.submit(text, "abc")).result()
            await asyncio.sleep(1)  # a run is kept for a second at least

    asyncio.run(prepare())
    command = ["prune", "--older-than", "1s", "--url", nats_url, "--namespace", namespace]
    typed, terminal = pty.openpty()
    program = str(Path(sys.executable).with_name("roost"))
    asking = subprocess.Popen([program, *command], stdin=terminal, stdout=terminal, stderr=terminal)
    os.write(typed, b"n\n")
    assert asking.wait(SOON_S) == 1
    assert "Remove 1 ended runs of 2 records? [y/N]" in os.read(typed, 10_000).decode()
    os.close(typed)
    os.close(terminal)
    assert "1 ended runs of 2 records removed" in CliRunner().invoke(app, command).stdout
