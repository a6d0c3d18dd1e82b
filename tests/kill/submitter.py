"""The submitter of the kill test, run by the nursery with URL NAMESPACE FILE SEED RATE BEGAN.

It keeps FILE, its own record of what it was told: `try <id>` is written before a submission, `ok <id>` when that
returned, `unknown <id>` when it was told so. Each line is handed to the kernel before the next step, so that the
file is right whenever this process is killed. Begun anew, it goes on where the file ends, and submits half of
what it does not know of again under the same keys; the other half stays unknown.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable, Iterable
from pathlib import Path

import roost
from kill.work import bomb, id_of, is_bomb, job_of, work
from kill.worker import die_while_sending

MOST = 250
"""Tasks of one call."""
OWN_DEATH, OWN_DEATH_S = 0.7, (1.0, 4.0)
"""How likely this process dies by itself, in the middle of what it sends, and after how many seconds."""


class Book:
    """The file of ids."""

    def __init__(self, path: str) -> None:
        lines = Path(path).read_text().splitlines() if Path(path).exists() else []
        tried = [int(line.rpartition(":")[2]) for line in lines if line.startswith("try ")]
        settled = {int(line.rpartition(":")[2]) for line in lines if line.startswith("ok ")}
        self.next = max(tried, default=-1) + 1
        self.open = sorted(set(tried) - settled)
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def write(self, word: str, numbers: Iterable[int]) -> None:
        data = "".join(f"{word} {id_of(n)}\n" for n in numbers).encode()
        if data:
            os.write(self._file, data)


class Submitter:
    """Submits at `rate` tasks per second, counted from `began`, however often it was killed since."""

    def __init__(self, bus: roost.Bus, book: Book, seed: int, rate: float, began: float) -> None:
        self._bus = bus
        self._book = book
        self._seed = seed
        self._rate = rate
        self._began = began
        self._chance = random.Random(f"{seed}/{book.next}")

    async def again(self) -> None:
        """Half of what is unknown, under the same keys."""
        unknown = [n for n in self._book.open if self._chance.random() < 0.5]
        for at in range(0, len(unknown), MOST):
            await self._many(unknown[at : at + MOST])

    async def step(self) -> None:
        """What is due now: half of it one by one, half of it in one call."""
        due = int((time.time() - self._began) * self._rate) - self._book.next
        if due <= 0:
            await asyncio.sleep(1 / self._rate)
            return
        numbers = range(self._book.next, self._book.next + min(due, 2 * MOST))
        self._book.next = numbers.stop
        self._book.write("try", numbers)
        bombs = [n for n in numbers if is_bomb(n)]
        plain = [n for n in numbers if not is_bomb(n)]
        half = len(plain) // 2 if len(plain) > 4 else len(plain)
        singles = [*bombs, *plain[:half][:40]]
        async with asyncio.TaskGroup() as group:
            for n in singles:
                group.create_task(self._one(n), name=f"submit-{n}")
            group.create_task(self._many(plain[len(singles) - len(bombs) :]), name="submit-many")

    async def _one(self, n: int) -> None:
        task = bomb if is_bomb(n) else work
        try:
            handle = await self._bus.submit(task, job_of(n, self._seed), key=str(n), timeout_s=5)
        except (roost.SubmissionUnknown, roost.NotConnected):
            self._book.write("unknown", [n])
            return
        if handle.id != id_of(n):
            raise AssertionError(f"task {n} got the id {handle.id}")
        self._book.write("ok", [n])

    async def _many(self, numbers: list[int]) -> None:
        plain = [n for n in numbers if not is_bomb(n)]
        for n in set(numbers) - set(plain):
            await self._one(n)
        if not plain:
            return
        jobs, keys = [job_of(n, self._seed) for n in plain], [str(n) for n in plain]
        try:
            await self._bus.submit_many(work, jobs, keys=keys, timeout_s=5)
        except (roost.SubmissionUnknown, roost.NotConnected):
            self._book.write("unknown", plain)
            return
        self._book.write("ok", plain)


async def main(
    url: str, namespace: str, file: str, seed: str, rate: str, began: str, ready: Callable[[], object]
) -> None:
    told_to_stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_stop.set)
    while not told_to_stop.is_set():
        try:
            async with roost.connect(url, namespace=namespace) as bus:
                book = Book(file)
                chance = random.Random(f"{seed}/death/{book.next}")
                if chance.random() < OWN_DEATH:
                    die_while_sending(chance.uniform(*OWN_DEATH_S), chance)
                ready()
                submitter = Submitter(bus, book, int(seed), float(rate), float(began))
                await submitter.again()
                while not told_to_stop.is_set():
                    await submitter.step()
        except roost.ConnectError as error:
            print(f"the server was down as the submitter began, it tries again: {error}", flush=True)
