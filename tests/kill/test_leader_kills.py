"""Of three servers the one that leads the log is killed, again and again: nothing is lost, and work stops briefly.

`make kill-cluster` runs the long form: a kill every 20 s for 3 minutes, its figures in `results/leader-kills.json`.
The short form kills once. No process of Roost may end: nobody restarts anything but the killed server.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import signal
import subprocess
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import nats
import pytest
from nats.errors import Error as NatsError

import roost
from kill.checker import check
from kill.leader_processes import longest_gap_s, times_of
from kill.processes import HERE, Child, Nursery
from kill.run_checker import Stored, check_runs, read
from kill.run_work import Book, Count, Report, approval, book, expected
from roost.errors import ServerUnavailable
from roost.server import LocalCluster

T = TypeVar("T")

NAMESPACE = "leaders"
STREAM = f"ROOST_{NAMESPACE}"
RESULTS = HERE / "results" / "leader-kills.json"
EVERY_S = 20.0
LONG_KILLS = 9
AWAY_S = (2.0, 8.0)
"""How long a killed server stays away after another has taken over."""
MOST_GAP_S = 10.0
MOST_GAP_BUSY_S = 20.0
"""In the short form: the machine may have other tests to run meanwhile."""
CONVERGE_S = 40.0
STOP_S = 20.0
RATE, RATE_LONG = 60.0, 150.0
"""Tasks per second, of all submitters."""
CAST = ("worker", "pieces", "coordinator", "submitter")
CAST_LONG = (*CAST, "worker", "coordinator", "submitter")


@dataclass
class Kill:
    server: int
    at_s: float
    election_s: float
    """Seconds until another server said that it leads the log."""
    away_s: float = 0.0


class Cast:
    """The processes: none of them may end before it is told to."""

    def __init__(self, nursery: Nursery, folder: Path) -> None:
        self.folder = folder
        self.ids: list[Path] = []
        self.crashes: list[str] = []
        self._nursery = nursery
        self._children: dict[str, Child] = {}
        self.size = 0
        """Processes that were begun."""

    @property
    def starts(self) -> Path:
        """Where coordinators note what their runs do."""
        return self.folder / "starts-coordinator.txt"

    async def begin(self, url: str, seed: int, kinds: tuple[str, ...], rate: float) -> None:
        submitters = kinds.count("submitter")
        for number, kind in enumerate(kinds):
            if kind == "submitter":
                first = len(self.ids)
                self.ids.append(self.folder / f"ids-{first}.txt")
                what: tuple[object, ...] = (self.ids[-1], seed, rate / submitters, first, submitters)
            else:
                what = (self.folder / f"starts-{kind}.txt", f"{seed}/{number}", 0)
            log = self.folder / f"{kind}-{number}.log"
            self._children[log.stem] = await self._nursery.begin(kind, log, url, NAMESPACE, *what)
        self.size = len(self._children)
        async with asyncio.timeout(STOP_S):
            await asyncio.gather(*(child.ready.wait() for child in self._children.values()))

    async def stop(self, kind: str = "") -> None:
        """Tell these to stop; what ended before, or does not end in order, is a crash."""
        told = {name: self._children.pop(name) for name in list(self._children) if name.startswith(kind)}
        for name, child in told.items():
            if not child.alive:
                self.crashes.append(f"{name} ended by itself; see {self.folder / name}.log")
            self._nursery.signal(child, signal.SIGTERM)
        if told:
            await asyncio.wait([child.ended for child in told.values()], timeout=STOP_S)
        for name, child in told.items():
            if child.alive or child.ended.result():
                how = "did not end in time" if child.alive else f"ended with {child.ended.result()}"
                self.crashes.append(f"{name} {how}; see {self.folder / name}.log")


class Runs:
    """Runs that this process starts, each so that a kill comes while it is at work and another while it waits."""

    def __init__(self, bus: roost.Bus, file: Path) -> None:
        self.file = file
        self.told: Counter[str] = Counter()
        self._bus = bus
        self._open: list[roost.Handle[Report]] = []
        self._count = 0

    async def start(self) -> None:
        n = self._count
        self._count += 1
        with self.file.open("a") as file:
            file.write(f"try book:{n}\n")
            handle = await self._until_known(partial(self._bus.start, book, Book(n=n), key=str(n)))
            file.write(f"ok book:{n}\n")
        self._open.append(handle)

    async def end_all_but(self, count: int) -> None:
        """Approve the oldest, and await their reports."""
        while len(self._open) > count:
            handle = self._open.pop(0)
            n = int(handle.key)
            await self._until_known(partial(self._bus.signal, handle.id, approval, Count(n=n + 1)))
            assert await handle.result(timeout_s=CONVERGE_S) == expected(n)

    async def _until_known(self, call: Callable[[], Awaitable[T]]) -> T:
        """What a user does who is told that it is not known, or that it was not sent; a book takes one approval."""
        while True:
            try:
                return await call()
            except (roost.SubmissionUnknown, roost.NotConnected, roost.Disconnected) as error:
                self.told[type(error).__name__] += 1
                await asyncio.sleep(0.1)  # without a connection each try fails at once


@pytest.mark.slow_limit(400)
async def test_killed_leaders_lose_nothing_and_hold_work_up_for_less_than_ten_seconds(
    own_cluster: LocalCluster, tmp_path: Path, seed: int, pytestconfig: pytest.Config
) -> None:
    long = bool(pytestconfig.getoption("--long"))
    print(f"\nkilled leaders: seed {seed} (repeat with --roost-seed {seed}), files in {tmp_path}")
    url, chance = own_cluster.url, random.Random(seed)
    async with Nursery("kill.leader_processes") as nursery, roost.connect(url, namespace=NAMESPACE) as bus:
        cast, runs = Cast(nursery, tmp_path), Runs(bus, tmp_path / "books.txt")
        try:
            await runs.start()
            await cast.begin(url, seed, CAST_LONG if long else CAST, RATE_LONG if long else RATE)
            since = time.time()
            kills = await rage(own_cluster, runs, chance, LONG_KILLS if long else 1)
            until = time.time()
            await cast.stop("submitter")
            await runs.end_all_but(0)
            await all_ended(url)
        finally:
            await cast.stop()
    log = await asyncio.to_thread(lambda: asyncio.run(read(url, NAMESPACE)))
    faults = faults_of(log, cast, runs)
    figures = {
        "seed": seed,
        "load": round(os.getloadavg()[0], 1),
        **figures_of(log, cast, runs, kills, since, until),
        "faults": faults,
        "crashes": cast.crashes,
    }
    for name, value in figures.items():
        print(f"  {name:26} {value}")
    if long:
        kept = {"date": datetime.now(UTC).isoformat(timespec="seconds"), "commit": commit(), **figures}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(kept, indent=1) + "\n")
    assert faults == {}
    assert cast.crashes == []
    assert figures["runs_across_a_kill"] > 0, (
        "no run was at work when a leader was killed: that shows nothing"
    )
    for what in ("submissions", "outcomes"):
        gap_s = figures[f"longest_gap_{what}_s"]
        assert gap_s <= (MOST_GAP_S if long else MOST_GAP_BUSY_S), f"{gap_s} s without {what}"


async def rage(cluster: LocalCluster, runs: Runs, chance: random.Random, count: int) -> list[Kill]:
    """Kill the leader so often, each time with a run at work; the killed server comes back before the next kill."""
    kills: list[Kill] = []
    began = time.time()
    for number in range(count):
        await asyncio.sleep(max(0.0, began + number * EVERY_S + 2.0 - time.time()))  # the tempo of the faults
        leader = await asyncio.to_thread(cluster.leader_of, STREAM)
        await runs.start()
        kill = Kill(leader, time.time(), 0.0)
        await asyncio.to_thread(cluster.kill, leader)
        async with asyncio.TaskGroup() as group:
            group.create_task(runs.end_all_but(1), name="approve")  # while nobody leads
            await followed(cluster)
            kill.election_s = round(time.time() - kill.at_s, 2)
            await asyncio.sleep(chance.uniform(*AWAY_S) if count > 1 else 0)  # the length of the fault
            await asyncio.to_thread(cluster.start, leader)
            kill.away_s = round(time.time() - kill.at_s, 2)
        kills.append(kill)
    await asyncio.sleep(max(0.0, began + count * EVERY_S - time.time()) if count > 1 else 0)
    return kills


async def followed(cluster: LocalCluster) -> None:
    """Wait until another server leads the log."""
    while True:
        try:
            await asyncio.to_thread(cluster.leader_of, STREAM, timeout_s=0.0)
            return
        except ServerUnavailable:
            await asyncio.sleep(0.1)  # a server tells nobody that it leads now


async def all_ended(url: str) -> None:
    """Wait until no task and no run is at work."""
    changed = asyncio.Event()

    async def note(message: object) -> None:
        changed.set()

    client = await nats.connect(url.split(","))
    try:
        await client.subscribe(f"{NAMESPACE}.live.run.*.end.>", cb=note)
        until = asyncio.get_running_loop().time() + CONVERGE_S
        while asyncio.get_running_loop().time() < until:
            changed.clear()
            if not await at_work(client):
                return
            with suppress(TimeoutError):  # the last acks follow the last outcome
                await asyncio.wait_for(changed.wait(), 0.25)
    finally:
        await client.close()
    raise AssertionError(f"{CONVERGE_S:g} s after the last submission there is work that has not ended")


async def at_work(client: Any) -> int:
    found = 0
    for name in ("work", "book", "chapter", "piece"):
        try:
            answer = await client.request(f"$JS.API.CONSUMER.INFO.{STREAM}.task_{name}", b"", timeout=2)
        except NatsError:
            return 1
        info = json.loads(answer.data)
        found += info["num_pending"] + info["num_ack_pending"] if "error" not in info else 1
    return found


def is_task(record: Stored) -> bool:
    """Whether it is of a submitter's task, and not of a run."""
    return record.tokens[0].startswith("work:")


def faults_of(log: list[Stored], cast: Cast, runs: Runs) -> dict[str, list[str]]:
    """What the checkers of tasks and of runs find, each in its part of the log."""
    lines = [line for path in cast.ids for line in path.read_text().splitlines()]
    _, faults = check([(one.seq, one.tokens, one.data) for one in log if is_task(one)], lines)
    starts = cast.starts.read_text().splitlines()
    verdict = check_runs([one for one in log if not is_task(one)], runs.file.read_text().splitlines(), starts)
    return faults | verdict.faults


def figures_of(
    log: list[Stored], cast: Cast, runs: Runs, kills: list[Kill], since: float, until: float
) -> dict[str, Any]:
    times = [times_of(path) for path in cast.ids]
    acks = [at for one in times for at, _ in one["ack"]]
    begun = {one.tokens[0]: one.at_s for one in log if is_task(one) and one.tokens[1] == "task"}
    ended = {one.tokens[0]: one.at_s for one in log if is_task(one) and one.tokens[1] == "end"}
    ends = [*ended.values()]
    statuses = Counter(json.loads(r.data)["status"] for r in log if is_task(r) and r.tokens[1] == "end")
    told = runs.told + Counter(detail for one in times for _, detail in one["told"])
    books = {one.tokens[0]: one.at_s for one in log if one.tokens[1:3] == ["task", "book"]}
    over = {one.tokens[0]: one.at_s for one in log if one.tokens[1:3] == ["end", "book"]}
    phases = zip([kill.at_s for kill in kills], [*(kill.at_s for kill in kills[1:]), until], strict=True)
    gaps = [[round(longest_gap_s(moments, *phase), 2) for moments in (acks, ends)] for phase in phases]
    return {
        "duration_s": round(until - since, 1),
        "processes": cast.size,
        "acknowledged": sum(
            line.startswith("ok ") for path in cast.ids for line in path.read_text().splitlines()
        ),
        "stored": len(begun),
        **statuses,
        "runs": len(over),
        "runs_across_a_kill": sum(
            any(at < k.at_s < over.get(run, until) for k in kills) for run, at in books.items()
        ),
        "kills": len(kills),
        "elections_s": [kill.election_s for kill in kills],
        "servers_away_s": [kill.away_s for kill in kills],
        "gaps_submissions_s": [gap[0] for gap in gaps],
        "gaps_outcomes_s": [gap[1] for gap in gaps],
        "longest_gap_submissions_s": round(longest_gap_s(acks, since, until), 2),
        "longest_gap_outcomes_s": round(longest_gap_s(ends, since, until), 2),
        "longest_submission_s": max(float(detail) for one in times for _, detail in one["ack"]),
        "longest_task_s": round(max(at - begun[id] for id, at in ended.items() if id in begun), 2),
        "longest_wait_s": max(float(detail) for one in times for _, detail in one["saw"]),
        "failures": dict(told),
    }


def commit() -> str:
    """The commit that was tested, with a + if files were changed since."""

    def git(*words: str) -> str:
        return subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True, check=True).stdout

    return git("rev-parse", "HEAD").strip() + ("+" if git("status", "--porcelain", "--", "../../src") else "")
