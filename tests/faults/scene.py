"""One row of the fault matrix at work: servers, processes under load, and what the independent checker found."""

from __future__ import annotations

import asyncio
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import nats
from nats.errors import Error as NatsError
from nats.js.errors import NotFoundError

from kill.checker import check
from kill.leader_processes import longest_gap_s, times_of
from kill.processes import Child, Nursery
from kill.run_checker import read
from roost.server import LocalCluster, LocalServer
from roost.testing.faults import Disk

RESULTS = Path(__file__).resolve().parents[2] / "docs" / "reliability.json"
NAMESPACE = "faults"
STREAM = f"ROOST_{NAMESPACE}"
STRANGER = "x"
"""The run in whose name a row writes garbage into the log."""
RATE = 100.0
"""Tasks per second."""
WARM_S = 1.5
"""Load before a fault, and after it, so that unavailability has a beginning and an end."""
CONVERGE_S = 60.0
STOP_S = 20.0

Server = LocalServer | LocalCluster


@dataclass
class Found:
    """What one row came to. `broken` is under each broken promise how many broke it, and the first of them."""

    tasks: int = 0
    lost: int = 0
    doubled: int = 0
    longest_unavailable_s: float = 0.0
    """The longest time between two acknowledged submissions."""
    longest_still_s: float = 0.0
    """The longest time between two outcomes."""
    outcomes: dict[str, int] = field(default_factory=dict)
    broken: dict[str, list[str]] = field(default_factory=dict)
    said: list[str] = field(default_factory=list)
    """What a user was told meanwhile."""


class Scene:
    """``async with Scene(server, folder, seed) as scene``: a submitter and two workers are at work then."""

    def __init__(
        self,
        server: Server,
        folder: Path,
        seed: int,
        *,
        workers: int = 2,
        rate: float = RATE,
        disk: Disk | None = None,
    ) -> None:
        self.server = server
        self.disk = disk
        self.folder = folder
        self.chance = random.Random(seed)
        self.seed = seed
        self.rate = rate
        self.url = server.url
        self.ids = folder / "ids.txt"
        self.more: list[str] = []
        """Further lines for the checker, of tasks that the row itself submits."""
        self.said: list[str] = []
        self.crashes: list[str] = []
        self.children: dict[str, Child] = {}
        self._workers = workers
        self._nursery = Nursery("faults.cast")
        self._mortal: set[str] = set()
        self.since = 0.0

    async def __aenter__(self) -> Scene:
        await self._nursery.__aenter__()
        try:
            for number in range(self._workers):
                await self.begin("worker", f"worker-{number}", self.folder / "starts.txt", self.seed, 0)
            if self.rate:
                await self.begin("submitter", "submitter", self.ids, self.seed, self.rate, 0, 1)
        except BaseException:
            await self._nursery.__aexit__()
            raise
        self.since = time.time()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._nursery.__aexit__()

    @property
    def clustered(self) -> bool:
        return isinstance(self.server, LocalCluster)

    async def begin(self, kind: str, name: str, *what: object, url: str = "", mortal: bool = False) -> Child:
        """Another process; returns when it is at work. One that is not mortal must end only when it is told to."""
        log = self.folder / f"{name}.log"
        child = await self._nursery.begin(kind, log, url or self.url, NAMESPACE, *what)
        self.children[name] = child
        if mortal:
            self._mortal.add(name)
        ready = asyncio.create_task(child.ready.wait())
        child.ended.add_done_callback(lambda _: ready.cancel())
        await asyncio.wait([ready], timeout=STOP_S)
        ready.cancel()
        assert child.ready.is_set(), f"{name} did not begin: {log.read_text()[-2000:]}"
        return child

    def signal(self, name: str, number: int) -> None:
        self._nursery.signal(self.children[name], number)

    async def kill(self, name: str) -> None:
        """SIGKILL to a process of the cast."""
        self._mortal.add(name)
        self.signal(name, signal.SIGKILL)
        await self.children[name].ended

    # Servers --------------------------------------------------------------------------------------

    def first(self) -> int:
        """The number of the server that a fault is for: of three, the one that leads the log."""
        return self.server.leader_of(STREAM) if isinstance(self.server, LocalCluster) else 0

    async def kill_server(self, number: int) -> None:
        if isinstance(self.server, LocalCluster):
            await asyncio.to_thread(self.server.kill, number)
        else:
            await asyncio.to_thread(self.server.kill)

    async def start_server(self, *numbers: int) -> None:
        if isinstance(self.server, LocalCluster):
            await asyncio.to_thread(self.server.start, *numbers)
        else:
            await asyncio.to_thread(self.server.restart)

    async def freeze_server(self, number: int, seconds: float) -> None:
        server = self.server.servers[number] if isinstance(self.server, LocalCluster) else self.server
        await asyncio.to_thread(server.pause)
        await asyncio.sleep(seconds)  # the length of the fault
        await asyncio.to_thread(server.resume)

    # The end --------------------------------------------------------------------------------------

    async def end(self) -> Found:
        """Stop submitting, wait until all has ended, and have the log recounted."""
        if self.rate:
            await asyncio.sleep(WARM_S)  # load after the fault
        until = time.time()
        await self.stop("submitter")
        await all_ended(self.url)
        await self.stop("")
        return await self.found(until)

    async def found(self, until: float, url: str = "") -> Found:
        lines = [*(self.ids.read_text().splitlines() if self.ids.exists() else []), *self.more]
        log = [one for one in await read(url or self.url, NAMESPACE) if one.tokens[0] != STRANGER]
        figures, broken = check([(one.seq, one.tokens, one.data) for one in log], lines)
        times = times_of(self.ids) if self.ids.exists() else {"ack": [], "told": []}
        told = Counter(detail for _, detail in times["told"])
        acks = [at for at, _ in times["ack"]]
        ends = [one.at_s for one in log if one.tokens[1] == "end"]
        gaps = [longest_gap_s(one, self.since, until) if self.rate else 0.0 for one in (acks, ends)]

        def count(*promises: str) -> int:
            return sum(int(broken.get(one, ["0"])[0].split()[0]) for one in promises)

        return Found(
            tasks=figures["accepted"],
            lost=count("accepted but not stored", "accepted without outcome"),
            doubled=count("several outcomes", "stored twice"),
            longest_unavailable_s=round(gaps[0], 2),
            longest_still_s=round(gaps[1], 2),
            outcomes={name: figures.get(name, 0) for name in ("done", "dead", "cancelled")},
            broken=broken | ({"processes that ended": self.crashes} if self.crashes else {}),
            said=[*self.said, *(f"{name} ({count} times)" for name, count in told.items())],
        )

    async def stop(self, kind: str) -> None:
        """Tell these to stop; what ended before, or does not end in order, is a crash."""
        told = {name: self.children.pop(name) for name in list(self.children) if name.startswith(kind)}
        for name, child in told.items():
            if not child.alive and name not in self._mortal:
                self.crashes.append(f"{name} ended by itself; see {self.folder / name}.log")
            self._nursery.signal(child, signal.SIGTERM)
        if told:
            await asyncio.wait([child.ended for child in told.values()], timeout=STOP_S)
        for name, child in told.items():
            if name not in self._mortal and (child.alive or child.ended.result()):
                how = "did not end in time" if child.alive else f"ended with {child.ended.result()}"
                self.crashes.append(f"{name} {how}; see {self.folder / name}.log")


Act = Callable[[Scene], Awaitable[None]]


async def stored_ids(url: str) -> set[str]:
    """The ids of all tasks in the log, none if there is no log any more."""
    try:
        return {one.tokens[3] for one in await read(url, NAMESPACE) if one.tokens[1] == "task"}
    except NotFoundError:
        return set()


async def all_ended(url: str, *, timeout_s: float = CONVERGE_S) -> None:
    """Wait until no task waits, runs or is in backoff."""
    changed = asyncio.Event()

    async def note(message: object) -> None:
        changed.set()

    client = await nats.connect(url.split(","))
    try:
        await client.subscribe(f"{NAMESPACE}.live.run.*.end.>", cb=note)
        until = time.monotonic() + timeout_s
        while time.monotonic() < until:
            changed.clear()
            if not await _at_work(client):
                return
            with suppress(TimeoutError):  # the last acks follow the last outcome
                await asyncio.wait_for(changed.wait(), 0.25)
    finally:
        await client.close()
    raise AssertionError(f"{timeout_s:g} s after the last submission there is work that has not ended")


async def _at_work(client: Any) -> int:
    found = 0
    for name in ("work", "bomb", "book", "chapter", "piece"):
        try:
            answer = await client.request(f"$JS.API.CONSUMER.INFO.{STREAM}.task_{name}", b"", timeout=2)
        except NatsError:
            return 1
        info = json.loads(answer.data)
        if info.get("error", {}).get("err_code") == 10014:
            continue  # nobody serves it in this row
        found += info["num_pending"] + info["num_ack_pending"] if "error" not in info else 1
    return found
