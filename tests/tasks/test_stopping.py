"""A worker that leaves in order delays nobody's work."""

from __future__ import annotations

import asyncio
import threading
import time

import roost
from tasks.support import Number, agent_of, plus_one

add = roost.Task("add", Number, Number, ack_wait_s=30)
ARRIVED_S = 0.1


def submit_elsewhere(url: str, namespace: str, keys: list[str]) -> None:
    """Submit tasks from a thread, and come back when they have been delivered to whoever asked for them."""

    async def submit() -> None:
        async with roost.connect(url, namespace=namespace) as bus:
            await bus.submit_many(add, [Number(n=1)] * len(keys), keys=keys)

    thread = threading.Thread(target=lambda: asyncio.run(submit()))
    thread.start()
    thread.join()
    time.sleep(ARRIVED_S)


async def test_what_is_on_its_way_to_a_worker_that_stops_goes_to_another_at_once(
    nats_url: str, namespace: str
) -> None:
    """Bug: deliveries that nobody had read yet when a worker stopped came again after the ack wait only."""
    keys = [f"k{n}" for n in range(20)]
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of(add, plus_one)):
            await (await bus.submit(add, Number(n=1))).result(timeout_s=10)
            await bus.link.client.flush()
            submit_elsewhere(nats_url, namespace, keys)  # it holds up this loop, so that nothing is read
        async with (
            roost.connect(nats_url, namespace=namespace) as other,
            other.serving(agent_of(add, plus_one)),
        ):
            handles = [other.handle(add, f"add:{key}") for key in keys]
            await asyncio.gather(*(handle.result(timeout_s=10) for handle in handles))
