"""A worker in a process of its own, for tests that kill it: `python -m tasks.worker_process MODE URL NAMESPACE`.

It prints `ready`, `started <n> <attempt>` before each run of a handler, and `event <kind>` for what its bus tells.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys

import roost
from roost.tasks.intake import Intake
from roost.tasks.outcomes import OutcomeWriter
from roost.tasks.records import Ref
from roost.transport import Message
from tasks.support import Number, agent_of

patient = roost.Task("patient", Number, Number, retry=roost.Retry(attempts=1), ack_wait_s=0.5)
fatal = roost.Task("fatal", Number, Number, retry=roost.Retry(attempts=2, base_s=0.01), ack_wait_s=0.5)
single = roost.Task("single", Number, Number, retry=roost.Retry(attempts=1), ack_wait_s=0.5)
paused = roost.Task("paused", Number, str, retry=roost.Retry(attempts=3, base_s=0.01), ack_wait_s=0.5)

doomed = roost.Task("doomed", Number, Number, ack_wait_s=0.5)


def tell(*words: object) -> None:
    """To the test, whole lines at once."""
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


async def plain(value: Number, ctx: roost.Context) -> Number:
    tell("started", value.n, ctx.attempt)
    return Number(n=value.n + 1)


async def die(value: Number, ctx: roost.Context) -> Number:
    tell("started", value.n, ctx.attempt)
    os._exit(7)


async def slow(value: Number, ctx: roost.Context) -> str:
    tell("started", value.n, ctx.attempt)
    await asyncio.sleep(value.n / 10)
    return f"by {os.getpid()}"


async def reject(value: Number) -> Number:
    raise roost.Reject("never")


async def killed_at_index(self: OutcomeWriter, ref: Ref, reason: str) -> None:
    """In the place of `OutcomeWriter._index`: the process dies when the `end` of a dead letter is stored."""
    os.kill(os.getpid(), signal.SIGKILL)


def killed_at_delivery(self: Intake, message: Message) -> None:
    """In the place of `Intake._take`: the process dies between a delivery and the handler."""
    tell("delivered")
    os.kill(os.getpid(), signal.SIGKILL)


async def serve(mode: str, url: str, namespace: str) -> None:
    agent = {
        "plain": agent_of(patient, plain),
        "dies-at-delivery": agent_of(patient, plain),
        "fatal": agent_of(fatal, die),
        "single": agent_of(single, die),
        "slow": agent_of(paused, slow),
        "dies-at-index": agent_of(doomed, reject),
    }[mode]
    if mode == "dies-at-delivery":
        Intake._take = killed_at_delivery  # type: ignore[method-assign]
    if mode == "dies-at-index":
        OutcomeWriter._index = killed_at_index  # type: ignore[method-assign]
    async with roost.connect(url, namespace=namespace) as bus:
        bus.watch(lambda event: tell("event", event.kind))
        async with bus.serving(agent):
            tell("ready")
            await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:4]))
