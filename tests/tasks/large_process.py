"""A worker that dies between its value and its outcome: `python -m tasks.large_process MODE URL NAMESPACE`.

MODE is `dies`, or `plain`. It prints `ready`, and `started` before each run of the handler.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

import roost
from roost.contracts import Limits
from roost.tasks.outcomes import OutcomeWriter
from tasks.support import agent_of

echo = roost.Task(
    "echo", str, str, retry=roost.Retry(attempts=3), ack_wait_s=0.5, limits=Limits(max_bytes=8 * 1024 * 1024)
)


async def same(value: str) -> str:
    os.write(1, b"started\n")
    return value


async def killed(self: OutcomeWriter, *args: Any, **kwargs: Any) -> bool:
    """In the place of `OutcomeWriter.write`."""
    os.kill(os.getpid(), signal.SIGKILL)
    return False


async def serve(mode: str, url: str, namespace: str) -> None:
    if mode == "dies":
        OutcomeWriter.write = killed  # type: ignore[method-assign]
    async with roost.connect(url, namespace=namespace) as bus, bus.serving(agent_of(echo, same)):
        os.write(1, b"ready\n")
        await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:4]))
