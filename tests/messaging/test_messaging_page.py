"""The code of docs/messaging.md runs as it stands there, and its figures are those of the code."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Awaitable
from pathlib import Path
from typing import Any

import pytest

import roost
from roost.messaging import endpoints, streams, topics
from roost.runtime import run_agent

PAGE = (Path(__file__).parents[2] / "docs" / "messaging.md").read_text(encoding="utf-8")


async def test_its_snippets_run(nats_url: str, namespace: str, capsys: pytest.CaptureFixture[str]) -> None:
    contracts, *calls = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    assert len(calls) == 7
    names: dict[str, Any] = {"__name__": "page"}
    exec(compile(contracts, "messaging.md", "exec"), names)
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(names["agent"]) as (one,):
        names["bus"] = bus
        for call in calls:
            running = eval(compile(call, "messaging.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
            if isinstance(running, Awaitable):
                await running
        said = capsys.readouterr().out.splitlines()
    assert "w1 half done" in said, "the topic's message"
    assert names["facts"].text == "about owls"
    assert f"{one.name} about owls" in said, "of everybody"
    assert [line for line in said if " " not in line] == ["the", "short", "story", "of", "owls"]
    assert f"joined {one.name} 1" in said
    assert any(each.pattern == "team.*.status" for each in names["found"].receivers)
    assert any(line.startswith(f"{one.name} ready 0/") and "'lookup'" in line for line in said)


def test_its_figures_are_those_of_the_code() -> None:
    assert f"At most {streams.WINDOW} chunks" in PAGE
    assert f"{streams.SILENT_S:g} s it gives up" in PAGE
    assert f"{endpoints.BACKLOG:,} waited already" in PAGE
    assert f"finds {topics.BACKLOG:,} waiting" in PAGE
    for call, name, default in (("request", "timeout_s", 5), ("ask_all", "quiet_s", 0.5)):
        assert inspect.signature(getattr(roost.Bus, call)).parameters[name].default == default
    assert run_agent.__name__ in PAGE
