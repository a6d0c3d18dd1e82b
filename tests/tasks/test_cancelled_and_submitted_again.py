"""Bug: a submission repeated after a cancel created the task anew, and it got a second outcome."""

from __future__ import annotations

from pydantic import BaseModel

import roost
from roost import Cancelled, Task


class Number(BaseModel):
    n: int


double = Task("double", Number, Number)


async def test_a_cancelled_task_submitted_again_stays_cancelled(nats_url: str, namespace: str) -> None:
    agent = roost.Agent("doubler")

    @agent.handles(double)
    async def handle(value: Number) -> Number:
        return Number(n=2 * value.n)

    async with roost.connect(nats_url, namespace=namespace) as bus:
        first = await bus.submit(double, Number(n=1), key="a")
        assert await first.cancel("not wanted")
        again = await bus.submit(double, Number(n=1), key="a")
        (many,) = await bus.submit_many(double, [Number(n=1)], keys=["a"])
        assert (first.created, again.created, many.created) == (True, False, False)
        async with bus.serving(agent):
            for handle_on_it in (first, again, many):
                assert isinstance(await handle_on_it.outcome(timeout_s=10), Cancelled)
        ends = await bus.log.read_all(bus.log.subjects.end(first.ref))
        assert len(ends) == 1
