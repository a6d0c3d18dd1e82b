"""A process that does upkeep, for tests that kill it: `python -m upkeep.upkeep_process MODE URL NAMESPACE`.

Modes: `plain`; `dies`, which kills itself when the tasks of what it prunes are gone and their outcomes are not.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

import roost
from roost.upkeep import Prune, lease
from roost.upkeep.ledger import OWN_TASK
from tasks.worker_process import tell

WAIT_S = 1.0
"""Instead of 10 s: when another has the lease of one that was killed or is frozen."""


async def main(mode: str, url: str, namespace: str) -> None:
    lease.WAIT_S = WAIT_S
    if mode == "dies":
        remove, phases = Prune._delete_all, iter(range(1000))

        async def die(self: Prune, seqs: Sequence[int]) -> None:
            await remove(self, seqs)
            if next(phases) == OWN_TASK:
                tell("dies")
                os.kill(os.getpid(), signal.SIGKILL)

        Prune._delete_all = die  # type: ignore[method-assign]
    async with roost.connect(url, namespace=namespace) as bus:
        bus.watch(lambda event: tell("event", event.kind))
        await bus.log.ensure()
        async with bus.upkeep.running(start_s=0):
            await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
