"""Server, workers and submitter as processes, and the faults that befall them at seeded moments.

The faults come from a shuffled deck, so that even a short run has each kind; when and whom is drawn from the same
seed. Everything that is stopped, killed or paused is one of the processes that were started here.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from kill.work import ACK_WAIT_S
from roost.server import LocalServer

HERE = Path(__file__).resolve().parent
WORKERS = 4
PAUSE_S = 1.5 * ACK_WAIT_S
DECK = (
    ["worker killed"] * 5
    + ["worker paused"] * 3
    + ["server killed"] * 3
    + ["server paused"]
    + ["submitter killed"] * 3
)
GAP_S = (0.3, 1.1)
"""Seconds between two faults."""
OWN_DEATH_S = (0.3, 2.5)
"""Seconds after which most workers die by themselves, in the middle of what they send."""
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

    def __init__(self, server: LocalServer, namespace: str, folder: Path, seed: int, rate: float) -> None:
        self.server = server
        self.ids = folder / "ids.txt"
        self.starts = folder / "starts.txt"
        self.faults: list[Fault] = []
        self.deaths: Counter[str] = Counter()
        self.crashes: list[str] = []
        self.began_s = 0.0
        """When the submitter was ready for the first time, seconds since 1970."""
        self._namespace = namespace
        self._folder = folder
        self._seed = seed
        self._rate = rate
        self._chance = random.Random(seed)
        self._workers: dict[int, Process] = {}
        self._submitter: Process | None = None
        self._submitter_ready = asyncio.Event()
        self._calm = False
        self._submitting = True
        self._spawned = 0
        self._killed: set[int] = set()
        self._keepers: list[asyncio.Task[None]] = []

    # Processes --------------------------------------------------------------------------------------

    async def start(self) -> None:
        """All processes; each that dies is begun anew until `stop`. Returns when the submitter is at work."""
        for slot in range(WORKERS):
            self._keepers.append(asyncio.create_task(self._keep_worker(slot), name=f"keep-worker-{slot}"))
        self._keepers.append(asyncio.create_task(self._keep_submitter(), name="keep-submitter"))
        await self._submitter_ready.wait()

    async def _spawn(self, name: str, module: str, *arguments: object, piped: bool = False) -> Process:
        here = str(HERE.parent)
        given = os.environ.get("PYTHONPATH", "")
        environment = os.environ | {"PYTHONPATH": f"{given}{os.pathsep}{here}" if given else here}
        with (self._folder / f"{name}.log").open("ab") as log:
            return await asyncio.create_subprocess_exec(
                sys.executable, "-m", module, self.server.url, self._namespace, *map(str, arguments),
                stdout=PIPE if piped else log, stderr=log, env=environment,
            )  # fmt: skip

    async def _keep_worker(self, slot: int) -> None:
        while True:
            self._spawned += 1
            seed = f"{self._seed}/{self._spawned}"
            chance = random.Random(seed)
            dies_after_s = chance.uniform(*OWN_DEATH_S) if not self._calm and chance.random() < 0.8 else 0
            process = await self._spawn(f"worker-{slot}", "kill.worker", self.starts, seed, dies_after_s)
            self._workers[slot] = process
            code = await process.wait()
            own = code == -signal.SIGKILL and process.pid not in self._killed
            self._died("worker", f"worker-{slot}", CUT if own else code)

    async def _keep_submitter(self) -> None:
        while self._submitting:
            began = self.began_s or time.time()
            process = await self._spawn(
                "submitter", "kill.submitter", self.ids, self._seed, self._rate, began, piped=True
            )
            self._submitter = process
            assert process.stdout is not None
            if await process.stdout.readline():  # it is connected, and submits from now on
                self.began_s = began
                self._submitter_ready.set()
            await process.stdout.read()
            self._submitter_ready.clear()
            self._died("submitter", "submitter", await process.wait())

    def _died(self, who: str, name: str, code: int) -> None:
        """Note an end; any but a signal, a bomb or an orderly one is a crash of its own."""
        how = DEATHS.get(code, f"exit code {code}")
        self.deaths[f"{who}: {how}"] += 1
        if code not in DEATHS:
            self.crashes.append(f"{name} ended with {code}; see its log in {self._folder}")

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
            self._signal(self._workers.get(self._chance.randrange(WORKERS)), signal.SIGKILL)
        elif kind == "submitter killed":
            await self._submitter_ready.wait()  # one that has not begun yet leaves nothing unknown behind
            self._signal(self._submitter, signal.SIGKILL)
        elif kind == "server killed":
            await asyncio.to_thread(self.server.kill)
            await asyncio.sleep(self._chance.uniform(0, 0.5))  # it stays away for a while
            await asyncio.to_thread(self.server.restart)
        else:
            await asyncio.to_thread(self.server.pause)
            await asyncio.sleep(PAUSE_S)  # the length of the fault
            await asyncio.to_thread(self.server.resume)
        self.faults.append(Fault(kind, began, time.time()))

    async def _pause_worker(self) -> None:
        process = self._workers.get(self._chance.randrange(WORKERS))
        began = time.time()
        self._signal(process, signal.SIGSTOP)
        await asyncio.sleep(PAUSE_S)  # the length of the fault
        self._signal(process, signal.SIGCONT)
        self.faults.append(Fault("worker paused", began, time.time()))

    def _signal(self, process: Process | None, number: int) -> None:
        if process is not None and process.returncode is None:
            process.send_signal(number)
            if number == signal.SIGKILL:
                self._killed.add(process.pid)

    # The end ----------------------------------------------------------------------------------------

    async def stop_submitting(self) -> float:
        """Let the submitter finish what it is at; the seconds for which it was submitting."""
        await self._submitter_ready.wait()  # one that is just being started could not be told
        self._submitting = False
        self._signal(self._submitter, signal.SIGTERM)
        await self._keepers[-1]
        return time.time() - self.began_s

    async def stop(self) -> None:
        """Tell the workers to stop, in order, and wait for that; what does not stop in time is a crash."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        processes = [*self._workers.items(), *([(-1, self._submitter)] if self._submitter else [])]
        for _, process in processes:
            self._signal(process, signal.SIGTERM)
        for slot, process in processes:
            try:
                async with asyncio.timeout(10):
                    code = await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()
                code = 1
            if slot >= 0 and code not in (0, -signal.SIGTERM):  # the latter: it was only just being started
                self.crashes.append(f"worker-{slot} did not stop in order: {code}")
