"""How a step's function is called, and what it says it returns.

A step's function is async. A sync one is called on a thread, as sync handlers are: on the loop it would stop
the heartbeats of every task of its process, which are then given to others.
"""

from __future__ import annotations

import asyncio
import collections.abc
import contextvars
import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from typing import Any, get_args, get_origin

from pydantic_core import from_json, to_json

from roost.codec import Codec, Limits
from roost.tasks.once import result_type
from roost.tasks.records import end_codec

VALUE_LIMITS = Limits(max_bytes=256 * 1024)
_AWAITABLE = (
    collections.abc.Awaitable,
    collections.abc.Coroutine,
    asyncio.Future,
    asyncio.Task,
)


async def call(fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    """The result of a step's function."""
    if is_sync(fn):
        context = contextvars.copy_context()
        loop = asyncio.get_running_loop()
        result = await loop.run_in_executor(None, lambda: context.run(_plain, fn, args, kwargs))
    else:
        result = fn(*args, **kwargs)
    return await result if inspect.isawaitable(result) else result


def is_sync(fn: Callable[..., Any]) -> bool:
    """Whether a function must be assumed to block: a plain ``def`` that does not say that it returns an awaitable.

    A lambda returns what an async function gave it, and some of that can only be made on the loop.
    """
    target: Any = fn
    while isinstance(target, functools.partial):
        target = target.func
    if inspect.iscoroutinefunction(target):
        return False
    if not inspect.isroutine(target):
        target = getattr(type(target), "__call__", target)  # noqa: B004 (an object that can be called)
        if inspect.iscoroutinefunction(target):
            return False
    if getattr(target, "__name__", "") == "<lambda>":
        return False
    return not _is_awaitable(result_type(fn))


@functools.lru_cache(maxsize=512)
def codec_of(model: Any) -> Codec[Any]:
    """The codec of a step's results. Raises ConfigError for a type that has no JSON."""
    return Codec(model, limits=VALUE_LIMITS)


def outcome_codec(contract: Any) -> Codec[Any]:
    """The codec of a contract's outcomes, kept: it costs up to a millisecond, and a workflow may call it often."""
    return _outcome_codec(contract.output, contract.limits)


_outcome_codec = functools.lru_cache(maxsize=512)(end_codec)


def returned_type(fn: Callable[..., Any]) -> Any:
    """The type of a step's results, behind the awaitable that its function may be annotated to return."""
    found = result_type(fn)
    if _is_awaitable(found):
        given = get_args(found)
        return given[-1] if given else Any
    return found


def encoded(codec: Codec[Any], value: Any, *, subject: str) -> bytes:
    """A result as JSON. Without an annotation it is what its JSON is read as: a tuple becomes a list.

    Raises InvalidMessage.
    """
    if codec.model is Any:
        try:
            value = from_json(to_json(value, inf_nan_mode="constants"), allow_inf_nan=True)
        except ValueError:
            return codec.encode(value, subject=subject)  # which says what is wrong with it
    return codec.encode(value, subject=subject)


def _is_awaitable(found: Any) -> bool:
    return (get_origin(found) or found) in _AWAITABLE


def _plain(fn: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Any:
    try:
        return fn(*args, **kwargs)
    except StopIteration as error:  # no future can hold it: whoever waits would wait for ever
        raise RuntimeError("the step's function raised StopIteration") from error
