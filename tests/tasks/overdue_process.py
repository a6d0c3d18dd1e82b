"""A process that takes part in the upkeep: ``python -m tasks.overdue_process MODE URL NAMESPACE``.

It prints `ready`, and `event <kind>` for what its bus tells. What it has in hand goes to others soon, so that a test
need not wait long.
"""

from __future__ import annotations

import asyncio
import sys

import roost
from roost.tasks import deadlines
from roost.upkeep import lease
from tasks.support import Number, agent_of, plus_one
from tasks.worker_process import tell

LEASE_S = 1.5


async def serve(_: str, url: str, namespace: str) -> None:
    lease.WAIT_S = deadlines.ACK_WAIT_S = LEASE_S
    async with roost.connect(url, namespace=namespace) as bus:
        bus.watch(lambda event: tell("event", event.kind))
        await bus.log.ensure()
        other = roost.Task("other", Number, Number)
        async with bus.upkeep.running(start_s=0), bus.serving(agent_of(other, plus_one)):
            tell("ready")
            await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:4]))
