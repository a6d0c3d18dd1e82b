"""A task that is delivered again to the process that is still at it: it is not begun a second time there."""

from __future__ import annotations

import asyncio

import roost
from roost.server import LocalServer
from roost.testing import faults
from tasks.support import SOON_S, Number, agent_of, until


async def test_what_is_at_work_is_not_begun_again_when_the_network_was_away(own_server: LocalServer) -> None:
    lasting = roost.Task("lasting", Number, Number, ack_wait_s=0.6, retry=roost.Retry(attempts=1))
    begun, go_on, ran = asyncio.Event(), asyncio.Event(), 0

    async def wait(value: Number) -> Number:
        nonlocal ran
        ran += 1
        begun.set()
        await go_on.wait()
        return value

    async with faults.Wire(own_server.url) as wire, roost.connect(wire.url) as bus:
        async with bus.serving(agent_of(lasting, wait)):
            handle = await bus.submit(lasting, Number(n=1))
            await begun.wait()
            with wire.stalled():
                await asyncio.sleep(1.5)  # the length of the fault: heartbeats do not get through
            await until(lambda: bus.counters["delivered_while_at_work"] > 0)
            go_on.set()
            assert await handle.result(timeout_s=SOON_S) == Number(n=1)
            assert ran == 1
