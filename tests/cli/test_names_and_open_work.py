"""What an operator writes finds what is meant, and what is open can be seen and moved on."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from pydantic import BaseModel
from test_operator import Operator, Page, agent, digest

import roost
from roost import Agent, Run, Signal, Task, Workflow
from roost.cli.naming import candidates
from roost.subjects import key_token

HASH = key_token("docs/a.md")


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("3f9a1c27b06e", ["3f9a1c27b06e"]),
        ("digest:readme", ["digest:readme"]),
        ("digest:docs/a.md", [f"digest:{HASH}"]),
        ("digest:docs/a.md:r2", [f"digest:{HASH}:r2", f"digest:{key_token('docs/a.md:r2')}"]),
        ("audit:b1/digest/pages:docs/a.md", [f"audit:b1/digest/pages:{HASH}"]),
        ("audit:docs/a.md/digest/pages:one", [f"audit:{HASH}/digest/pages:one"]),
        ("audit:b1/digest/one", ["audit:b1/digest/one"]),
        (">", []),
        ("*/digest/*", []),
        ("", []),
    ],
)
def test_a_key_is_found_as_it_was_chosen(text: str, wanted: list[str]) -> None:
    found = candidates(text)
    assert [one for one in found if one in wanted] == wanted
    assert (found[:1] == [text]) == (text in wanted)
    assert all("*" not in one and ">" not in one and "." not in one for one in found)


class Yes(BaseModel):
    by: str


approval = Signal("approval", Yes)
review = Workflow("review", Page, str)
unserved = Task("unserved", Page, int)
boss = Agent("boss")


@boss.handles(review)
async def do_review(page: Page, run: Run) -> str:
    await run.call(digest, page)
    return (await run.wait_for(approval, timeout_s=60)).by


async def test_a_task_with_a_path_as_its_key_is_shown_replayed_and_drawn(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        operator = Operator(bus, nats_url, tmp_path)
        handle = await operator.task("bad", "docs/a b.md")
        name = "digest:docs/a b.md"
        assert (await operator.json("dead", "show", name))["id"] == handle.id
        assert (await operator.json("tasks", "show", name))["id"] == handle.id
        assert (await operator("timeline", name)).returncode == 0
        assert f"replayed as {handle.id}/digest/" in (await operator("dead", "replay", name)).stdout
        answer = await operator("dead", "show", "digest:docs/other.md")
        assert answer.stderr.startswith("roost: there is no task 'digest:docs/other.md' in ROOST_")


async def test_one_bad_id_keeps_no_other_dead_letter_from_being_replayed(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        operator = Operator(bus, nats_url, tmp_path)
        first, second = await operator.task("bad", "a"), await operator.task("bad", "b")
        answer = await operator("dead", "replay", first.id, "nosuch", second.id)
        assert answer.returncode == 1
        assert [line.split()[0] for line in answer.stdout.splitlines()] == [first.id, second.id]
        assert "roost: nosuch was not replayed: there is no task 'nosuch'" in answer.stderr
        assert "2 of 3 dead letters replayed" in answer.stderr


async def test_a_list_of_nothing_says_which_names_have_something(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent, boss):
        operator = Operator(bus, nats_url, tmp_path)
        await operator.task("bad", "a")
        run = await bus.start(review, Page(text="fine"), key="docs/b1")
        await bus.signal(run.id, approval, Yes(by="ann"))
        await run.result(timeout_s=20)
        answer = await operator("dead", "ls", "zzz")
        assert answer.stderr == "no dead letters of zzz; there are some of digest (1)\n"
        answer = await operator("runs", "ls", "zzz")
        assert answer.stderr == "no runs of zzz; there are some of review (1)\n"


async def test_what_is_open_is_told_for_each_contract(nats_url: str, namespace: str, tmp_path: Path) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        operator = Operator(bus, nats_url, tmp_path)
        async with bus.serving(agent):
            await operator.task("bad", "a")
        await bus.submit_many(digest, [Page(text="x")] * 3)
        await bus.submit_many(unserved, [Page(text="x")] * 2)
        cancelled = await bus.submit(unserved, Page(text="x"))
        await cancelled.cancel("not wanted")
        found = {one["name"]: one for one in await operator.json("tasks", "ls")}
        assert sorted(found) == ["digest", "unserved"]
        numbers = [found["digest"][name] for name in ("waiting", "in_work", "dead", "consumer")]
        assert numbers == [3, 0, 1, "task_digest"]
        answer = await operator("tasks", "ls")
        assert "unserved\t2\t0\t0\t0\tnone: no worker was ever started\n" in answer.stdout


async def test_a_run_is_approved_from_a_shell(nats_url: str, namespace: str, tmp_path: Path) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent, boss):
        operator = Operator(bus, nats_url, tmp_path)
        run = await bus.start(review, Page(text="fine"), key="docs/b1")
        await _begun(operator, run.id)

        answer = await operator("timeline", "review:docs/b1")
        assert f"roost runs timeline {run.id}" in answer.stderr

        answer = await operator("runs", "signal", "review:docs/b1", "approval", "{by: ann}")
        assert answer.returncode == 2
        assert "is no JSON" in answer.stderr
        answer = await operator("runs", "signal", "review:nosuch", "approval", "{}")
        assert (answer.returncode, answer.stdout) == (1, "")
        assert "there is no run 'review:nosuch'" in answer.stderr
        answer = await operator("runs", "signal", "review:docs/b1", "approval", '{"by": "ann"}')
        assert answer.returncode == 0, answer.stderr
        assert await run.result(timeout_s=20) == "ann"
        answer = await operator("runs", "signal", "review:docs/b1", "approval", '{"by": "ann"}')
        assert answer.returncode == 1
        assert "is over" in answer.stderr


async def test_a_cancelled_run_is_said_to_be(nats_url: str, namespace: str, tmp_path: Path) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent, boss):
        operator = Operator(bus, nats_url, tmp_path)
        run = await bus.start(review, Page(text="fine"), key="docs/b2")
        await _begun(operator, run.id)
        answer = await operator("runs", "cancel", "review:docs/b2")
        assert (answer.returncode, answer.stderr) == (
            0,
            "run review:docs/b2 is cancelled, and all below it\n",
        )


async def _begun(operator: Operator, run: str) -> None:
    """As soon as a coordinator has taken it up; woken by the live feed."""
    bus, news = operator.bus, asyncio.Event()
    epoch = f"{bus.namespace}.run.{run}.epoch"
    listener = bus.link.client.listen(epoch.replace(".run.", ".live.run.", 1), lambda _: news.set())
    try:
        async with asyncio.timeout(20):
            while not await bus.log.newest([epoch]):
                news.clear()
                if not await bus.log.newest([epoch]):
                    await news.wait()
    finally:
        bus.link.client.unlisten(listener)
