"""Calling a handler within its limits, and what becomes of those who leave otherwise than by a result.

A timer instead of ``asyncio.timeout``: that costs a tenth of what a short task costs in all.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from roost.contracts import Task, Workflow
from roost.errors import InvalidMessage, Reject, TooLarge
from roost.tasks.delivery import Delivery

Invoke = Callable[[Any, Delivery], Awaitable[Any]]


class AttemptTimeout(TimeoutError):
    """The handler took longer than the contract's `attempt_timeout_s`."""


class HandlerLeft(Exception):
    """The handler raised CancelledError although nobody cancelled it, or called sys.exit()."""


async def call(
    invoke: Invoke, value: Any, delivery: Delivery, *, limit_s: float | None, left_s: float | None
) -> Any:
    """The handler's result, within `limit_s` seconds, and `left_s` to the task's deadline.

    Raises AttemptTimeout, or Reject when the task's own deadline passed.
    """
    last = left_s is not None and (limit_s is None or left_s < limit_s)
    if last:
        limit_s = left_s
    if limit_s is None:
        return await invoke(value, delivery)
    running = asyncio.current_task()
    loop = asyncio.get_running_loop()
    delivery.deadline = loop.time() + limit_s
    timer = loop.call_at(delivery.deadline, _expire, delivery, running)
    try:
        return await invoke(value, delivery)
    except asyncio.CancelledError as error:
        if not delivery.expired or running is None or running.uncancel() > 0:
            raise
        if last:
            raise Reject("deadline: it passed while the handler ran") from error
        raise AttemptTimeout(f"no result within {limit_s:g} s") from error
    finally:
        timer.cancel()


def _expire(delivery: Delivery, running: asyncio.Task[Any] | None) -> None:
    if running is not None:
        delivery.expired = True
        running.cancel()


_TOO_LARGE = "; give the contract limits=Limits(max_bytes=…), or return a reference"


class UnfitResult(Reject):
    """A handler returned what its contract does not allow. It has run: to run it again would repeat its effects."""


def encode_result(task: Task[Any, Any] | Workflow[Any, Any], output: Any, subject: str) -> bytes:
    """What a handler returned, as it is recorded. Raises UnfitResult, which says what is wrong with it."""
    try:
        return task.output_codec.encode(output, subject=subject)
    except InvalidMessage as error:
        place = f"in {error.field}: " if error.field else ""
        remedy = _TOO_LARGE if isinstance(error, TooLarge) else ""
        raise UnfitResult(
            f"its result cannot be stored: the handler of {task.name!r} ran, but what it returned is no output of that "
            f"contract: {place}{error.reason}{remedy}"
        ) from error
