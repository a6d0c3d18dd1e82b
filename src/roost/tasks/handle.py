"""A handle on a submitted task: it can be awaited, by whoever holds it, as often as wanted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, Generic

from typing_extensions import TypeVar

from roost.codec import Codec
from roost.errors import RequestTimeout
from roost.tasks.log import Log, Record
from roost.tasks.outcome import Outcome, decode_outcome, value_of, whole
from roost.tasks.progress import Chunk, read_chunks
from roost.tasks.records import Ref
from roost.tasks.waiting import Waiter

C = TypeVar("C")
O = TypeVar("O")
Cancel = Callable[[Ref, str], Awaitable[bool]]
Why = Callable[[Ref], Awaitable[str]]
"""Why a task has no outcome yet; empty if that is not known."""
WHY_S = 2.0
"""Seconds that whoever has waited in vain waits for the reason."""


class Handle(Generic[O]):
    """One task. `id` names it for good: another process gets a handle on it by ``bus.handle(task, id)``."""

    __slots__ = (
        "_cancel",
        "_codec",
        "_fresh",
        "_log",
        "_outcome",
        "_waiter",
        "_why",
        "created",
        "key",
        "ref",
    )

    def __init__(
        self,
        ref: Ref,
        key: str,
        log: Log,
        waiter: Waiter,
        codec: Codec[Any],
        cancel: Cancel,
        why: Why,
        *,
        created: bool,
        fresh: bool = False,
    ) -> None:
        self.ref = ref
        self.key = key
        self.created = created
        """False when this submission found the task there already, under the same key."""
        self._cancel = cancel
        self._why = why
        self._log = log
        self._fresh = fresh  # stored just now, while the waiter's feed covered its contract
        self._waiter = waiter
        self._codec = codec
        self._outcome: Outcome[O] | None = None

    @property
    def id(self) -> str:
        return str(self.ref)

    async def outcome(self, *, timeout_s: float | None = None) -> Outcome[O]:
        """Wait for the outcome: `Done`, `Dead` or `Cancelled`, as a value.

        Raises RequestTimeout after `timeout_s` seconds (the task goes on and can be awaited again),
        ConnectionClosed when the bus closes, InvalidMessage when the recorded value does not fit the
        contract's model, or is a large one that is lost.
        """
        if self._outcome is None:
            if timeout_s is None:
                record = await self._end()
            else:
                try:
                    async with asyncio.timeout(timeout_s):
                        record = await self._end()
                except TimeoutError as error:
                    raise await self._late(timeout_s) from error
            self._fresh = False
            self._outcome = decode_outcome(record, self.ref, self.key, self._codec)
        return self._outcome

    async def _late(self, timeout_s: float) -> RequestTimeout:
        try:
            async with asyncio.timeout(WHY_S):
                why = await self._why(self.ref)
        except TimeoutError:
            why = ""
        goes_on = "If it was submitted it stays stored and goes on; wait again, or see who has it with"
        text = (
            f"task {self.id} ({self.ref.name}) has no outcome after {timeout_s:g} s. "
            f"{why + ' It stays stored; see' if why else goes_on} `roost tasks show`"
        )
        return RequestTimeout(f"outcome of task {self.id}", timeout_s, text)

    async def _end(self) -> Record:
        record = await self._waiter.end(self.ref, fresh=self._fresh)
        return await whole(self._log, record, self._codec)

    async def result(self, *, timeout_s: float | None = None) -> O:
        """Wait for the value. Raises as `outcome`, and TaskDead or TaskCancelled when there will be none."""
        return value_of(await self.outcome(timeout_s=timeout_s), self.ref)

    def chunks(self, model: type[C], *, idle_timeout_s: float | None = None) -> AsyncIterator[Chunk[C]]:
        """What the handler emits while it works (`Context.emit`), from the first chunk on, until the outcome.

        Readers that join late, and after the end, get the same chunks in the same order. A handler that runs
        again emits anew: ``chunk.execution`` changes then, and what came with a lower number is no part of the
        answer. Chunks that are no `model` are passed over and counted (``message_refused``).

        It waits for the outcome as `outcome` does, through restarts of the server and while no worker runs; with
        `idle_timeout_s` it raises RequestTimeout when nothing came for so many seconds. Raises ConnectionClosed
        when the bus closes, ConfigError for a `model` that has no JSON.
        """
        return read_chunks(self._log, self._waiter, self.ref, "chunk", model, idle_timeout_s=idle_timeout_s)

    def progress(self, *, idle_timeout_s: float | None = None) -> AsyncIterator[Chunk[str]]:
        """How far the handler says it is (`Context.progress`), from the first note on; else as `chunks`."""
        return read_chunks(self._log, self._waiter, self.ref, "progress", str, idle_timeout_s=idle_timeout_s)

    async def cancel(self, reason: str = "") -> bool:
        """Cancel it, and all below it if it is a workflow; False when it had an outcome already.

        What is queued never runs; a handler at work gets a CancelledError and may clean up; a result that
        comes late loses to the record. Raises ConfigError when there is no such task.
        """
        return await self._cancel(self.ref, reason)

    def __repr__(self) -> str:
        return f"Handle({self.ref.name} {self.id})"
