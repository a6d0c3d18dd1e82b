"""Whether an execution of a workflow is at work or waits for the log, and the slot that goes with it.

A step needs a slot, and so does an execution until it first waits. Between operations it only computes, which
needs none: so it can go on when what it has waited for is there, however many others are at work.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from roost.runs.slots import Slots


class Activity:
    """One execution's. Whoever makes it has taken a slot. `on_rest` is called whenever it begins to wait."""

    def __init__(self, slots: Slots, on_rest: Callable[[], None]) -> None:
        self._slots = slots
        self._on_rest = on_rest
        self._holds = True
        self._over = False
        self._turn = asyncio.Lock()
        self._waits = 0
        self._steps = 0

    @property
    def waiting(self) -> bool:
        """Whether nothing of this workflow runs: it waits for the log."""
        return self._waits > 0 and self._steps == 0

    async def step_begins(self) -> None:
        """A step's function is about to begin: it needs a slot if a wait has given it away."""
        self._steps += 1
        try:
            async with self._turn:
                if not self._holds:
                    await self._slots.take()
                    self._holds = True
        except BaseException:
            self._steps -= 1
            raise
        if self._over:
            self._give()

    def step_ends(self) -> None:
        """A step's function has ended."""
        self._steps -= 1
        self._rest()

    def wait_begins(self) -> None:
        """An operation waits for the log."""
        self._waits += 1
        self._rest()

    def wait_ends(self) -> None:
        """What it has waited for is there."""
        self._waits -= 1

    def close(self) -> None:
        """The execution is over."""
        self._over = True
        self._give()

    def _rest(self) -> None:
        if self.waiting and not self._over:
            self._give()
            self._on_rest()

    def _give(self) -> None:
        if self._holds:
            self._holds = False
            self._slots.give()
