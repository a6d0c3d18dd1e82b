"""Forks a run and is killed by SIGKILL before a commit: `python -m runs.fork_process URL NAMESPACE RUN STEP COMMITS`.

It prints the number of commits it has made, and the id of the new run if it comes to its end.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Sequence

import roost
from roost.runs import fork
from roost.tasks.batch import Write, commit
from roost.transport import Link


async def main(url: str, namespace: str, run: str, step: str, commits: int) -> None:
    made = 0

    async def counted(link: Link, writes: Sequence[Write], *, timeout_s: float) -> int:
        nonlocal made
        if made == commits:
            os.write(1, b"killed\n")
            os.kill(os.getpid(), signal.SIGKILL)
        made += 1
        return await commit(link, writes, timeout_s=timeout_s)

    setattr(fork, "commit", counted)  # noqa: B010
    async with roost.connect(url, namespace=namespace) as bus:
        ref = await fork.fork_run(bus.log, run, before=step)
        os.write(1, f"{made} commits {ref}\n".encode())


if __name__ == "__main__":
    url, namespace, run, step, commits = sys.argv[1:]
    asyncio.run(main(url, namespace, run, step, int(commits)))
