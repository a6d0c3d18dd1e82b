"""Coordinators, workers, the starter and the server are killed and paused; afterwards every run has its one report."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from pathlib import Path
from typing import Any

import nats
import pytest
from nats.errors import Error as NatsError

from kill.processes import Nursery
from kill.run_checker import Verdict, check_runs, read
from kill.run_processes import RunArena
from roost.server import LocalServer

NAMESPACE = "killruns"
RATE = 4.0
"""Runs per second, of some twenty tasks and two runs below each."""
CONVERGE_S = 60.0
"""Seconds after the last fault within which all runs must have ended."""


@pytest.mark.slow_limit(600)
async def test_every_run_ends_with_the_report_of_an_undisturbed_one_whatever_dies(
    own_server: LocalServer, tmp_path: Path, seed: int, seconds: float
) -> None:
    print(
        f"\nkill test of runs: {seconds:g} s, seed {seed} (repeat with --roost-seed {seed}), files in {tmp_path}"
    )
    async with Nursery("kill.run_processes") as nursery:
        arena = RunArena(nursery, own_server, NAMESPACE, tmp_path, seed, RATE)
        await arena.start()
        await arena.rage(seconds)
        await arena.stop_submitting()
        calm_since = time.time()
        try:
            await all_ended(own_server.url, arena)
            converged_s = time.time() - calm_since
        finally:
            await arena.stop()
    log = await asyncio.to_thread(lambda: asyncio.run(read(own_server.url, NAMESPACE)))
    lines = [await asyncio.to_thread(path.read_text) for path in (arena.ids, arena.starts)]
    verdict = check_runs(log, *(text.splitlines() for text in lines))
    report(arena, verdict, converged_s)
    assert verdict.faults == {}
    assert not arena.crashes
    assert verdict.figures["takeovers"] > verdict.figures["runs"], (
        "no run was ever resumed: that shows nothing"
    )


async def all_ended(url: str, arena: RunArena) -> None:
    """Wait until no task and no run is at work."""
    changed = asyncio.Event()

    async def note(message: object) -> None:
        changed.set()

    client = await nats.connect(url)
    try:
        await client.subscribe(f"{NAMESPACE}.live.run.*.end.>", cb=note)
        until = asyncio.get_running_loop().time() + CONVERGE_S
        while asyncio.get_running_loop().time() < until:
            changed.clear()
            if not await at_work(client):
                return
            try:
                async with asyncio.timeout(0.25):
                    await changed.wait()
            except TimeoutError:
                continue
    finally:
        await client.close()
    raise AssertionError(f"after {CONVERGE_S:g} s without faults there are runs that have not ended")


async def at_work(client: Any) -> int:
    found = 0
    for name in ("book", "chapter", "piece"):
        try:
            answer = await client.request(
                f"$JS.API.CONSUMER.INFO.ROOST_{NAMESPACE}.task_{name}", b"", timeout=2
            )
        except NatsError:
            return 1
        info = json.loads(answer.data)
        found += info["num_pending"] + info["num_ack_pending"] if "error" not in info else 1
    return found


def report(arena: RunArena, verdict: Verdict, converged_s: float) -> None:
    print(f"  faults    {dict(Counter(fault.kind for fault in arena.faults))}")
    print(f"  deaths    {dict(arena.deaths)}")
    print(f"  log       {verdict.figures}")
    print(f"  calm      all ended {converged_s:.1f} s after the last fault")
    print(f"  verdict   {verdict.faults or 'every run has the report of an undisturbed one'}")
