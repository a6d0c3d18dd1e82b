"""Following who is there: for dashboards, and for whoever chooses an instance by its load.

It listens to heartbeats and asks only those that are late. The changes that nobody has read yet are kept one for
each instance, the newest: a slow reader needs no more memory than there are agents, and misses no agent.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable
from types import TracebackType
from typing import Self

from roost.discovery import micro
from roost.discovery.asking import TIMEOUT_S, find_agents
from roost.discovery.info import AgentInfo, Capability, from_answer, from_beat
from roost.discovery.names import beat_subject
from roost.discovery.roster import AgentChange, Roster
from roost.errors import (
    ConfigError,
    InvalidMessage,
    NoResponders,
    PermissionDenied,
    RequestTimeout,
    RoostError,
    UnsafeToken,
)
from roost.observe import Journal
from roost.subjects import token
from roost.transport import Link, Listener, Message
from roost.transport.strayed import strayed

PROBE_S = 1.0
"""Seconds that an instance has to answer when it is asked; half its interval if that is less."""
PROBES = 64
"""Instances that are asked side by side."""
RETURN_S = 5.0
"""Seconds after a reconnect in which nobody is called gone: the others are still coming back, too."""
TURN_S = 1.0
LEAST_TURN_S = 0.05
UNREAD = 20_000
"""Changes, of as many instances, that may wait to be read; beyond that the oldest is dropped and counted."""


class AgentWatch:
    """``async with bus.watch_agents() as watch: async for change in watch: ...``; made by `Bus.watch_agents`."""

    def __init__(
        self,
        link: Link,
        namespace: str,
        journal: Journal,
        *,
        agent: str | None = None,
        capability: Capability | None = None,
    ) -> None:
        self._link = link
        self._namespace = namespace
        self._journal = journal
        self._agent = agent if agent is None else token(agent, name="agent")
        self._roster = Roster(lambda info: capability is None or info.handles(capability))
        self._unread: dict[tuple[str, float], AgentChange] = {}
        self._news = asyncio.Event()
        self._listener: Listener | None = None
        self._caretaker: asyncio.Task[None] | None = None
        self._returned = False
        self._closed = False

    @property
    def agents(self) -> tuple[AgentInfo, ...]:
        """Who is there now, by instance; also those that are silent."""
        return self._roster.agents

    async def __aenter__(self) -> Self:
        """Whoever answers now is known when this returns; each of them is the first thing to be read, as `joined`.

        Raises PermissionDenied, NotConnected, Disconnected.
        """
        if self._listener is not None:
            raise ConfigError("a watch is entered once; ask bus.watch_agents() for another")
        client = self._link.client
        subject = beat_subject(self._namespace, self._agent or "*", "*")
        self._listener = client.listen(subject, self._beat)
        client.on_reconnect.append(self._reconnected)
        try:
            await client.flush()
            if self._listener.denied:
                raise PermissionDenied(subject, "subscribe")
            await self._look_around()
        except BaseException:
            await self.close()
            raise
        self._caretaker = asyncio.create_task(self._take_care(), name="roost-watch-agents")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """End the watch; who iterates comes to the end."""
        self._closed = True
        self._news.set()
        client = self._link.client
        if self._reconnected in client.on_reconnect:
            client.on_reconnect.remove(self._reconnected)
        if self._listener is not None and not client.is_closed:
            client.unlisten(self._listener)
        if self._caretaker is not None:
            self._caretaker.cancel()
            await asyncio.gather(self._caretaker, return_exceptions=True)

    def __aiter__(self) -> Self:
        """Changes as they come, until the block is left. For one reader."""
        return self

    async def __anext__(self) -> AgentChange:
        if self._listener is None:
            raise ConfigError("a watch begins with its block: async with bus.watch_agents() as watch")
        while not self._unread:
            if self._closed:
                raise StopAsyncIteration
            self._news.clear()
            await self._news.wait()
        return self._unread.pop(next(iter(self._unread)))

    # What comes in ------------------------------------------------------------------------------

    def _beat(self, message: Message) -> None:
        if message.head and strayed(message):
            self._journal.record(
                "beat_refused", subject=message.subject, reason="a record of a log, sent by no agent"
            )
            return
        try:
            info = from_beat(message)
        except (InvalidMessage, UnsafeToken) as error:
            self._journal.record("beat_refused", subject=message.subject, reason=str(error))
            return
        self._tell(self._roster.heard(info, self._now()))

    def _tell(self, changes: Iterable[AgentChange]) -> None:
        for change in changes:
            key = (change.agent.instance, change.agent.started_s)
            before = self._unread.get(key)
            if before is not None and before.kind == "joined" and change.kind in ("changed", "silent"):
                change = AgentChange(
                    "joined", change.agent
                )  # who has not read of it yet has to know it first
            self._unread[key] = change
            self._news.set()
            if len(self._unread) > UNREAD:
                lost = self._unread.pop(next(iter(self._unread)))
                self._journal.record(
                    "changes_dropped", subject=lost.agent.instance, reason="nobody reads them"
                )
        if self._roster.refused:
            self._journal.record("agents_dropped", reason="too many to be followed", by=self._roster.refused)
            self._roster.refused = 0

    def _reconnected(self) -> None:
        self._roster.pardon(self._now() + RETURN_S)
        self._returned = True

    def _now(self) -> float:
        return asyncio.get_running_loop().time()

    # Whom to ask --------------------------------------------------------------------------------

    async def _take_care(self) -> None:
        while True:
            due = self._roster.next_due()
            wait_s = TURN_S if due is None else min(TURN_S, max(LEAST_TURN_S, due - self._now()))
            await asyncio.sleep(wait_s)
            if not self._link.client.is_connected:  # nobody can be asked, and nobody is known to be well
                for info in self._roster.overdue(self._now()):
                    self._tell(self._roster.no_answer(info))
                continue
            try:
                if self._returned:
                    self._returned = False
                    await self._look_around()
                late = self._roster.overdue(self._now())
                for start in range(0, len(late), PROBES):
                    await asyncio.gather(*map(self._probe, late[start : start + PROBES]))
            except RoostError as error:  # it is tried again: after a reconnect, or in the next turn
                self._journal.record("agents_not_asked", reason=str(error), level=logging.INFO)

    async def _look_around(self) -> None:
        found = await find_agents(
            self._link.client, self._namespace, self._journal, agent=self._agent, timeout_s=TIMEOUT_S
        )
        for info in found:
            self._tell(self._roster.heard(info, self._now()))

    async def _probe(self, info: AgentInfo) -> None:
        subject = f"{micro.PREFIX}.INFO.{info.agent}.{info.instance}"
        try:
            answer = await self._link.requests.ask(subject, timeout_s=min(PROBE_S, info.interval_s / 2))
            now = from_answer(answer, self._namespace)
        except NoResponders:
            self._tell(self._roster.nobody_there(info))
        except (RequestTimeout, InvalidMessage, UnsafeToken):
            self._tell(self._roster.no_answer(info))
        except RoostError as error:
            self._journal.count(f"agent_not_asked:{type(error).__name__}")
        else:
            if now is not None and now.instance == info.instance:
                self._tell(self._roster.heard(now, self._now()))
