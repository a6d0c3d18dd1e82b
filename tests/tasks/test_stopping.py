"""A worker that leaves in order delays nobody's work."""

from __future__ import annotations

import asyncio

import roost
from tasks.support import Number, agent_of, until

add = roost.Task("add", Number, Number, ack_wait_s=30)


async def brief(value: Number) -> Number:
    await asyncio.sleep(0.001)
    return value


async def test_what_is_on_its_way_to_a_worker_that_stops_goes_to_another_at_once(
    nats_url: str, namespace: str
) -> None:
    """Bug: deliveries that arrived after `quiesce` were dropped, and came again after the ack wait only."""
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        roost.connect(nats_url, namespace=namespace) as leaving,
        bus.serving(agent_of(add, brief)),
    ):
        for _ in range(8):
            handles = await bus.submit_many(add, [Number(n=n) for n in range(1500)])
            async with leaving.serving(agent_of(add, brief)) as (instance,):
                await until(lambda: instance.handled["add"] >= 20)
            async with asyncio.timeout(10):
                await asyncio.gather(*(handle.result() for handle in handles))
