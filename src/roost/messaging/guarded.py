"""Requests that a circuit breaker guards, and requests that are tried again.

A try has all the time that is left of the caller's, and says so to the other side. One that has no answer after a
third of the caller's time is joined by another, and whichever answers first is believed: to cut it off instead would
make a slow answer, which would have come in time, an error. What fails at once is tried again after a random pause
("full jitter" of https://aws.amazon.com/blogs/architecture/exponential-backoff-and-jitter/). Every such try is paid
for from the budget of the endpoint, so that retries cannot multiply an outage.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any, TypeAlias

from roost.contracts import Endpoint
from roost.errors import BreakerOpen, Disconnected, NoResponders, NotConnected, Overloaded, RequestTimeout
from roost.observe import Journal
from roost.resilience import CircuitBreaker, RetryBudget

AGAIN = (NoResponders, Disconnected, NotConnected, Overloaded)
"""After these, nothing was run or it may be run twice. What a handler raised is an answer."""
LATE = 1 / 3
"""Part of the caller's time after which a try is late: of three instances two may hang, and there is time for one."""
PAUSE_BASE_S = 0.05
PAUSE_CAP_S = 1.0
"""The pause before a try is random between 0 and the base, doubled by each failure, up to the cap."""

Try: TypeAlias = Callable[[float], Awaitable[Any]]
"""One request within so many seconds."""


class Guarded:
    """The breakers and the budgets of one bus, by name of the endpoint."""

    def __init__(self, journal: Journal) -> None:
        self.journal = journal
        self._breakers: dict[str, CircuitBreaker] = {}
        self._budgets: dict[str, RetryBudget] = {}

    async def ask(self, endpoint: Endpoint[Any, Any], once: Try, *, timeout_s: float) -> Any:
        """The answer of an endpoint that has a breaker or is idempotent. Raises what `once` does, and BreakerOpen."""
        guarded = self._behind_breaker(endpoint, once)
        if not endpoint.idempotent:
            return await guarded(timeout_s)
        budget = self._budgets.get(endpoint.name)
        if budget is None:
            budget = self._budgets[endpoint.name] = RetryBudget()
        return await _Call(self.journal, endpoint.name, guarded, budget, timeout_s).answer()

    def _behind_breaker(self, endpoint: Endpoint[Any, Any], once: Try) -> Try:
        if endpoint.breaker is None:
            return once
        breaker = self._breakers.get(endpoint.name)
        if breaker is None:
            clock = asyncio.get_running_loop().time
            breaker = CircuitBreaker(f"endpoint {endpoint.name}", endpoint.breaker, bus=self, clock=clock)
            self._breakers[endpoint.name] = breaker
        call = breaker.call
        return lambda left_s: call(once, left_s)


class _Call:
    """One call, with all its tries."""

    def __init__(self, journal: Journal, name: str, once: Try, budget: RetryBudget, timeout_s: float) -> None:
        self._journal = journal
        self._subject = f"endpoint {name}"
        self._once = once
        self._budget = budget
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        self._until = self._loop.time() + timeout_s
        self._running: set[asyncio.Future[Any]] = set()
        self._late_at = 0.0
        self._tries = 0
        self._pauses = 0

    async def answer(self) -> Any:
        self._budget.called()
        self._begin()
        try:
            return await self._first()
        except RequestTimeout as error:
            raise RequestTimeout(error.subject, self._timeout_s) from error
        finally:
            for one in self._running:
                one.cancel()
            if self._running:
                await asyncio.wait(self._running)

    async def _first(self) -> Any:
        again = True
        while True:
            late_s = max(0.0, self._late_at - self._loop.time()) if again else None
            done, self._running = await asyncio.wait(
                self._running, timeout=late_s, return_when=asyncio.FIRST_COMPLETED
            )
            ends = [(one, one.exception()) for one in done]
            failed: BaseException | None = None
            for one, error in ends:
                if error is None:
                    return one.result()
                if failed is None or isinstance(failed, AGAIN):
                    failed = error
            if isinstance(failed, BreakerOpen) and self._running:
                again = False  # an earlier try may be answered yet
            elif failed is not None and not isinstance(failed, AGAIN):
                raise failed
            if failed is not None and self._running:
                continue
            again = await self._once_more(failed)
            if failed is not None and not again:
                raise failed

    async def _once_more(self, failed: BaseException | None) -> bool:
        """Begin another try, if there is time for it and the budget allows; whether there may be yet another."""
        pause_s = 0.0
        if failed is not None:
            pause_s = random.random() * min(PAUSE_CAP_S, PAUSE_BASE_S * 2 ** min(self._pauses, 10))
            self._pauses += 1
        if self._loop.time() + pause_s >= self._until:
            return False
        # Where nothing was sent, another try sends no more than one would have.
        if not isinstance(failed, NotConnected) and not self._budget.spend():
            self._journal.record(
                "retry_budget_spent", subject=self._subject, reason="most of its calls fail; not tried again"
            )
            return False
        if pause_s:
            await asyncio.sleep(pause_s)
        why = f"{type(failed).__name__}: {failed}" if failed is not None else "no answer yet"
        self._begin()
        self._journal.record(
            "request_retried", subject=self._subject, reason=f"try {self._tries}: {why}", level=logging.INFO
        )
        return True

    def _begin(self) -> None:
        now = self._loop.time()
        self._tries += 1
        self._late_at = now + self._timeout_s * LATE
        self._running.add(asyncio.ensure_future(self._once(self._until - now)))
