"""Workers, submitter and server are killed and paused under load; afterwards every task has its one outcome."""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import nats
from nats.errors import Error as NatsError

from kill.conftest import LONG_S
from kill.killer import WORKERS, Arena
from kill.processes import HERE, Nursery
from kill.work import BOMB_ATTEMPTS
from roost.server import LocalServer

NAMESPACE = "kill"
RATE = 400.0
"""Tasks per second that the submitter aims at, the times included in which it or the server is down."""
LEAST_RATE = 300.0
CONVERGE_S = 40.0
"""Seconds after the last fault within which all work must have ended."""


async def test_every_accepted_task_has_exactly_one_outcome_whatever_dies(
    own_server: LocalServer, tmp_path: Path, seed: int, seconds: float
) -> None:
    print(f"\nkill test: {seconds:g} s, seed {seed} (repeat with --roost-seed {seed}), files in {tmp_path}")
    async with Nursery() as nursery:
        arena = Arena(nursery, own_server, NAMESPACE, tmp_path, seed, RATE)
        try:
            await arena.start()
            await arena.rage(seconds)
            took_s = await arena.stop_submitting()
            calm_since = time.time()
            await all_ended(own_server.url, arena, calm_since)
            converged_s = time.time() - calm_since
        finally:
            await arena.stop()
    verdict = await checked(own_server.url, arena)
    report(arena, verdict, took_s, converged_s)
    assert verdict["faults"] == {}
    assert not arena.crashes
    if seconds < LONG_S:
        return  # so short a run says little about rates, and the machine may have other tests to run
    rate = verdict["figures"]["accepted"] / took_s
    assert rate >= LEAST_RATE, f"only {rate:.0f} tasks per second; the machine is too busy for this test"


async def all_ended(url: str, arena: Arena, calm_since: float) -> None:
    """Wait until no task waits or runs. Fails at once when a handler runs more often than it may."""
    changed = asyncio.Event()

    async def note(message: object) -> None:
        changed.set()

    client = await nats.connect(url)
    try:
        await client.subscribe(f"{NAMESPACE}.live.run.*.end.>", cb=note)
        while time.time() - calm_since < CONVERGE_S:
            changed.clear()
            assert_bombs_end(arena, calm_since)
            if not await at_work(client):
                assert_bombs_end(arena, calm_since)
                return
            try:
                async with asyncio.timeout(0.25):
                    await changed.wait()
            except TimeoutError:
                continue
    finally:
        await client.close()
    raise AssertionError(f"after {CONVERGE_S:g} s without faults there is work that has not ended")


async def at_work(client: Any) -> int:
    """Tasks that wait, run, or are in backoff."""
    found = 0
    for consumer in ("task_work", "task_bomb"):
        try:
            answer = await client.request(
                f"$JS.API.CONSUMER.INFO.ROOST_{NAMESPACE}.{consumer}", b"", timeout=2
            )
        except NatsError:
            return 1
        info = json.loads(answer.data)
        found += info["num_pending"] + info["num_ack_pending"] if "error" not in info else 1
    return found


def assert_bombs_end(arena: Arena, calm_since: float) -> None:
    """A handler that kills its process runs at most attempts + 1 times, but for what a fault excuses.

    A crash of the server may make it forget a delivery, and a pause (of a worker, or of the server, beyond the
    ack wait) lets two workers run the same attempt: each such fault while the task was at work allows for one
    run more. In calm nothing does.
    """
    for id, times in runs(arena).items():
        if not id.startswith("bomb:"):
            continue
        excused = sum(
            fault.kind in ("server killed", "server paused", "worker paused")
            and fault.to_s >= times[0]
            and fault.from_s <= times[-1]
            for fault in arena.faults
        )
        assert len(times) <= BOMB_ATTEMPTS + 1 + excused, (
            f"{id} ran {len(times)} times, {excused} excused: {times}"
        )
        in_calm = [at for at in times if at > calm_since]
        assert len(in_calm) <= BOMB_ATTEMPTS + 1, f"{id} ran {len(in_calm)} times although no fault befell it"


def runs(arena: Arena) -> dict[str, list[float]]:
    """When the handler of each task started."""
    found: dict[str, list[float]] = defaultdict(list)
    if arena.starts.exists():
        for line in arena.starts.read_text().splitlines():
            id, _, at = line.rpartition(" ")
            found[id].append(float(at))
    return found


async def checked(url: str, arena: Arena) -> Any:
    """The independent checker's verdict."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        str(HERE / "checker.py"),
        url,
        NAMESPACE,
        str(arena.ids),
        stdout=asyncio.subprocess.PIPE,
    )
    said, _ = await process.communicate()
    verdict = json.loads(said)
    assert (process.returncode == 0) == verdict["ok"]
    return verdict


def report(arena: Arena, verdict: Any, took_s: float, converged_s: float) -> None:
    figures, started = verdict["figures"], runs(arena)
    again = sum(len(times) - 1 for times in started.values())
    bombs = [len(times) for id, times in started.items() if id.startswith("bomb:")]
    print(f"  rate      {figures['accepted'] / took_s:.0f}/s accepted, {took_s:.1f} s, {WORKERS} workers")
    print(f"  faults    {dict(Counter(fault.kind for fault in arena.faults))}")
    print(f"  deaths    {dict(arena.deaths)}")
    print(f"  log       {figures}")
    print(
        f"  runs      {sum(map(len, started.values()))}, of them {again} beyond a task's first; bombs {bombs}"
    )
    print(f"  calm      all ended {converged_s:.1f} s after the last fault")
    print(f"  verdict   {verdict['faults'] or 'every task has its one outcome'}")
