"""Outcomes that a test gives beforehand, and handles on tasks that exist in no log."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from roost.contracts import Task, Workflow
from roost.errors import InvalidMessage, Reject
from roost.tasks import Cancelled, Dead, DeadLetter, Done, Handle, Outcome, Ref

Canned = Callable[[Any], Any]
"""What stands for a handler: a function of the input that returns the output or an `Outcome`, or raises."""
CannedOutcomes = Mapping[Task[Any, Any] | Workflow[Any, Any] | str, Canned]


async def outcome_of(
    outcomes: CannedOutcomes, contract: Any, value: Any, ref: Ref, *, op: str, key: str
) -> Outcome[Any]:
    """What the test says that a task comes to: by the name of its operation, else by its contract.

    Input and output are checked as between processes, and come out as copies. Raises InvalidMessage, and
    AssertionError when the test says nothing.
    """
    canned = outcomes.get(op) or outcomes.get(contract)
    if canned is None:
        raise AssertionError(
            f"the test has no outcome for {op!r}: give one in outcomes={{...}}, under the contract {contract.name!r} "
            f"or the name {op!r}"
        )
    try:
        result = canned(_copied(contract.input_codec, value, ref))
        if inspect.isawaitable(result):
            result = await result
    except (AssertionError, InvalidMessage):
        raise
    except Exception as error:
        text = f"{type(error).__name__}: {error}"
        reason = error.reason if isinstance(error, Reject) else text
        letter = DeadLetter(reason=reason, attempts=1, error=text, name=ref.name, run=ref.run, id=ref.id)
        return Dead(letter, key=key)
    if isinstance(result, Dead | Cancelled):
        return replace(result, key=key)
    done = result if isinstance(result, Done) else Done(result)
    return replace(done, value=_copied(contract.output_codec, done.value, ref), key=key)


def _copied(codec: Any, value: Any, ref: Ref) -> Any:
    subject = f"{ref.name} {ref.id}"
    return codec.decode(codec.encode(value, subject=subject), subject=subject)


class FakeHandle(Handle[Any]):
    """A handle on a task that a test's context has submitted: it comes to what the test says, once asked."""

    __slots__ = ("_ask",)

    def __init__(self, ref: Ref, ask: Callable[[], Any]) -> None:
        nothing: Any = None
        super().__init__(ref, ref.id, nothing, nothing, nothing, nothing, nothing, created=True)
        self._ask = ask
        self._outcome: Outcome[Any] | None = None

    async def outcome(self, *, timeout_s: float | None = None) -> Outcome[Any]:
        if self._outcome is None:
            found: Outcome[Any] = await self._ask()
            self._outcome = self._outcome or found
            return self._outcome
        return self._outcome

    async def cancel(self, reason: str = "") -> bool:
        if self._outcome is not None:
            return False
        self._outcome = Cancelled("test", reason, self.key)
        return True


class Clock:
    """Time that passes only when the test says so."""

    def __init__(self, now_s: float) -> None:
        self.now_s = now_s
        self._news = asyncio.Event()
        self._waiting = asyncio.Event()

    def advance(self, seconds: float) -> None:
        self.now_s += seconds
        self.wake()

    def wake(self) -> None:
        self._waiting.clear()
        self._news.set()

    async def news(self) -> None:
        """Until time has passed, or something has come."""
        self._news.clear()
        self._waiting.set()
        try:
            await self._news.wait()
        finally:
            self._waiting.clear()

    async def until_waiting(self) -> None:
        """Until somebody waits for news."""
        await self._waiting.wait()
