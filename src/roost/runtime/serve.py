"""One agent on one connection, from the first try to connect until everything is handed back.

A process that dies because its server is not there yet makes every deployment depend on an order of starts; so
it waits, and says so. What no waiting mends (refused credentials, another configuration) is raised.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import random
from collections.abc import Callable
from typing import Any

from roost.agent import Agent
from roost.bus import Bus
from roost.connecting import connect
from roost.errors import (
    ConnectError,
    Disconnected,
    JetStreamError,
    NoResponders,
    NotConnected,
    RequestTimeout,
)
from roost.instance import Instance
from roost.runtime.lifeline import SUPERVISOR
from roost.runtime.words import Word
from roost.settings import resolve

log = logging.getLogger("roost.runtime")

SAY_S = 1.0
"""Seconds without a connection after which that is told; what is wrong is known after five."""
RETRY_BASE_S = 0.25
RETRY_CAP_S = 5.0

_LEADERLESS = {10008, 10009}
"""nats-server: JetStream temporarily unavailable, no leader yet. Both pass."""
_REFUSED = ("authorization", "authentication", "did not offer tls", "certificate")


class Stop:
    """Whether the agent is to stop, and how soon. `ask` may be called from any thread."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._task = asyncio.current_task()
        self._asked = asyncio.Event()
        self._urgent = asyncio.Event()
        self._serving: Instance | None = None
        self.grace_s = 0.0

    def ask(self, grace_s: float, by: str) -> None:
        try:
            self._loop.call_soon_threadsafe(self._ask, grace_s, by)
        except RuntimeError:
            return  # the loop is closed: the end has been reached already

    def _ask(self, grace_s: float, by: str) -> None:
        if self._serving is not None:
            self._serving.quiesce()  # what is said next is true then
        level = logging.DEBUG if by == SUPERVISOR else logging.INFO  # which has told it already
        log.log(level, "stopping for %s; running handlers have %g s", by, grace_s)
        if self._asked.is_set():
            self._urgent.set()
            return
        self.grace_s = grace_s
        self._asked.set()
        if self._serving is None and self._task is not None:
            self._task.cancel()

    async def end(self, instance: Instance) -> None:
        """Wait until it is asked for, then stop the instance, faster if that becomes urgent."""
        self._serving = instance
        await self._asked.wait()
        stopping = asyncio.create_task(instance.stop(self.grace_s), name="roost-stop")
        urgent = asyncio.create_task(self._urgent.wait(), name="roost-stop-urgent")
        try:
            await asyncio.wait({stopping, urgent}, return_when=asyncio.FIRST_COMPLETED)
            if not stopping.done():
                await instance.stop(0)
            await stopping
        finally:
            urgent.cancel()
            stopping.cancel()
            await asyncio.gather(urgent, stopping, return_exceptions=True)


async def serve(
    agent: Agent[Any],
    stop: Stop,
    *,
    url: str | None,
    namespace: str | None,
    tell: Callable[[Word], None],
    settled: Callable[[], None],
) -> None:
    """Serve until `stop` is asked for; `settled` is called when all work has been finished or handed back.

    Cancelled when the stop comes before the agent was ready. Raises what the agent's lifespan raises, and
    ConnectError (refused credentials), ConfigMismatch, StreamMissing, PermissionDenied.
    """
    name = os.environ.get("ROOST_INSTANCE") or agent.name
    servers = resolve(url, namespace=namespace).shown
    early = Word("waiting", name, f"no connection to {servers} yet")
    soon = asyncio.get_running_loop().call_later(SAY_S, tell, early)
    for attempt in itertools.count():
        ready = False
        try:
            async with connect(url, namespace=namespace, name=name) as bus:
                soon.cancel()
                async with agent.serve(bus, grace_s=0) as instance, bus.upkeep.running():
                    ready = True
                    _tell_of_loop(bus, instance.name, tell)
                    await stop.end(instance)
                    settled()
                    return
        except (
            ConnectError,
            NoResponders,
            NotConnected,
            Disconnected,
            RequestTimeout,
            JetStreamError,
        ) as error:
            if ready or not _passes(error):
                raise
            tell(Word("waiting", name, str(error)))
        finally:
            soon.cancel()
        delay_s = min(RETRY_CAP_S, RETRY_BASE_S * 2 ** min(attempt, 10))
        await asyncio.sleep(delay_s * (0.5 + 0.5 * random.random()))


def _tell_of_loop(bus: Bus, name: str, tell: Callable[[Word], None]) -> None:
    """That it is ready, that its loop is blocked, and that it is ready again."""
    bus.loop_watch.on_blocked = lambda text: tell(Word("blocked", name, text))
    bus.loop_watch.on_free = lambda: tell(Word("ready", name))
    tell(Word("ready", name))


def _passes(error: Exception) -> bool:
    """Whether waiting may mend it."""
    if isinstance(error, JetStreamError):
        return error.err_code in _LEADERLESS
    return not (isinstance(error, ConnectError) and any(sign in error.reason.lower() for sign in _REFUSED))
