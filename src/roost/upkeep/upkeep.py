"""Upkeep of a namespace: what some process has to do from time to time, and this one does while it has the lease.

Each process that serves agents takes part, so an installation needs no process of its own for it. Where agents have
least privilege they may not, and an administrator runs `roost upkeep`.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Protocol

from roost.errors import PermissionDenied, RoostError
from roost.permissions import check_rights
from roost.tasks.log import Log
from roost.tasks.retention import Retention
from roost.upkeep.lease import Lease
from roost.upkeep.objects import Objects
from roost.upkeep.overdue import Overdue
from roost.upkeep.prune import Prune
from roost.upkeep.rights import keeping

log = logging.getLogger("roost.upkeep")

START_S = 5.0
"""A process takes part once it has served for so many seconds: one that is there for a moment leaves it to others."""
AGAIN_S = 5.0
"""Pause after a failure, in seconds."""


class Duty(Protocol):
    """Something to be done again and again. It must do no harm when two processes do it at once, or one dies in it."""

    name: str
    interval_s: float
    """Pause between two times, in seconds."""

    async def run_once(self) -> None:
        """Whatever it raises is counted and told of (``upkeep_failed``), and it is called again after the interval."""


def duties_of(tasks: Log) -> list[Duty]:
    """All duties of a namespace."""
    return [Prune(tasks), Overdue(tasks), Objects(tasks)]


class Upkeep:
    """One bus's share in the upkeep of its namespace.

    Events: ``upkeep_begun`` and ``upkeep_ended`` (it has the lease, has it no more), ``upkeep_not_allowed``,
    ``upkeep_failed``.
    """

    def __init__(self, tasks: Log, duties: Sequence[Duty] | None = None, *, inbox: str = "_INBOX") -> None:
        self._log = tasks
        self._duties = duties_of(tasks) if duties is None else duties
        self._inbox = inbox
        self._users = 0
        self._task: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def running(self, *, start_s: float = START_S) -> AsyncIterator[None]:
        """Take part for the length of the block, from `start_s` seconds on; once, however many blocks there are."""
        self._users += 1
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(start_s), name="roost-upkeep")
        try:
            yield
        finally:
            self._users -= 1
            task = self._task
            if not self._users and task is not None:
                self._task = None
                task.cancel()
                await asyncio.gather(task, return_exceptions=True)

    async def check(self) -> None:
        """Raises PermissionDenied, with all that this user would need and may not do; NotConnected, Disconnected."""
        needed = keeping(self._log.subjects.namespace, self._inbox)
        await check_rights(self._log.link, needed, self._log.journal)

    async def retention(self) -> Retention | None:
        """How long the namespace keeps its runs; None while there is no log. Raises ConfigError."""
        info = await self._log._seen()
        return Retention.of(info["config"]) if info is not None else None

    async def _run(self, start_s: float) -> None:
        await asyncio.sleep(start_s * (0.5 + random.random()))
        while not self._log.ready:  # noqa: ASYNC110 (nothing durable has been served or submitted here yet)
            await asyncio.sleep(START_S)
        lease = Lease(self._log)
        checked = False
        try:
            while True:
                try:
                    if not checked:
                        await self.check()
                        checked = True
                    await lease.take()
                except PermissionDenied as error:
                    count = len(error.missing)
                    reason = (
                        f"this user lacks {count} permission{'s' * (count > 1)} for upkeep, which has to run elsewhere "
                        "(`roost upkeep`); `roost permissions --role upkeep` prints them"
                    )
                    self._log.journal.record("upkeep_not_allowed", reason=reason, level=logging.INFO)
                    return
                except RoostError as error:
                    self._log.journal.count(f"upkeep_not_taken:{type(error).__name__}")
                    await asyncio.sleep(AGAIN_S * (0.5 + random.random()))
                    continue
                await self._hold(lease)
        finally:
            lease.stop()

    async def _hold(self, lease: Lease) -> None:
        """Do all duties for as long as the lease is ours."""
        loop, journal = asyncio.get_running_loop(), self._log.journal
        journal.record("upkeep_begun", subject=self._log.stream, level=logging.INFO)
        work = [loop.create_task(self._do(duty), name=f"roost-upkeep-{duty.name}") for duty in self._duties]
        try:
            await lease.keep()
        finally:
            for one in work:
                one.cancel()
            await asyncio.gather(*work, return_exceptions=True)
            journal.record("upkeep_ended", subject=self._log.stream, level=logging.INFO)

    async def _do(self, duty: Duty) -> None:
        while True:
            try:
                await duty.run_once()
            except Exception as error:
                self._log.journal.record(
                    "upkeep_failed",
                    subject=duty.name,
                    reason=f"{type(error).__name__}: {error}",
                    error=None if isinstance(error, RoostError) else error,
                )
            await asyncio.sleep(duty.interval_s * (0.75 + random.random() / 2))
