"""What an operator sees of a contract that is paused. Commands are called in this process: it is cheaper."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from typer.testing import CliRunner

import roost
from roost.cli.app import app

digest = roost.Task("digest", str, int, max_running=4)


@pytest.fixture
def where(nats_url: str, namespace: str) -> list[str]:
    """Options of a command on a namespace with a consumer of `digest` and three tasks that wait."""

    async def prepare() -> None:
        async with roost.connect(nats_url, namespace=namespace) as bus:
            await bus.log.ensure_consumer(digest)
            await bus.submit_many(digest, ["a", "b", "c"])

    asyncio.run(prepare())
    return ["--url", nats_url, "--namespace", namespace]


def told(*arguments: str) -> Any:
    answer = CliRunner().invoke(app, [*arguments, "--json"])
    assert answer.exit_code == 0, answer.output
    return json.loads(answer.stdout)


def test_a_pause_is_seen_in_the_list_and_in_the_status_until_it_is_resumed(where: list[str]) -> None:
    ends = told("tasks", "pause", "digest", "--for", "1h", *where)["paused_until"]
    (one,) = told("tasks", "ls", *where)
    assert (one["name"], one["waiting"], one["max_running"], one["paused_until"]) == ("digest", 3, 4, ends)
    assert told("status", *where)["paused"] == [{"name": "digest", "until": ends}]

    said = CliRunner().invoke(app, ["tasks", "pause", "digest", *where])
    assert said.stdout == "digest is paused until resumed; 3 waiting, 0 in work\n"
    said = CliRunner().invoke(app, ["tasks", "ls", *where])
    assert "digest\t3\t0\t0 of 4\t0\tpaused until resumed, task_digest\n" in said.stdout
    said = CliRunner().invoke(app, ["status", *where])
    assert "digest until resumed" in said.stdout

    assert told("tasks", "resume", "digest", *where) == {"name": "digest", "was_paused": True}
    assert told("tasks", "resume", "digest", *where) == {"name": "digest", "was_paused": False}
    assert told("status", *where)["paused"] == []


def test_what_cannot_be_paused_is_said(where: list[str]) -> None:
    said = CliRunner().invoke(app, ["tasks", "pause", "other", *where])
    assert (said.exit_code, said.stdout) == (1, "")
    assert "no worker of 'other' was ever started" in said.stderr
    said = CliRunner().invoke(app, ["tasks", "pause", "digest", "--for", "soon", *where])
    assert said.exit_code == 2
    assert "write a duration such as 30s" in said.stderr
