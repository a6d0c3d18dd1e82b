"""The processes of the fault matrix: `python -m faults.cast` forks them.

Submitters and workers are those of the kill tests, none of which ends by itself. A worker may believe in another
time, and one that does not behave blocks its event loop, or dies of what it is given.
"""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Callable

import roost
from kill import leader_processes, nursery, run_processes, worker
from kill.work import Job, bomb, work
from roost.agent import Agent


async def skewed(url: str, namespace: str, starts: str, hours: str, ready: Callable[[], object]) -> None:
    """A worker on a machine whose clock is wrong by so many hours."""
    real = time.time
    time.time = lambda: real() + 3600 * float(hours)
    await worker.main(url, namespace, starts, "0", "0", ready)


async def blocking(url: str, namespace: str, starts: str, seconds: str, ready: Callable[[], object]) -> None:
    """A worker whose first handler blocks the event loop for so many seconds; afterwards it is as any other."""
    agent, blocked = Agent("worker"), False

    @agent.handles(work, concurrency=64)
    async def run(job: Job, ctx: roost.Context) -> Job:
        nonlocal blocked
        if not blocked:
            blocked = True
            time.sleep(float(seconds))  # noqa: ASYNC251 - what this worker is for
        return job

    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    async with roost.connect(url, namespace=namespace) as bus, bus.serving(agent):
        ready()
        await told.wait()


async def fatal(url: str, namespace: str, starts: str, ready: Callable[[], object]) -> None:
    """A worker of bombs only, each of which kills it."""
    file = os.open(starts, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    agent = Agent("worker")

    @agent.handles(bomb, concurrency=4)
    async def explode(job: Job, ctx: roost.Context) -> Job:
        os.write(file, f"{ctx.idempotency_key} {time.time():.3f}\n".encode())
        os.kill(os.getpid(), signal.SIGSEGV)
        return job

    told = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told.set)
    async with roost.connect(url, namespace=namespace) as bus, bus.serving(agent):
        ready()
        await told.wait()


if __name__ == "__main__":
    nursery.MAINS |= {
        "submitter": leader_processes.submit,
        "worker": worker.main,
        "skewed": skewed,
        "blocking": blocking,
        "fatal": fatal,
        "coordinator": run_processes.coordinate,
        "pieces": run_processes.work,
        "starter": run_processes.start,
    }
    nursery.main()
