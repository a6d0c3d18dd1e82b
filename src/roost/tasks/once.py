"""One recorded result of an effect, within a task.

A kill between the effect and its record repeats the effect: give it `Context.idempotency_key`, and let the
other side recognise it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any, get_type_hints

from pydantic import ValidationError

from roost._text import quoted
from roost.codec import Codec, canonical_equal
from roost.errors import ConfigError, InvalidMessage, JetStreamError, TooLarge
from roost.subjects import key_token
from roost.tasks.batch import create_once
from roost.tasks.log import Log
from roost.tasks.outcomes import MESSAGE_TOO_LARGE
from roost.tasks.records import Ref
from roost.tasks.storing import newest, store
from roost.transport.headers import block
from roost.transport.jetstream import WRONG_LAST_SEQUENCE


async def once(log: Log, ref: Ref, name: str, call: Callable[[], Awaitable[Any]], codec: Codec[Any]) -> Any:
    """The recorded result under `name`, or that of `call`, recorded now.

    When another attempt has recorded one meanwhile, that one is returned. Asks the leader, for a replica may not
    have the record yet and the effect would be repeated; repeats reading and writing (never the call) through
    outages and while the store is full. Raises what `call` raises, UnsafeToken, JetStreamError, InvalidMessage
    (TooLarge; `final`) for a result that cannot be kept, ConfigError for a record of another type than `codec`.
    """
    subject = log.subjects.once(ref, key_token(name))
    there = await newest(log, subject)
    if there is None:
        effect = f"ctx.once {quoted(name)}"
        result = await call()
        try:
            data = codec.encode(result, subject=subject)
        except InvalidMessage as error:
            raise error.of_result(effect) from error
        try:
            await store(
                log, subject, data, block(*create_once("")), patience_s=None, when_full=True
            )  # create-once: its own repeat is refused like that of another
            return codec.decode(data, subject=subject)
        except TooLarge as error:
            raise error.of_result(effect) from error
        except JetStreamError as error:
            if error.err_code == MESSAGE_TOO_LARGE:
                reason = f"{len(data)} bytes are more than the stream's max_msg_size"
                unkept = InvalidMessage(subject=subject, field="", reason=reason)
                raise unkept.of_result(effect) from error
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
        there = await newest(log, subject)
        if there is None:  # its run was removed
            return codec.decode(data, subject=subject)
    return _recorded(codec, there.data, subject, name)


class Effects:
    """The effects of one handler call that are at work: two calls of one name must not both find no record."""

    def __init__(self) -> None:
        self._locks: dict[str, asyncio.Lock] = {}
        self._owners: dict[str, asyncio.Task[Any] | None] = {}

    @asynccontextmanager
    async def alone(self, name: str) -> AsyncIterator[None]:
        """No other call of this name runs during the block. Raises ConfigError for one within itself."""
        lock = self._locks.setdefault(name, asyncio.Lock())
        mine = asyncio.current_task()
        if lock.locked() and self._owners.get(name) is mine:
            raise ConfigError(
                f"ctx.once {quoted(name)}: the effect calls ctx.once under its own name, and would wait for itself"
            )
        async with lock:
            self._owners[name] = mine
            try:
                yield
            finally:
                self._owners[name] = None


def _recorded(codec: Codec[Any], data: bytes, subject: str, name: str) -> Any:
    """The value on record. What only passes as the type, such as "5" for an int, was of another one.

    Fields that were added with a default, or removed, are no other type.
    """
    try:
        value = codec.decode(data, subject=subject)
        if not _writes(codec, value, data, subject):
            codec.adapter.validate_json(data, strict=True)
    except InvalidMessage as error:
        raise _mismatch(codec, name, data, f"{error.field or 'the value'}: {error.reason}") from error
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the value"
        raise _mismatch(codec, name, data, f"{where}: {first['msg']}") from error
    return value


def _writes(codec: Codec[Any], value: Any, data: bytes, subject: str) -> bool:
    try:
        return canonical_equal(codec.encode(value, subject=subject), data)
    except InvalidMessage:
        return False


def _mismatch(codec: Codec[Any], name: str, data: bytes, reason: str) -> ConfigError:
    wanted = getattr(codec.model, "__name__", None) or quoted(codec.model)
    found = quoted(data[:100].decode("utf-8", "replace"))
    return ConfigError(
        f"ctx.once {quoted(name)}: on record is {found}, which is no {wanted} ({reason}). The record stays and the "
        f"effect was not repeated. Run code whose function returns what is on record, or use another name for the "
        "new effect."
    )


def result_type(fn: Callable[..., Any]) -> Any:
    """The type that a function is annotated to return; Any when it is not."""
    target = inspect.unwrap(fn)
    if not inspect.isroutine(target):
        target = getattr(target, "func", None) or type(target).__call__
    try:
        return get_type_hints(target, include_extras=True).get("return", Any)
    except (NameError, TypeError):
        return Any
