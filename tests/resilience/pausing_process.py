"""A worker whose handler fails, with a breaker; says `paused`: ``python pausing_process.py URL NAMESPACE``."""

from __future__ import annotations

import asyncio
import sys

from resilience_kit import Facts, Query

import roost
from roost.tasks.pausing import paused_until


async def main(url: str, namespace: str) -> None:
    agent, opened = roost.Agent("failing"), asyncio.Event()

    @agent.handles(
        roost.Task("sale", Query, Facts, retry=roost.Retry(attempts=9, base_s=0.02, cap_s=0.02)),
        breaker=roost.BreakerPolicy(minimum_calls=4, open_s=2, open_cap_s=2),
        concurrency=4,
    )
    async def sell(query: Query) -> Facts:
        raise OSError("the database is gone")

    async with roost.connect(url, namespace=namespace) as bus, bus.serving(agent):
        bus.watch(lambda event: opened.set() if event.kind == "breaker_opened" else None)
        print("ready", flush=True)
        await opened.wait()
        info = f"CONSUMER.INFO.{bus.log.stream}.task_sale"
        while not paused_until(await bus.log.link.jetstream.call(info)):  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        print("paused", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
