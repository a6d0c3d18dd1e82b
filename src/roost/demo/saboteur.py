"""Kills a worker and the coordinator in the middle of an audit, by SIGKILL, as a crash or the kernel would.

When: a third of the tasks have ended, and a digester has the flaky file in its hands. Both are told by messages, so
the blow lands in the middle on a fast machine and on a slow one.
"""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable

from roost.demo.contracts import AtWork, Progress
from roost.runtime import Supervisor

COORDINATOR = ":coordinator"


class Saboteur:
    """Strikes once. `say` gets a line for people."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self._say = say
        self._third = asyncio.Event()
        self._at_work = asyncio.Event()
        self._victim = ""
        self.struck = False

    def hear_progress(self, value: Progress) -> None:
        if value.ended * 3 >= value.submitted:
            self._third.set()

    def hear_at_work(self, value: AtWork) -> None:
        self._victim = value.instance
        self._at_work.set()

    @property
    def is_time(self) -> bool:
        return self._third.is_set() and self._at_work.is_set()

    async def strike(self, team: Supervisor) -> None:
        """Wait for the moment, and kill."""
        await self._third.wait()
        await self._at_work.wait()
        struck = [
            one for one in team.processes if one.name == self._victim or one.spec.target.endswith(COORDINATOR)
        ]
        names = " and ".join(one.name for one in struck)
        self._say(f"killing {names} with SIGKILL, in the middle of their work")
        for process in struck:
            process.send_signal(signal.SIGKILL)
        self.struck = True
