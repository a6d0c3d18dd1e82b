"""A coordinator in a process of its own, to be stopped: `python -m runs.coordinator_process URL NAMESPACE`.

It prints `ready`, `step <name>` as a step's function begins, and `event <kind>` for what its bus tells.
A step waits for a line of input.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import roost
from runs.support import Number, Report, agent_of, double, numbers, plan


def tell(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def gated(name: str) -> int:
    tell("step", name)
    await asyncio.to_thread(sys.stdin.readline)
    return len(name)


async def workflow(value: Number, run: roost.Run[Any]) -> Report:
    found = [await run.step("first", gated, "first")]
    async with run.map(double, numbers(3)) as outcomes:
        found += sorted([o.value.n async for o in outcomes if isinstance(o, roost.Done)])
    found.append((await run.call(double, value, name="call")).n)
    return Report(numbers=found)


async def serve(url: str, namespace: str) -> None:
    async with roost.connect(url, namespace=namespace) as bus:
        bus.watch(lambda event: tell("event", event.kind))
        async with bus.serving(agent_of((plan, workflow))):
            tell("ready")
            await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:3]))
