"""The processes of the test of killed leaders, none of which may end: `python -m kill.leader_processes` forks them.

A submitter is open-loop: what is due is submitted, whatever became of what went before, so that a gap between two
acknowledgements is that of the servers and of Roost, and not of a submitter that waits its turn. It keeps FILE as
the submitter of the kill test does, and beside it `FILE.times`: `ack <time> <s>` for each acknowledged call and how
long it took, `saw <time> <s>` for an outcome that was waited for, `told <time> <error>` for what a call raised.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from typing import TypeVar

import roost
from kill import nursery, run_processes, worker
from kill.submitter import Book
from kill.work import is_bomb, job_of, work

T = TypeVar("T")

SHARE_OF_BATCHES = 0.25
"""Of the tasks, those that go in one call with others."""
BATCH_EVERY_S = 0.5
AWAITED_EVERY = 20
"""Of so many tasks the outcome of one is waited for."""


class OpenLoop:
    """Submits the numbers `first`, `first + step`, and so on, `rate` per second."""

    def __init__(self, bus: roost.Bus, file: str, seed: int, rate: float, first: int, step: int) -> None:
        self._bus = bus
        self._book = Book(file)
        self._times = os.open(f"{file}.times", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._seed = seed
        self._rate = rate
        self._next = first
        self._step = step

    async def run(self, told_to_stop: asyncio.Event) -> None:
        """Until told to stop; returns when every call has been acknowledged, and every wait has ended."""
        loop = asyncio.get_running_loop()
        began = loop.time()
        singles = batches = 0
        async with asyncio.TaskGroup() as group:
            while not told_to_stop.is_set():
                passed_s = loop.time() - began
                while singles < passed_s * self._rate * (1 - SHARE_OF_BATCHES):
                    group.create_task(self._one(self._number()), name="submit")
                    singles += 1
                while batches < int(passed_s / BATCH_EVERY_S):
                    size = round(self._rate * SHARE_OF_BATCHES * BATCH_EVERY_S)
                    group.create_task(self._many([self._number() for _ in range(size)]), name="submit-many")
                    batches += 1
                await asyncio.sleep(1 / self._rate)

    def _number(self) -> int:
        while is_bomb(self._next):
            self._next += self._step
        number = self._next
        self._next += self._step
        return number

    async def _one(self, n: int) -> None:
        self._book.write("try", [n])
        handle = await self._until_known(
            [n], lambda: self._bus.submit(work, job_of(n, self._seed), key=str(n))
        )
        if n // self._step % AWAITED_EVERY == 0:
            began = time.time()
            await handle.outcome()
            self._time("saw", f"{time.time() - began:.3f}")

    async def _many(self, numbers: Sequence[int]) -> None:
        self._book.write("try", numbers)
        jobs, keys = [job_of(n, self._seed) for n in numbers], [str(n) for n in numbers]
        await self._until_known(numbers, lambda: self._bus.submit_many(work, jobs, keys=keys))

    async def _until_known(self, numbers: Sequence[int], call: Callable[[], Awaitable[T]]) -> T:
        """What a user does who is told that it is not known: the same again, under the same keys."""
        began = time.time()
        while True:
            try:
                answer = await call()
            except (roost.SubmissionUnknown, roost.NotConnected) as error:
                self._book.write("unknown", numbers)
                self._time("told", type(error).__name__)
                continue
            self._book.write("ok", numbers)
            self._time("ack", f"{time.time() - began:.3f}")
            return answer

    def _time(self, what: str, detail: str) -> None:
        os.write(self._times, f"{what} {time.time():.3f} {detail}\n".encode())


async def submit(
    url: str,
    namespace: str,
    file: str,
    seed: str,
    rate: str,
    first: str,
    step: str,
    ready: Callable[[], object],
) -> None:
    told_to_stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_stop.set)
    async with roost.connect(url, namespace=namespace) as bus:
        ready()
        loop = await asyncio.to_thread(OpenLoop, bus, file, int(seed), float(rate), int(first), int(step))
        await loop.run(told_to_stop)


def longest_gap_s(moments: Sequence[float], since: float, until: float) -> float:
    """The longest time between `since` and `until` in which there is none of the `moments`, in seconds."""
    inside = sorted(at for at in moments if since <= at <= until)
    edges = [since, *inside, until]
    return max(later - earlier for earlier, later in itertools.pairwise(edges))


def times_of(path: Path) -> dict[str, list[tuple[float, str]]]:
    """What a submitter noted beside its file: (time, detail) by word."""
    found: dict[str, list[tuple[float, str]]] = {"ack": [], "saw": [], "told": []}
    for line in Path(f"{path}.times").read_text().splitlines():
        word, at, detail = line.split()
        found[word].append((float(at), detail))
    return found


if __name__ == "__main__":
    nursery.MAINS |= {
        "worker": worker.main,
        "pieces": run_processes.work,
        "coordinator": run_processes.coordinate,
        "submitter": submit,
    }
    nursery.main()
