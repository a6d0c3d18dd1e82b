"""A process whose handler blocks the event loop is shown as unhealthy while it does, and as ready again after it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import fleet
import roost
from fleet import Ear, Job
from roost.runtime import AgentSpec, Notice, Supervisor
from roost.runtime.health import health


async def test_a_blocked_process_is_not_ready_until_it_goes_on(nats_url: str, namespace: str) -> None:
    told: list[Notice] = []
    more = asyncio.Event()

    def tell(notice: Notice) -> None:
        told.append(notice)
        more.set()

    async def until(seen: Callable[[], bool]) -> None:
        async with asyncio.timeout(30):
            while not seen():
                more.clear()
                await more.wait()

    async with Ear() as ear, roost.connect(nats_url, namespace=namespace) as bus:
        spec = AgentSpec(target="fleet:loop_blocker")
        async with Supervisor(
            [spec], url=nats_url, namespace=namespace, env=ear.env, tell=tell
        ) as supervisor:
            await supervisor.wait_ready()
            handle = await bus.submit(fleet.blocking, Job(id="j", first_s=2.5))
            await until(lambda: told[-1].kind == "blocked")
            [process] = supervisor.processes
            assert health(supervisor.processes) == f"not ready: {process.name} (blocked)"
            assert "does not answer: the event loop has been blocked for 1 s by task blocking" in str(
                told[-1]
            )
            assert "in do_blocking (fleet.py:" in str(told[-1])
            await until(lambda: told[-1].kind == "ready")
            assert health(supervisor.processes) == "ready"
            assert (await handle.result(timeout_s=20)).run == 1
            assert process.starts == 1
