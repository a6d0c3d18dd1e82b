"""An agent that says what it is asked and never answers: ``python answering_process.py URL NAMESPACE``."""

from __future__ import annotations

import asyncio
import sys

from resilience_kit import Facts, Query

import roost


async def main(url: str, namespace: str) -> None:
    agent = roost.Agent("mute")

    @agent.handles(roost.Endpoint("lookup", Query, Facts))
    async def lookup(query: Query) -> Facts:
        print("asked", flush=True)
        await asyncio.Event().wait()
        return Facts()

    async with roost.connect(url, namespace=namespace) as bus, bus.serving(agent):
        print("ready", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2]))
