"""A worker of a task with a limit over all processes: `python -m tasks.limit_process MODE URL NAMESPACE`."""

from __future__ import annotations

import asyncio
import sys

import roost
from tasks.support import Number, agent_of
from tasks.worker_process import tell

LIMIT = 3
limited = roost.Task("limited", Number, Number, max_running=LIMIT, ack_wait_s=0.5)


async def slow(value: Number) -> Number:
    await asyncio.sleep(0.03)
    return value


async def serve(url: str, namespace: str) -> None:
    async with (
        roost.connect(url, namespace=namespace) as bus,
        bus.serving(agent_of(limited, slow, concurrency=8)),
    ):
        tell("ready")
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[2:4]))
