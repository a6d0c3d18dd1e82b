"""What an administrator types about retention: set it, see it, remove runs by hand."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

from test_operator import Operator, Page, agent, digest

import roost
from roost import Bus, Task

SOON_S = 20.0


async def ended(bus: Bus, count: int) -> None:
    """So many tasks that were done, and one that nobody does."""
    async with bus.serving(agent):
        for handle in await bus.submit_many(digest, [Page(text=str(n)) for n in range(count)]):
            await handle.result(timeout_s=SOON_S)
    await bus.submit(Task("nobody", Page, int), Page(text="x"))


async def test_retention_is_set_seen_and_taken_back(nats_url: str, namespace: str, tmp_path: Path) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        operator = Operator(bus, nats_url, tmp_path)
        refused = await operator("provision", "--dead-retention", "1d")
        assert refused.returncode == 1
        assert "kept for ever" in refused.stderr
        assert (await operator("provision", "--retention", "7d", "--dead-retention", "30d")).returncode == 0
        found = await operator.json("status")
        assert (found["retention_s"], found["dead_retention_s"]) == (7 * 86_400, 30 * 86_400)
        changed = await operator("provision", "--retention", "1h30m")
        assert "metadata.roost.retention_s: '604800' -> '5400'" in changed.stdout
        assert (
            "1 h 30 min after the end of a run; with dead letters 30 d" in (await operator("status")).stdout
        )
        keep = await operator("provision", "--retention", "keep", "--dead-retention", "keep")
        assert keep.returncode == 0
        assert "ended runs are kept for ever" in (await operator("status")).stdout


async def test_runs_are_removed_by_hand(nats_url: str, namespace: str, tmp_path: Path) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        operator = Operator(bus, nats_url, tmp_path)
        await ended(bus, 4)
        answer = await operator("prune")
        assert answer.returncode == 1
        assert "give --older-than" in answer.stderr
        async with asyncio.timeout(SOON_S):
            while (found := await operator.json("prune", "--older-than", "1s", "--dry-run"))["runs"] < 4:
                continue
        assert found == {"runs": 4, "records": 8, "dead_letters": 0, "removed": False}
        assert "4 ended runs of 8 records removed" in (await operator("prune", "--older-than", "1s")).stdout
        assert (await operator.json("prune", "--older-than", "1s"))["runs"] == 0
        assert len(await bus.log.read_all(f"{namespace}.run.>")) == 1


async def test_a_process_for_nothing_but_upkeep(nats_url: str, namespace: str, tmp_path: Path) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        await ended(bus, 3)
        await Operator(bus, nats_url, tmp_path)("provision", "--retention", "1s")
        roost_command = str(Path(sys.executable).with_name("roost"))
        process = await asyncio.create_subprocess_exec(
            roost_command, "upkeep", "--url", nats_url, "--namespace", namespace, stderr=PIPE
        )
        assert process.stderr is not None
        async with asyncio.timeout(SOON_S):
            while b"runs_pruned" not in (line := await process.stderr.readline()):
                assert line, "it ended"
            process.send_signal(signal.SIGINT)
            await process.stderr.read()
            assert await process.wait() == 0
        assert b"3 ended runs of 6 records" in line
        assert json.loads((await bus.log.read_all(f"{namespace}.run.>"))[0].data) == {"text": "x"}
