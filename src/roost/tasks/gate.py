"""The circuit breaker of a worker: while what its handler needs is broken, tasks wait instead of failing.

A worker whose database is gone fails what it takes as fast as it can take it, and the retry policy of each task is
used up long before the database is back: thousands of dead letters, of nothing that was wrong with the tasks. So
when the breaker opens, the task's consumer is paused on the server, for all instances, and this one asks for no
more. What had not begun goes back, and no attempt is used up by any of it. The pause has an end, so that nothing
stays paused when this process dies. Then one task is pulled and run as the probe; its success opens the tap again.

Each process has a breaker of its own, and so a probe of its own.
"""

from __future__ import annotations

import asyncio
from contextlib import suppress

from roost.contracts import BreakerPolicy
from roost.errors import BreakerOpen, ConnectionClosed, RoostError
from roost.resilience import CircuitBreaker, Permit
from roost.tasks.delivery import Delivery
from roost.tasks.log import Log
from roost.tasks.outcomes import HandBack
from roost.tasks.pausing import pause_further, resume
from roost.transport import Pump

AWAY_S = 1.0
"""A delivery that is handed back stays away for at least so long: the pause may take a moment to be everywhere."""
LIFT_S = 1.0
"""A worker that stops does not wait longer for the server to lift its pause."""


class Gate:
    """Between the deliveries of one task and its handler."""

    def __init__(self, tasks: Log, name: str, policy: BreakerPolicy) -> None:
        loop = asyncio.get_running_loop()
        self._log = tasks
        self._name = name
        self._breaker = CircuitBreaker(f"task {name}", policy, bus=tasks, clock=loop.time)
        self._permits: dict[Delivery, Permit] = {}
        self._pump: Pump | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._pausing: asyncio.Task[None] | None = None
        self._paused = ""  # when our pause ends
        self._stopped = False

    def attach(self, pump: Pump) -> None:
        """What is stopped while the breaker is open."""
        self._pump = pump

    def room(self, room: int) -> int:
        """How many of the deliveries that there is room for may come."""
        if self._breaker.state == "closed":
            return room
        return min(room, int(self._breaker.would_admit))

    def take(self, delivery: Delivery) -> None:
        """A delivery has come. It is the probe if that is due, and not for the handler if that may not run."""
        with suppress(BreakerOpen):
            self._permits[delivery] = self._breaker.admit()

    def begin(self, delivery: Delivery) -> None:
        """Its handler is about to run. Raises HandBack when the breaker is open, or has opened since it came."""
        permit = self._permits.get(delivery)
        if permit is None or not self._breaker.holds(permit):
            raise HandBack("its circuit breaker is open", max(AWAY_S, self._breaker.probe_in_s))

    def ended(self, delivery: Delivery, took_s: float, error: Exception | None = None) -> None:
        """Its handler has returned, or raised `error`."""
        permit = self._permits.pop(delivery, None)
        if permit is None:
            return
        before = self._breaker.state
        self._breaker.report(permit, took_s, error)
        if self._breaker.state == "open" != before and not self._stopped:
            self._shut()

    def left(self, delivery: Delivery) -> None:
        """The delivery is out of hands; if its handler has not ended, it counts neither way."""
        permit = self._permits.pop(delivery, None)
        if permit is not None:
            self._breaker.release(permit)

    def stop(self) -> None:
        """No probe and no pause any more: the worker takes no new work."""
        self._stopped = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    async def close(self) -> None:
        """Lift our own pause: whoever starts next, perhaps with what was missing, need not wait for its end."""
        if self._pausing is not None:
            self._pausing.cancel()
            await asyncio.wait([self._pausing])
        if self._paused and self._breaker.state == "open":
            try:
                async with asyncio.timeout(LIFT_S):
                    await resume(self._log, self._name, only=self._paused)
            except (RoostError, TimeoutError) as error:
                self._failed(error)

    def _shut(self) -> None:
        assert self._pump is not None
        self._pump.stop()
        loop = asyncio.get_running_loop()
        for_s = self._breaker.probe_in_s
        self._timer = loop.call_later(for_s, self._probe)
        if self._pausing is None or self._pausing.done():
            self._pausing = loop.create_task(self._pause(for_s), name=f"roost-pause-{self._name}")

    async def _pause(self, for_s: float) -> None:
        try:
            self._paused = await pause_further(self._log, self._name, for_s)
        except RoostError as error:
            self._failed(error)

    def _failed(self, error: Exception) -> None:
        """Then only this process waits, or the others wait to the end of the pause."""
        self._log.journal.record("pause_failed", subject=f"task {self._name}", reason=str(error))

    def _probe(self) -> None:
        self._timer = None
        assert self._pump is not None
        try:
            self._pump.start()  # there is room for one
        except ConnectionClosed:
            return  # the bus is at its end
