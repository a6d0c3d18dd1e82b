"""A handler of 45 s on an ack wait of 5 s, with two workers ready to take over; prints what happened as JSON."""

from __future__ import annotations

import asyncio
import json
import time

import roost
from tasks.support import Number, agent_of

HANDLER_S = 45
ACK_WAIT_S = 5.0
awaited = roost.Task("awaited", Number, Number, ack_wait_s=ACK_WAIT_S)
threaded = roost.Task("threaded", Number, Number, ack_wait_s=ACK_WAIT_S)


async def main() -> None:
    runs = {"awaited": 0, "threaded": 0}

    async def wait(value: Number) -> Number:
        runs["awaited"] += 1
        await asyncio.sleep(HANDLER_S)
        return value

    def block(value: Number) -> Number:
        runs["threaded"] += 1
        time.sleep(HANDLER_S)
        return value

    async with roost.local_server() as url, roost.connect(url) as one, roost.connect(url) as two:
        async with (
            one.serving(agent_of(awaited, wait), agent_of(threaded, block)),
            two.serving(agent_of(awaited, wait), agent_of(threaded, block)),
        ):
            handles = [await one.submit(task, Number(n=1)) for task in (awaited, threaded)]
            outcomes = await asyncio.gather(*(handle.outcome(timeout_s=HANDLER_S + 20) for handle in handles))
    statuses = [type(outcome).__name__.lower() for outcome in outcomes]
    print(json.dumps({"runs": list(runs.values()), "outcomes": statuses, "seconds": HANDLER_S}))


if __name__ == "__main__":
    asyncio.run(main())
