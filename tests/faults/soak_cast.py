"""The processes of the soak test: `python -m faults.soak_cast` forks them.

Workers are those of the kill test. A submitter is too, but each life of it has a file of its own: after half an hour
one file would take longer to read than most lives last.
"""

from __future__ import annotations

import asyncio
import random
import signal
import time
from collections.abc import Callable
from pathlib import Path

import roost
from kill import nursery, worker
from kill.submitter import OWN_DEATH_S, Book, Submitter
from kill.worker import die_while_sending

DIES_SELDOM = 0.3
"""How likely a life of the submitter ends by itself, in the middle of what it sends."""


def opened(folder: Path, life: int) -> Book:
    """The book of this life, which goes on where that of the last one ends."""
    last, mine = (Book(str(folder / f"ids-{number}.txt")) for number in (life - 1, life))
    begin = folder / "next.txt"
    mine.next, mine.open = max(last.next, int(begin.read_text())), last.open
    begin.write_text(str(mine.next))
    return mine


async def submit(
    url: str,
    namespace: str,
    folder: str,
    life: str,
    seed: str,
    rate: str,
    began: str,
    ready: Callable[[], object],
) -> None:
    """What is due goes on where the last life ended; half of what that one left unknown is submitted again."""
    told_to_stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_stop.set)
    book = await asyncio.to_thread(opened, Path(folder), int(life))
    chance = random.Random(f"{seed}/soak/{life}")
    while not told_to_stop.is_set():
        try:
            async with roost.connect(url, namespace=namespace) as bus:
                if chance.random() < DIES_SELDOM:
                    die_while_sending(10 * chance.uniform(*OWN_DEATH_S), chance)
                ready()
                submitter = Submitter(bus, book, int(seed), float(rate), float(began))
                await submitter.again()
                while not told_to_stop.is_set():
                    await submitter.step()
        except roost.ConnectError as error:
            print(f"{time.time():.1f} the server was down, it tries again: {error}", flush=True)


async def upkeep(url: str, namespace: str, ready: Callable[[], object]) -> None:
    """What `roost upkeep` does."""
    told_to_stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_stop.set)
    while not told_to_stop.is_set():
        try:
            async with roost.connect(url, namespace=namespace) as bus:
                await bus.log.ensure()
                async with bus.upkeep.running(start_s=0):
                    ready()
                    await told_to_stop.wait()
        except (roost.ConnectError, roost.NotConnected, roost.Disconnected, roost.RequestTimeout) as error:
            print(f"{time.time():.1f} the server was down, it tries again: {error}", flush=True)


if __name__ == "__main__":
    nursery.MAINS |= {"worker": worker.main, "submitter": submit, "upkeep": upkeep}
    nursery.main()
