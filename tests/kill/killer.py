"""Server, workers and submitter as processes, and the faults that befall them at seeded moments.

The faults come from a shuffled deck, so that even a short run has each kind; when and whom is drawn from the same
seed. Everything that is killed or paused is one of the processes that were started here.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kill.processes import Child, Nursery
from kill.work import ACK_WAIT_S
from roost.server import LocalServer

WORKERS = 4
PAUSE_S = 1.5 * ACK_WAIT_S
DECK = (
    ["worker killed"] * 5
    + ["worker paused"] * 4
    + ["server killed"] * 3
    + ["server paused"]
    + ["submitter killed"] * 3
)
GAP_S = (0.2, 1.0)
"""Seconds between two faults."""
OWN_DEATH_S = (0.2, 2.5)
"""Seconds after which most workers die by themselves, in the middle of what they send."""
STOP_S = 15
CUT = 1000
DEATHS = {-signal.SIGKILL: "SIGKILL", CUT: "while sending", 9: "os._exit", 0: "in order"}
"""How a process may end, by exit code."""


@dataclass(frozen=True, slots=True)
class Fault:
    kind: str
    from_s: float
    to_s: float


class Arena:
    """The processes of one run. `namespace` is the log's; files are kept under `folder`."""

    def __init__(
        self, nursery: Nursery, server: LocalServer, namespace: str, folder: Path, seed: int, rate: float
    ) -> None:
        self.server = server
        self.ids = folder / "ids.txt"
        self.starts = folder / "starts.txt"
        self.faults: list[Fault] = []
        self.deaths: Counter[str] = Counter()
        self.crashes: list[str] = []
        self.began_s = 0.0
        """When the submitter was begun for the first time, seconds since 1970."""
        self._nursery = nursery
        self._namespace = namespace
        self._folder = folder
        self._seed = seed
        self._rate = rate
        self._chance = random.Random(seed)
        self._workers: dict[int, Child] = {}
        self._submitter: Child | None = None
        self._stopping = False
        self._calm = False
        self._spawned = 0
        self._killed: set[int] = set()
        self._keepers: list[asyncio.Task[None]] = []

    # Processes --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """All processes; each that dies is begun anew. Returns when the submitter is at work."""
        for slot in range(WORKERS):
            self._keepers.append(asyncio.create_task(self._keep_worker(slot), name=f"keep-worker-{slot}"))
        self.began_s = time.time()
        self._keepers.append(asyncio.create_task(self._keep_submitter(), name="keep-submitter"))
        await (await self._ready_submitter()).ready.wait()

    async def _keep_worker(self, slot: int) -> None:
        log = self._folder / f"worker-{slot}.log"
        while not self._stopping:
            self._spawned += 1
            seed = f"{self._seed}/{self._spawned}"
            chance = random.Random(seed)
            dies_after_s = chance.uniform(*OWN_DEATH_S) if not self._calm and chance.random() < 0.8 else 0
            where = (self.server.url, self._namespace, self.starts)
            child = self._workers[slot] = await self._nursery.begin("worker", log, *where, seed, dies_after_s)
            self._ended("worker", f"worker-{slot}", child, await child.ended)

    async def _keep_submitter(self) -> None:
        log = self._folder / "submitter.log"
        while not self._stopping:
            where = (self.server.url, self._namespace, self.ids)
            child = await self._nursery.begin("submitter", log, *where, self._seed, self._rate, self.began_s)
            self._submitter = child
            code = await child.ended
            self._ended("submitter", "submitter", child, code)
            if code != -signal.SIGKILL:
                return  # in order, or it crashed: then it would do so again

    def _ended(self, who: str, name: str, child: Child, code: int) -> None:
        """Note an end; any but a signal, a bomb or an orderly one is a crash of its own."""
        if code == -signal.SIGKILL and child.pid not in self._killed:
            code = CUT
        self.deaths[f"{who}: {DEATHS.get(code, f'exit code {code}')}"] += 1
        if code not in DEATHS:
            self.crashes.append(f"{name} ended with {code}; see its log in {self._folder}")

    async def _ready_submitter(self) -> Child:
        """The submitter, when there is one that is at work. AssertionError if it crashed."""
        while True:
            assert not self._keepers[-1].done(), f"the submitter has ended: {self.crashes}"
            child = self._submitter
            if child is None:
                await asyncio.sleep(0)
                continue
            ready = asyncio.ensure_future(child.ready.wait())
            either: list[asyncio.Future[Any]] = [ready, child.ended]
            await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            ready.cancel()
            if child.alive and child.ready.is_set():
                return child
            await asyncio.sleep(0)

    # Faults -----------------------------------------------------------------------------------------

    async def rage(self, seconds: float) -> None:
        """Faults for so long, then calm: everything that was paused goes on."""
        loop = asyncio.get_running_loop()
        until = loop.time() + seconds
        deck: list[str] = []
        async with asyncio.TaskGroup() as pauses:
            while True:
                gap_s = self._chance.uniform(*GAP_S)
                if loop.time() + gap_s >= until:
                    break
                await asyncio.sleep(gap_s)  # chance decides when, nothing is waited for
                if not deck:
                    deck = self._chance.sample(DECK, len(DECK))
                kind = deck.pop()
                if kind == "worker paused":
                    pauses.create_task(self._pause_worker(), name="pause-worker")
                else:
                    await self._strike(kind)
            self._calm = True
            await asyncio.sleep(max(0.0, until - loop.time()))

    async def _strike(self, kind: str) -> None:
        began = time.time()
        if kind == "worker killed":
            self._kill(self._workers.get(self._chance.randrange(WORKERS)))
        elif kind == "submitter killed":  # one that has not begun yet would leave nothing unknown behind
            self._kill(await self._ready_submitter())
        elif kind == "server killed":
            await asyncio.to_thread(self.server.kill)
            await asyncio.sleep(self._chance.uniform(0, 0.5))  # it stays away for a while
            await asyncio.to_thread(self.server.restart)
        else:
            await asyncio.to_thread(self.server.pause)
            await asyncio.sleep(PAUSE_S)  # the length of the fault
            await asyncio.to_thread(self.server.resume)
        self.faults.append(Fault(kind, began, time.time()))

    def _kill(self, child: Child | None) -> None:
        if child is not None and child.alive:
            self._killed.add(child.pid)
            self._nursery.signal(child, signal.SIGKILL)

    async def _pause_worker(self) -> None:
        child = self._workers.get(self._chance.randrange(WORKERS))
        if child is None:
            return
        began = time.time()
        self._nursery.signal(child, signal.SIGSTOP)
        try:
            await asyncio.sleep(PAUSE_S)  # the length of the fault
        finally:
            self._nursery.signal(child, signal.SIGCONT)
        self.faults.append(Fault("worker paused", began, time.time()))

    # The end ----------------------------------------------------------------------------------------

    async def stop_submitting(self) -> float:
        """Let the submitter finish what it is at; the seconds for which it was submitting."""
        while True:
            child = await self._ready_submitter()
            self._nursery.signal(child, signal.SIGTERM)
            if await child.ended != -signal.SIGKILL:  # else it was dying already, and there is another one
                break
        await self._keepers[-1]
        return time.time() - self.began_s

    async def stop(self) -> None:
        """Tell the workers to stop, in order, and wait for that; what does not stop in time is a crash."""
        self._stopping = True
        for child in self._workers.values():
            self._nursery.signal(child, signal.SIGTERM)
        _, late = await asyncio.wait(self._keepers, timeout=STOP_S)
        for keeper in late:
            self.crashes.append(f"{keeper.get_name()}: its process did not end within {STOP_S} s")
            keeper.cancel()
        await asyncio.gather(*late, return_exceptions=True)
