"""`roost agents` as an operator meets it."""

from __future__ import annotations

import asyncio
import json
import signal
import subprocess
import sys
from pathlib import Path

from discovery_kit import PATIENCE_S, counter, everything

import roost
from roost.server import LocalServer

ROOST = str(Path(sys.executable).with_name("roost"))


async def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(
        lambda: subprocess.run([ROOST, *arguments], capture_output=True, text=True, timeout=60, check=False)
    )


async def test_agents_are_listed_for_people_and_for_programs(nats_url: str, namespace: str) -> None:
    where = ("--url", nats_url, "--namespace", namespace)
    async with roost.connect(nats_url, namespace=namespace) as bus:
        nobody = await run("agents", *where)
        assert (nobody.returncode, nobody.stdout, nobody.stderr) == (0, "", "no agent answers\n")
        async with bus.serving(everything(), counter()) as (clerk, other):
            listed = await run("agents", *where)
            assert listed.returncode == 0, listed.stderr
            heading, *rows = [line.split("\t") for line in listed.stdout.splitlines()]
            assert heading[:4] == ["INSTANCE", "STATE", "RUNNING", "WAITING"]
            assert [row[0] for row in rows] == [clerk.name, other.name]
            assert rows[1][1:3] == ["ready", "0/2"]
            assert rows[1][-1] == "count (endpoint)"
            assert "digest (task), audit (workflow), count (endpoint), spell (stream)" in rows[0][-1]

            found = json.loads((await run("agents", "counter", "--json", *where)).stdout)
            assert [one["instance"] for one in found] == [other.name]
            assert found[0]["handlers"][0]["schemas"]["input"]["title"] == "Page"
            some = await run("agents", "--handles", "digest", *where)
            assert [line.split("\t")[0] for line in some.stdout.splitlines()[1:]] == [clerk.name]
            none = await run("agents", "--handles", "nothing", *where)
            assert none.stderr == "no agent answers that serves nothing\n"
            wrong = await run("agents", "a.b", *where)
            assert wrong.returncode == 2


async def test_a_watch_prints_each_change_until_ctrl_c(nats_url: str, namespace: str) -> None:
    process = await asyncio.create_subprocess_exec(
        *(ROOST, "agents", "--watch", "--json", "--url", nats_url, "--namespace", namespace),
        stdout=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    try:
        async with roost.connect(nats_url, namespace=namespace) as bus, asyncio.timeout(PATIENCE_S):
            async with bus.serving(counter()) as (instance,):
                line = json.loads(await process.stdout.readline())
                assert (line["change"], line["instance"]) == ("joined", instance.name)
            while line["change"] != "left":
                line = json.loads(await process.stdout.readline())
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130
    finally:
        if process.returncode is None:
            process.kill()
        await process.stdout.read()
        await process.wait()


async def test_a_watch_says_that_the_server_is_away_and_shows_nobody_as_ready(
    own_server: LocalServer,
) -> None:
    """For as long as one looked, all of them were ready."""
    process = await asyncio.create_subprocess_exec(
        *(ROOST, "agents", "--watch", "--json", "--url", own_server.url),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    assert process.stdout is not None
    assert process.stderr is not None
    try:
        async with roost.connect(own_server.url) as bus, asyncio.timeout(PATIENCE_S):
            async with bus.serving(counter(), heartbeat_s=0.3):
                assert json.loads(await process.stdout.readline())["change"] == "joined"
                own_server.kill()
                assert b" connection to the server lost: " in await process.stderr.readline()
                while json.loads(await process.stdout.readline())["state"] != "silent":
                    pass
                own_server.restart()
                assert b" connected again" in await process.stderr.readline()
                while json.loads(await process.stdout.readline())["state"] != "ready":
                    pass
    finally:
        process.send_signal(signal.SIGINT)
        await process.communicate()
