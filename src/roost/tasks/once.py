"""One recorded result of an effect, within a task.

A kill between the effect and its record repeats the effect: give it `Context.idempotency_key`, and let the
other side recognise it.
"""

from __future__ import annotations

import asyncio
import inspect
import random
from collections.abc import Awaitable, Callable
from typing import Any, get_type_hints

from roost.codec import Codec, Limits
from roost.errors import Disconnected, JetStreamError, NotConnected, RequestTimeout
from roost.subjects import key_token
from roost.tasks.batch import create_once
from roost.tasks.log import Log
from roost.tasks.records import Ref
from roost.transport.headers import block
from roost.transport.jetstream import WRONG_LAST_SEQUENCE, WRONG_LAST_SEQUENCE_PENDING

LIMITS = Limits(max_bytes=256 * 1024)


async def once(log: Log, ref: Ref, name: str, call: Callable[[], Awaitable[Any]], codec: Codec[Any]) -> Any:
    """The recorded result under `name`, or that of `call`, recorded now.

    When another attempt has recorded one meanwhile, that one is returned. Repeats the writing (never the
    call) through outages. Raises what `call` raises, InvalidMessage for a result that has no JSON, and
    JetStreamError.
    """
    subject = log.subjects.once(ref, key_token(name))
    there = await log.last(subject)
    if there is None:
        value = await call()
        data = codec.encode(value, subject=subject)
        if await _stored(log, subject, data):
            return codec.decode(data, subject=subject)
        there = await log.last(subject, leader=True)
        if there is None:
            return codec.decode(data, subject=subject)
    return codec.decode(there.data, subject=subject)


async def _stored(log: Log, subject: str, data: bytes) -> bool:
    """Store a result once; False when one was there."""
    tries = 0
    while True:
        try:
            await log.link.jetstream.publish(subject, data, block(*create_once("")))
            return True
        except JetStreamError as error:
            if error.err_code == WRONG_LAST_SEQUENCE:
                return False
            if error.err_code != WRONG_LAST_SEQUENCE_PENDING:
                raise
        except (RequestTimeout, Disconnected, NotConnected):
            log.journal.count("once_delayed")
        await asyncio.sleep(min(2.0, 0.02 * 2 ** min(tries, 7)) * (0.5 + random.random()))
        tries += 1


def result_type(fn: Callable[..., Any]) -> Any:
    """The type that a function is annotated to return; Any when it is not."""
    target = inspect.unwrap(fn)
    if not inspect.isroutine(target):
        target = getattr(target, "func", None) or type(target).__call__
    try:
        return get_type_hints(target, include_extras=True).get("return", Any)
    except (NameError, TypeError):
        return Any
