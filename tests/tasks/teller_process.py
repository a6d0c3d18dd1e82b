"""A worker that tells while it works, or a reporter, for tests that kill it.

`python -m tasks.teller_process MODE URL NAMESPACE`. It prints `ready`, and what it has just done.
"""

from __future__ import annotations

import asyncio
import sys

import roost
from roost.tasks import reporter
from tasks.support import Number, plus_one
from tasks.worker_process import tell

told = roost.Task("told", Number, Number, retry=roost.Retry(attempts=3, base_s=0.01), ack_wait_s=0.5)
counted = roost.Task("counted", Number, Number, retry=roost.Retry(attempts=1), ack_wait_s=0.5)
REPORTER = "ledger"
ACK_WAIT_S = 1.0
"""Instead of 30 s: how long the tests wait for the outcome that a killed reporter had in hand."""


async def serve(mode: str, url: str, namespace: str) -> None:
    reporter.ACK_WAIT_S = ACK_WAIT_S
    agent = roost.Agent(REPORTER)

    async def speak(value: Number, ctx: roost.Context) -> Number:
        for n in range(value.n):
            await ctx.emit(n)
        tell("said", value.n, ctx.attempt)
        if mode == "speaks-and-hangs":
            await asyncio.get_running_loop().create_future()
        return await plus_one(value)

    async def report(outcome: roost.Outcome[Number], ctx: roost.Context) -> None:
        n = outcome.value.n if isinstance(outcome, roost.Done) else -1
        await asyncio.sleep(0)  # what was sent before this handler began is on its way
        tell("begun", n, ctx.attempt)
        if mode == f"hangs-at-{n}":
            await asyncio.get_running_loop().create_future()
        tell("reported", n, ctx.attempt)

    if mode.startswith("speaks"):
        agent.handles(told)(speak)
    else:
        agent.reports(counted)(report)
    async with roost.connect(url, namespace=namespace) as bus, bus.serving(agent):
        tell("ready")
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:4]))
