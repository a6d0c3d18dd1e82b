"""`roost schedules`, in this process: the commands, without the time that a process takes to start."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from pydantic import BaseModel
from typer.testing import CliRunner

import roost
from roost.cli.app import app
from roost.tasks.provision import timetable_stream


class Page(BaseModel):
    text: str


digest = roost.Task("digest", Page, int)


async def invoke(*arguments: str) -> Any:
    """On a thread of its own: a command has its own loop."""
    return await asyncio.to_thread(lambda: CliRunner().invoke(app, arguments))


async def test_an_operator_lists_pauses_resumes_and_cancels(nats_url: str, namespace: str) -> None:
    async def run(*arguments: str) -> Any:
        return await invoke("schedules", *arguments, "--url", nats_url, "--namespace", namespace)

    async def told(*arguments: str) -> Any:
        answer = await run(*arguments, "--json")
        assert answer.exit_code == 0, answer.output
        return json.loads(answer.stdout)

    assert await told("ls") == []
    async with roost.connect(nats_url, namespace=namespace) as bus:
        await bus.log.ensure()
        assert (await run("ls")).stderr == "no schedules\n"
        zone = "Europe/Amsterdam"
        await bus.schedule(digest, Page(text="x"), name="nightly", cron="0 0 3 * * *", timezone=zone)
        await bus.schedule(digest, Page(text="y"), name="often", every_s=90)
        nightly, often = await told("ls")
        assert nightly | {"next": ""} == {
            "name": "nightly",
            "task": "digest",
            "cron": "0 0 3 * * *",
            "every_s": None,
            "timezone": zone,
            "paused": False,
            "next": "",
            "last": None,
            "last_id": None,
            "input": {"text": "x"},
        }
        assert nightly["next"][11:19] in ("01:00:00", "02:00:00")
        assert (often["every_s"], often["timezone"]) == (90, None)
        heading, *rows = [line.split("\t") for line in (await run("ls")).stdout.splitlines()]
        assert heading == ["SCHEDULE", "TASK", "TIMES", "ZONE", "NEXT", "LAST"]
        assert [row[:4] for row in rows] == [
            ["nightly", "digest", "0 0 3 * * *", zone],
            ["often", "digest", "every 90 s", ""],
        ]
        assert (await told("pause", "often"))["paused"]
        assert [row.split("\t")[4] for row in (await run("ls")).stdout.splitlines()[2:]] == ["paused"]
        resumed = await run("resume", "often")
        assert resumed.stdout.startswith("often resumed, next ")
        assert (await run("cancel", "often")).stdout == "often cancelled\n"
        assert await told("cancel", "nightly") == {"name": "nightly", "cancelled": True}
        assert await told("ls") == []
        missing = await run("pause", "often")
        assert (missing.exit_code, "no schedule 'often'" in missing.stderr) == (1, True)
        assert (await run("pause", "*")).exit_code == 2


async def test_an_administrator_makes_their_stream_where_others_may_not(
    nats_url: str, namespace: str
) -> None:
    where = ["--url", nats_url, "--namespace", namespace, "--schedules", "--json"]
    for action in ("created", "unchanged"):
        answer = await invoke("provision", *where)
        assert answer.exit_code == 0, answer.output
        made = {one["what"]: one["action"] for one in json.loads(answer.stdout)}
        assert made == {f"stream ROOST_{namespace}": action, f"stream {timetable_stream(namespace)}": action}
