"""The processes of the kill test of runs: coordinators, workers, and who starts the runs.

`python -m kill.run_processes` is the nursery that forks them. The starter keeps a file: `try <id>` before it starts
a run, `ok <id>` when that returned, `signalled <id>` when the run was sent its approval. Begun anew, it goes on
with what is not signalled yet, under the same keys; told to stop, it ends when everything is.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import roost
from kill import nursery
from kill.killer import OWN_DEATH_S, Arena
from kill.run_work import Book, Count, Piece, approval, book, coordinators, piece, worth
from kill.worker import die_while_sending

COORDINATORS = 2
"""Of the arena's four workers."""
TROUBLE = (roost.ConnectError, roost.NotConnected, roost.Disconnected, roost.RequestTimeout)


def workers() -> roost.Agent[None]:
    agent = roost.Agent("worker")

    @agent.handles(piece, concurrency=16)
    async def work(one: Piece, ctx: roost.Context) -> Count:
        if one.kind == "hopeless":
            raise roost.Reject("it is of that kind")
        if one.kind == "flaky" and ctx.attempt == 1:
            raise ValueError("not at the first attempt")
        if one.kind == "slow":
            await asyncio.sleep(0.2)
        return Count(n=worth(one))

    return agent


async def serve(
    agent: roost.Agent[None],
    url: str,
    namespace: str,
    seed: str,
    dies_after_s: str,
    ready: Callable[[], object],
) -> None:
    told_to_stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_stop.set)
    if float(dies_after_s) > 0:
        die_while_sending(float(dies_after_s), random.Random(seed))
    while True:
        try:
            async with roost.connect(url, namespace=namespace) as bus, bus.serving(agent, grace_s=5):
                ready()
                await told_to_stop.wait()
                return
        except TROUBLE as error:
            print(f"the server was down as this process began, it tries again: {error}", flush=True)


async def work(url: str, namespace: str, _: str, seed: str, dies: str, ready: Callable[[], object]) -> None:
    await serve(workers(), url, namespace, seed, dies, ready)


async def coordinate(
    url: str, namespace: str, starts: str, seed: str, dies: str, ready: Callable[[], object]
) -> None:
    file = os.open(starts, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    await serve(coordinators(file), url, namespace, seed, dies, ready)


class Starter:
    """Starts `rate` runs per second, counted from `began`, however often it was killed since."""

    def __init__(self, bus: roost.Bus, path: str, rate: float, began: float) -> None:
        lines = Path(path).read_text().splitlines() if Path(path).exists() else []
        told = {word: {int(n) for n in _numbers(lines, word)} for word in ("try", "signalled")}
        self._bus = bus
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._next = max(told["try"], default=-1) + 1
        self._open = told["try"] - told["signalled"]
        self._rate = rate
        self._began = began

    def _write(self, word: str, n: int) -> None:
        os.write(self._file, f"{word} book:{n}\n".encode())

    async def step(self, *, more: bool) -> bool:
        """Do what is due; False when nothing is left to do."""
        while more and self._next < int((time.time() - self._began) * self._rate):
            self._write("try", self._next)
            self._open.add(self._next)
            self._next += 1
        async with asyncio.TaskGroup() as group:
            for n in sorted(self._open):
                group.create_task(self._one(n), name=f"start-{n}")
        if not self._open and more:
            await asyncio.sleep(0.05)  # until the next one is due
        return bool(self._open)

    async def _one(self, n: int) -> None:
        try:
            handle = await self._bus.start(book, Book(n=n), key=str(n), timeout_s=5)
            self._write("ok", n)
            await self._bus.signal(handle.id, approval, Count(n=n + 1))
        except (roost.SubmissionUnknown, roost.StreamMissing, *TROUBLE):
            await asyncio.sleep(0.1)  # it is tried again
            return
        except roost.ConfigError as error:
            if "is over" not in str(error):  # else an earlier signal, whose answer was lost, was taken
                raise
        self._write("signalled", n)
        self._open.discard(n)


def _numbers(lines: list[str], word: str) -> list[str]:
    return [line.rpartition(":")[2] for line in lines if line.startswith(f"{word} ")]


async def start(
    url: str, namespace: str, file: str, seed: str, rate: str, began: str, ready: Callable[[], object]
) -> None:
    told_to_stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_stop.set)
    while True:
        try:
            async with roost.connect(url, namespace=namespace) as bus:
                starter = await asyncio.to_thread(Starter, bus, file, float(rate), float(began))
                ready()
                while await starter.step(more=not told_to_stop.is_set()) or not told_to_stop.is_set():
                    continue
                return
        except roost.ConnectError as error:
            print(f"the server was down as the starter began, it tries again: {error}", file=sys.stderr)


class RunArena(Arena):
    """As the arena of tasks; the first of its workers are coordinators."""

    async def _keep_worker(self, slot: int) -> None:
        what = "coordinator" if slot < COORDINATORS else "worker"
        log = self._folder / f"{what}-{slot}.log"
        while not self._stopping:
            self._spawned += 1
            seed = f"{self._seed}/{self._spawned}"
            chance = random.Random(seed)
            dies_after_s = chance.uniform(*OWN_DEATH_S) if not self._calm and chance.random() < 0.8 else 0
            where = (self.server.url, self._namespace, self.starts)
            child = self._workers[slot] = await self._nursery.begin(what, log, *where, seed, dies_after_s)
            self._ended(what, f"{what}-{slot}", child, await child.ended)


if __name__ == "__main__":
    nursery.MAINS |= {"worker": work, "coordinator": coordinate, "submitter": start}
    nursery.main()
