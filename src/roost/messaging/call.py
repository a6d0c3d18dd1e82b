"""How a message reaches a handler: async functions are awaited, sync ones run on threads of their own."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from roost.errors import ConfigError


class Function:
    """A handler function, whatever its shape: with or without a context, async or sync."""

    def __init__(self, function: Callable[..., Any], *, threads: int) -> None:
        self.function = function
        self.name = getattr(function, "__qualname__", repr(function))
        self.is_async = inspect.iscoroutinefunction(inspect.unwrap(function)) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 (an object with an async __call__)
        )
        self.takes_context = _parameters(function, self.name) == 2
        self._threads: ThreadPoolExecutor | None = None
        self._width = threads

    def __call__(self, value: Any, context: Callable[[], Any]) -> Awaitable[Any]:
        """An awaitable of the handler's result; `context` is made only for a handler that takes one."""
        arguments = (value, context()) if self.takes_context else (value,)
        if self.is_async:
            result: Awaitable[Any] = self.function(*arguments)
            return result
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._width, thread_name_prefix=f"roost-{self.name}")
        run = contextvars.copy_context().run
        return asyncio.get_running_loop().run_in_executor(self._threads, run, self.function, *arguments)

    def close(self) -> None:
        """Let the threads end when they have finished what they run."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None


def _parameters(function: Callable[..., Any], name: str) -> int:
    """How many positional arguments the handler wants: 1 (the message) or 2 (and a context)."""
    try:
        signature = inspect.signature(function)
    except (TypeError, ValueError):
        return 1
    required = 0
    possible = 0
    for parameter in signature.parameters.values():
        if parameter.kind in (parameter.POSITIONAL_ONLY, parameter.POSITIONAL_OR_KEYWORD):
            possible += 1
            required += parameter.default is parameter.empty
        elif parameter.kind is parameter.VAR_POSITIONAL:
            possible += 2
        elif parameter.kind is parameter.KEYWORD_ONLY and parameter.default is parameter.empty:
            raise ConfigError(
                f"handler {name} needs keyword argument {parameter.name}; it gets (message) or (message, context)"
            )
    if required > 2 or possible < 1:
        raise ConfigError(
            f"handler {name} takes {required} arguments; it gets (message) or (message, context)"
        )
    return 2 if required == 2 or (required < 2 and possible >= 2) else 1
