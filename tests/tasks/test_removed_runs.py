"""A run that was removed from the log stays removed: whoever still works for it is refused."""

from __future__ import annotations

import asyncio

import roost
from tasks.support import SOON_S, Events, Number, agent_of, api, records, stranger

add = roost.Task("add", Number, Number)


class Zombie:
    """A handler that holds its task until told, and then returns what it began with."""

    def __init__(self) -> None:
        self.begun: asyncio.Queue[int] = asyncio.Queue()
        self.release = asyncio.Event()

    async def __call__(self, value: Number) -> Number:
        self.begun.put_nowait(value.n)
        if value.n == 1:
            await self.release.wait()
        return Number(n=value.n * 10)


async def test_the_outcome_for_a_removed_run_is_refused_and_its_slot_freed(
    nats_url: str, namespace: str
) -> None:
    zombie = Zombie()
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        stranger(nats_url) as nc,
        bus.serving(agent_of(add, zombie)),
    ):
        events = Events(bus)
        await bus.submit(add, Number(n=1), key="gone")
        await zombie.begun.get()
        purged = await api(nc, f"STREAM.PURGE.{bus.log.stream}", {"filter": f"{namespace}.run.add:gone.>"})
        assert purged["purged"] == 1
        zombie.release.set()
        await events.until("outcome_of_gone_task")
        await bus.link.client.flush()
        assert await records(bus) == []
        consumer = await api(nc, f"CONSUMER.INFO.{bus.log.stream}.task_add")
        assert consumer["num_ack_pending"] == 0


async def test_the_outcome_for_a_removed_run_is_not_taken_for_its_namesakes(
    nats_url: str, namespace: str
) -> None:
    """The key was used again after the removal: the old work must not end the new."""
    zombie = Zombie()
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        stranger(nats_url) as nc,
        bus.serving(agent_of(add, zombie, concurrency=1)),
    ):
        events = Events(bus)
        await bus.submit(add, Number(n=1), key="again")
        await zombie.begun.get()
        await api(nc, f"STREAM.PURGE.{bus.log.stream}", {"filter": f"{namespace}.run.add:again.>"})
        handle = await bus.submit(add, Number(n=2), key="again")
        assert handle.created
        zombie.release.set()
        await events.until("outcome_of_gone_task")
        assert await handle.result(timeout_s=SOON_S) == Number(n=20)
        assert len(await records(bus, "end")) == 1
