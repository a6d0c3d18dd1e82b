"""A circuit breaker around calls: refuses at once while what it guards is broken, and tells when that changes."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable
from typing import ParamSpec, Protocol, TypeVar
from weakref import WeakKeyDictionary

from roost._breaker import BreakerPolicy
from roost._text import clean, quoted
from roost.errors import BreakerOpen, ConfigError
from roost.observe import Event, Journal
from roost.resilience.circuit import Circuit, Permit, State

P = ParamSpec("P")
R = TypeVar("R")

EVENTS: dict[State, str] = {
    "open": "breaker_opened",
    "half_open": "breaker_half_open",
    "closed": "breaker_closed",
}
_LEVELS: dict[State, int] = {"open": logging.WARNING, "half_open": logging.INFO, "closed": logging.INFO}
_POLICY = BreakerPolicy()


class Recording(Protocol):
    """What has a journal: a `Bus`."""

    @property
    def journal(self) -> Journal: ...


class CircuitBreaker:
    """Guards calls of one thing: ``await breaker.call(fn, ...)``, or ``async with breaker:`` around the call.

    While it is open both raise `BreakerOpen` and nothing is called. After `BreakerPolicy.open_s` one call, the probe,
    goes through while all others are still refused; its success closes the breaker, its failure opens it again, for
    longer. Calls that end by cancellation count neither way, so a time limit stands inside of the guarded call, not
    around it. Changes are events of the `bus` (``breaker_opened``, ``breaker_half_open``, ``breaker_closed``, with
    the `name` as their subject); without one they are log lines. For use from one event loop; each process has its
    own.
    """

    def __init__(
        self,
        name: str,
        policy: BreakerPolicy = _POLICY,
        *,
        bus: Recording | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`clock` gives seconds and does not go back. Raises ConfigError for no name, or what is no policy."""
        if not isinstance(name, str) or not name.strip():
            raise ConfigError(f"CircuitBreaker: name = {quoted(name)}: must be a text that is not empty.")
        if not isinstance(policy, BreakerPolicy):
            raise ConfigError(f"CircuitBreaker: policy = {quoted(policy)}: must be roost.BreakerPolicy.")
        self.name = clean(name, 200)
        self._circuit = Circuit(policy, random.random)
        self._journal = bus.journal if bus is not None else Journal()
        self._clock = clock
        self._since_s = time.time()
        self._entered: WeakKeyDictionary[asyncio.Task[object], list[tuple[Permit, float]]] = (
            WeakKeyDictionary()
        )

    @property
    def state(self) -> State:
        """``closed``, ``open`` or ``half_open``. What is open becomes half open with the call that is its probe."""
        return self._circuit.state

    @property
    def policy(self) -> BreakerPolicy:
        return self._circuit.policy

    @property
    def probe_in_s(self) -> float:
        """Seconds until an open breaker lets a probe through; 0 when it is time, or it is not open."""
        return max(0.0, self._circuit.probe_at - self._clock()) if self.state == "open" else 0.0

    @property
    def would_admit(self) -> bool:
        """Whether a call that began now would go out."""
        return self._circuit.would_admit(self._clock())

    async def call(self, fn: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """The result of ``fn(*args, **kwargs)``. Raises what it raises, and BreakerOpen without calling it."""
        permit = self.admit()
        begun = self._clock()
        try:
            result = await fn(*args, **kwargs)
        except BaseException as error:
            self.report(permit, self._clock() - begun, error)
            raise
        self.report(permit, self._clock() - begun)
        return result

    async def __aenter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None  # this is a coroutine
        permit = self.admit()
        self._entered.setdefault(task, []).append((permit, self._clock()))

    async def __aexit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        task = asyncio.current_task()
        entered = self._entered.get(task) if task is not None else None
        if not entered:  # left in another task than it was entered in, as an abandoned generator is
            return
        permit, begun = entered.pop()
        self.report(permit, self._clock() - begun, error)

    def admit(self) -> Permit:
        """Leave to make one call, for what is no coroutine; `report` has to follow. Raises BreakerOpen."""
        circuit, before = self._circuit, self._circuit.state
        permit = circuit.admit(self._clock())
        if permit is None:
            raise BreakerOpen(
                self.name,
                since_s=self._since_s,
                reason=circuit.reason,
                retry_after_s=self.probe_in_s,
            )
        if circuit.state != before:
            self._tell("one call goes out as a probe, the others wait for what comes of it")
        return permit

    def report(self, permit: Permit, took_s: float, error: BaseException | None = None) -> None:
        """What came of the call that `permit` was for."""
        circuit, before = self._circuit, self._circuit.state
        if error is None:
            circuit.reported(permit, self._clock(), took_s)
        elif circuit.policy.counts(error):
            circuit.reported(
                permit, self._clock(), took_s, clean(f"{type(error).__name__}: {_text(error)}", 300)
            )
        else:
            circuit.released(permit)
        if circuit.state == before:
            return
        if circuit.state == "closed":
            self._tell("its probe went well")
        else:
            self._since_s = self._since_s if before == "half_open" else time.time()
            self._tell(f"{circuit.reason}; the next probe is due in {self.probe_in_s:.1f} s")

    def release(self, permit: Permit) -> None:
        """The call that `permit` was for is not made."""
        self._circuit.released(permit)

    def holds(self, permit: Permit) -> bool:
        """Whether the breaker has neither opened nor closed since it gave `permit`."""
        return self._circuit.holds(permit)

    def watch(self, watcher: Callable[[Event], None]) -> Callable[[], None]:
        """Call `watcher` for each change, as `Bus.watch` does, until what this returns is called."""

        def tell(event: Event) -> None:
            if event.subject == self.name and event.kind in EVENTS.values():
                watcher(event)

        return self._journal.watch(tell)

    def _tell(self, reason: str) -> None:
        state = self._circuit.state
        self._journal.record(EVENTS[state], subject=self.name, reason=reason, level=_LEVELS[state])

    def __repr__(self) -> str:
        return f"CircuitBreaker({self.name!r}, {self.state})"


def _text(error: BaseException) -> str:
    try:
        return str(error)
    except Exception as broken:  # the text of an exception may be the user's own code
        return f"its text cannot be had ({type(broken).__name__})"
