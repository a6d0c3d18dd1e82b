"""`roost agents` on a terminal of 80 columns: an instance a line or two, and who is in trouble always in sight."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
from rich.console import Console
from test_fit import on_a_terminal

import roost
from roost import Agent
from roost.cli._agents_view import AgentsView, flow
from roost.discovery import AgentInfo, HandlerInfo
from roost.discovery.info import AgentState

LONG = "an-agent-with-a-name-of-36-characters-1-cs3yrr"


def instance(name: str, *serves: str, state: AgentState = "ready", handled: int = 0) -> AgentInfo:
    now_s = time.time()
    handlers = [
        HandlerInfo(kind="task", name=one, hash="h", running=0, limit=4, waiting=0, handled=handled, errors=0)
        for one in serves
    ]
    return AgentInfo(
        instance=name,
        agent=name,
        state=state,
        version="0.0.1",
        roost="0.1",
        host="host-of-the-farm",
        pid=7,
        started_s=now_s - 150,
        interval_s=2,
        handlers=tuple(handlers),
        heard_s=now_s,
    )


def lines(found: Sequence[AgentInfo], width: int = 80, height: int | None = None) -> list[str]:
    return [line.plain for line in AgentsView(found).lines(width, height)]


def test_an_instance_is_a_line_on_80_columns_and_nothing_of_it_is_folded() -> None:
    found = [
        instance("finder-1-cs3yrr", "look", "work", handled=1204),
        instance("indexer-1-p54h27", "index"),
    ]
    head, first, second = lines(found)
    assert head.split() == ["INSTANCE", "STATE", "RUNNING", "DONE", "VERSION", "UP", "SERVES"]
    assert first.split()[:3] == ["finder-1-cs3yrr", "ready", "0/8"]
    assert "2408" in first
    assert first.endswith("look, work")
    assert second.endswith("index")


def test_a_long_name_is_cut_in_the_middle_and_takes_no_column_from_the_others() -> None:
    _, *rows = lines([instance(LONG, "digest"), instance("finder-1-cs3yrr", "look", "work")])
    assert "an-agent-wi" in rows[0]
    assert "…" in rows[0]
    assert "cs3yrr  ready  0/4" in rows[0]
    assert "2 min" in rows[0]
    assert rows[0].endswith("digest")


@pytest.mark.parametrize("width", [40, 60, 80, 120, 200])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    many = [f"contract-number-{n}" for n in range(9)]
    found = [instance(LONG, *many), instance("finder-1-cs3yrr", "look", "work")]
    for line in lines(found, width) + lines(found, width, 10):
        assert len(line) < width
    assert len(lines(found, width)) <= 1 + 2 * len(found)


def test_of_a_single_instance_all_contracts_are_shown() -> None:
    many = [f"contract-number-{n}" for n in range(9)]
    assert sum(line.count("contract-number-") for line in lines([instance("finder-1-cs3yrr", *many)])) == 9


def test_contracts_without_room_are_counted() -> None:
    assert flow(["look", "work"], 10, 1) == ["look, work"]
    assert flow(["look", "work", "find"], 12, 1) == ["look +2"]
    assert flow(["look", "work", "find"], 12, 2) == ["look, work,", "find"]
    assert flow(["a" * 30, "b"], 12, 2) == ["aaaaaa…, b"]
    assert flow(["a" * 30, "b", "c"], 12, 1) == ["aaaaaa… +2"]
    assert flow([], 12, 2) == [""]


def test_a_watch_has_the_height_of_the_terminal_and_leaves_out_the_healthy_first() -> None:
    found = [instance(f"finder-{n:02}-cs3yrr", "look") for n in range(40)]
    found[30] = instance("finder-30-cs3yrr", "look", state="silent")
    found[39] = instance("finder-39-cs3yrr", "look", state="gone")
    shown = lines(found, 80, 23)
    assert len(shown) == 23
    assert [line.split()[1] for line in shown[-3:-1]] == ["silent", "gone"]
    assert shown[-1] == "and 19 more: 19 ready"
    assert len(lines(found[:22], 80, 23)) == 23, "all of them"

    console = Console(width=80, height=24, force_terminal=True, color_system=None)
    with console.capture() as drawn:
        console.print(AgentsView(found, whole=False))
    assert drawn.get().splitlines() == shown


async def test_the_command_draws_it_on_a_terminal(nats_url: str, namespace: str, tmp_path: Path) -> None:
    agent = Agent("finder", version="1.4.0")

    async def same(text: str) -> str:
        return text

    agent.handles(roost.Task("work", str, str))(same)
    agent.handles(roost.Endpoint("look", str, str))(same)
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent) as (one,):
        where = ("--url", nats_url, "--namespace", namespace)
        drawn = await asyncio.to_thread(on_a_terminal, 80, "agents", *where, cwd=tmp_path)
        assert len(drawn) == 2
        assert drawn[1].startswith(one.name)
        assert drawn[1].endswith("work, look")
