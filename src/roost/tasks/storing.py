"""Writes and reads that go on through an outage: a record that a running handler needs on file.

A server that restarts is away for seconds, a leader that changes for less. A handler that failed for each of
those would run again, effects included, for the sake of a record that only had to wait.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable
from typing import TypeVar

from roost.errors import (
    Disconnected,
    JetStreamError,
    NoResponders,
    NotConnected,
    RequestTimeout,
    StoreFull,
    StreamMissing,
)
from roost.tasks.log import Log, Record
from roost.tasks.objects import UNAVAILABLE
from roost.tasks.references import Reference
from roost.transport.jetstream import STORE_FULL, WRONG_LAST_SEQUENCE_PENDING

R = TypeVar("R")

_AWAY = (Disconnected, NoResponders, NotConnected, RequestTimeout, StreamMissing)


async def store(
    log: Log,
    subject: str,
    data: bytes,
    head: bytes = b"",
    *,
    patience_s: float | None,
    when_full: bool = False,
) -> int:
    """Store a record, tried again through outages; returns its sequence. It may be stored twice without a guard.

    Gives up after `patience_s` seconds, None: never. With `when_full`, a full store is waited for as well. Raises
    StoreFull, JetStreamError, what `Client.send` raises, and what the last try failed with.
    """

    async def write() -> int:
        try:
            return await log.link.jetstream.publish(subject, data, head)
        except JetStreamError as error:
            if error.err_code in STORE_FULL:
                raise await log.room.refused(error) from error
            raise

    return await _patiently(log, subject, write, patience_s, when_full=when_full)


async def newest(log: Log, subject: str, *, patience_s: float | None = None) -> Record | None:
    """The newest record on a subject as the leader knows it, tried again through outages; gives up as `store` does."""
    return await _patiently(log, subject, lambda: log.last(subject, leader=True), patience_s)


async def put_object(
    log: Log, subject: str, data: bytes, *, patience_s: float | None = None, share: float = 1.0
) -> Reference:
    """Store the payload of a record that will be on `subject`, tried again through outages; raises as `store`."""
    return await _patiently(log, subject, lambda: log.objects.put(subject, data, share=share), patience_s)


async def _patiently(
    log: Log,
    subject: str,
    attempt: Callable[[], Awaitable[R]],
    patience_s: float | None,
    *,
    when_full: bool = False,
) -> R:
    loop = asyncio.get_running_loop()
    until = None if patience_s is None else loop.time() + patience_s
    tries = 0
    while True:
        try:
            return await attempt()
        except StoreFull as error:
            if not when_full:
                raise
            why: Exception = error
        except JetStreamError as error:
            if error.err_code != WRONG_LAST_SEQUENCE_PENDING and error.code != UNAVAILABLE:
                raise
            why = error
        except _AWAY as error:
            why = error
        delay_s = min(0.5, 0.02 * 2 ** min(tries, 5)) * (0.5 + random.random())
        if until is not None and loop.time() + delay_s > until:
            raise why
        log.journal.record("record_delayed", subject=subject, reason=str(why))
        tries += 1
        await _back(log, delay_s)


async def _back(log: Log, delay_s: float) -> None:
    """Wait, at most until the server is back: what it has not heard of for the ack wait, it gives to others."""
    back = asyncio.Event()
    log.link.client.on_reconnect.append(back.set)
    try:
        async with asyncio.timeout(delay_s):
            await back.wait()
    except TimeoutError:
        return
    finally:
        log.link.client.on_reconnect.remove(back.set)
