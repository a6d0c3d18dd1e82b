"""A worker of the kill test, run by the nursery with URL NAMESPACE STARTS SEED DIES_AFTER_S.

It appends `<id> <time>` to STARTS whenever a handler starts. With DIES_AFTER_S above 0 it dies so long after it
began, in the middle of what it sends: the first part of some write reaches the server, the rest does not.
"""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from asyncio.selector_events import _SelectorSocketTransport  # type: ignore[attr-defined]
from collections.abc import Callable

import roost
from kill.work import Job, bomb, work
from roost.agent import Agent


def serving(starts: int) -> Agent[None]:
    """The agent; `starts` is the descriptor of the file of starts."""
    agent = Agent("worker")

    def note(ctx: roost.Context) -> None:
        os.write(starts, f"{ctx.idempotency_key} {time.time():.3f}\n".encode())

    @agent.handles(work, concurrency=64)
    async def run(job: Job, ctx: roost.Context) -> Job:
        note(ctx)
        if job.kind == "rejected":
            raise roost.Reject("it is of that kind")
        if job.kind == "hopeless" or (job.kind == "flaky" and ctx.attempt == 1):
            raise ValueError(f"no, at attempt {ctx.attempt}")
        if job.kind == "late" and ctx.attempt == 1:
            raise roost.RetryLater(after_s=0.3)
        if job.kind == "slow":
            await asyncio.sleep(job.slow_s)
        return job

    @agent.handles(bomb, concurrency=4)
    async def explode(job: Job, ctx: roost.Context) -> Job:
        note(ctx)
        os._exit(9)

    return agent


def die_while_sending(after_s: float, chance: random.Random) -> None:
    """Make the first write after so many seconds the last thing this process does, cut at a random byte."""
    due = time.monotonic() + after_s
    write = _SelectorSocketTransport.write

    def cut(transport: _SelectorSocketTransport, data: bytes) -> None:
        if time.monotonic() < due or not data:
            write(transport, data)
            return
        write(transport, data[: chance.randrange(len(data))])
        os.kill(os.getpid(), signal.SIGKILL)

    _SelectorSocketTransport.write = cut


async def main(
    url: str, namespace: str, starts: str, seed: str, dies_after_s: str, ready: Callable[[], object]
) -> None:
    told_to_stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, told_to_stop.set)
    if float(dies_after_s) > 0:
        die_while_sending(float(dies_after_s), random.Random(seed))
    file = os.open(starts, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    while True:
        try:
            async with roost.connect(url, namespace=namespace) as bus, bus.serving(serving(file), grace_s=5):
                ready()
                await told_to_stop.wait()
                return
        except (roost.ConnectError, roost.NotConnected, roost.Disconnected, roost.RequestTimeout) as error:
            print(f"the server was down as this worker began, it tries again: {error}", flush=True)
