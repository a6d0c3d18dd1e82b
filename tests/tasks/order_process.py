"""A worker of tasks with an order key, in a process of its own: `python -m tasks.order_process MODE URL NAMESPACE`.

It prints `ready`, `started <key> <n> <attempt>` and `ended <key> <n>`, in whole lines. MODE is how long a task takes,
in milliseconds.
"""

from __future__ import annotations

import asyncio
import sys

from pydantic import BaseModel

import roost
from tasks.support import agent_of
from tasks.worker_process import tell


class Turn(BaseModel):
    """Something said in a conversation."""

    session: str
    n: int


def session_of(turn: Turn) -> str | None:
    return turn.session or None


reply = roost.Task(
    "reply",
    Turn,
    int,
    retry=roost.Retry(attempts=10, base_s=0.05, cap_s=0.1),
    ack_wait_s=0.5,
    order_key=session_of,
)


async def serve(mode: str, url: str, namespace: str) -> None:
    async def handle(turn: Turn, ctx: roost.Context) -> int:
        tell("started", turn.session, turn.n, ctx.attempt)
        await asyncio.sleep(int(mode) / 1000)
        tell("ended", turn.session, turn.n)
        return turn.n

    async with roost.connect(url, namespace=namespace) as bus:
        bus.watch(lambda event: tell("event", event.kind, event.subject, event.reason))
        async with bus.serving(agent_of(reply, handle)):
            tell("ready")
            await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:4]))
