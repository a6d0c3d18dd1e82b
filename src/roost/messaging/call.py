"""How a message reaches a handler: async functions are awaited, sync ones run on threads of their own."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from roost._text import quoted
from roost.errors import ConfigError

_SHAPES = "it gets (message) or (message, context)"


class Function:
    """A handler function, whatever its shape: with or without a context, async or sync.

    ConfigError for what cannot be called with a message, or would yield instead of returning.
    """

    def __init__(self, function: Callable[..., Any], *, threads: int, yields: bool = False) -> None:
        self.function = function
        self.name = getattr(function, "__qualname__", None) or quoted(function)
        _check(function, self.name, yields=yields)
        self.is_async = inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
            getattr(function, "__call__", None)  # noqa: B004 (an object with an async __call__)
        )
        self.takes_context = _takes_context(function, self.name)
        self._threads: ThreadPoolExecutor | None = None
        self._width = threads

    def __call__(self, value: Any, context: Callable[[], Any]) -> Awaitable[Any]:
        """An awaitable of the handler's result; `context` is made only for a handler that takes one."""
        arguments = (value, context()) if self.takes_context else (value,)
        if self.is_async:
            result: Awaitable[Any] = self.function(*arguments)
            return result
        return self._on_thread(arguments)

    async def _on_thread(self, arguments: tuple[Any, ...]) -> Any:
        if self._threads is None:
            self._threads = ThreadPoolExecutor(self._width, thread_name_prefix=f"roost-{self.name}")
        variables = contextvars.copy_context()
        result = await asyncio.get_running_loop().run_in_executor(
            self._threads, lambda: variables.run(self._plain, arguments)
        )
        # A sync decorator around an async function: the function looked sync, and is not.
        return await result if inspect.isawaitable(result) else result

    def _plain(self, arguments: tuple[Any, ...]) -> Any:
        try:
            return self.function(*arguments)
        except StopIteration as error:  # no future can hold it: whoever waits would wait for ever
            raise RuntimeError("the handler raised StopIteration") from error

    def close(self) -> None:
        """Let the threads end when they have finished what they run."""
        if self._threads is not None:
            self._threads.shutdown(wait=False, cancel_futures=True)
            self._threads = None


def described(error: BaseException) -> str:
    """Class and text of what a handler raised, even if its text is code that fails."""
    try:
        text = str(error)
    except Exception as broken:
        text = f"its text cannot be had ({type(broken).__name__})"
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _check(function: Any, name: str, *, yields: bool) -> None:
    if not callable(function):
        raise ConfigError(f"handler {name} cannot be called; give a function: {_SHAPES}")
    if isinstance(function, type):
        raise ConfigError(
            f"handler {name} is a class; give a function, or an object of that class that can be called"
        )
    both = (function, getattr(function, "__call__", None))  # noqa: B004
    if yields:
        if any(inspect.isgeneratorfunction(one) or inspect.iscoroutinefunction(one) for one in both):
            raise ConfigError(f"handler {name} must be an async function that yields its chunks")
        return
    for one in both:
        if inspect.isgeneratorfunction(one) or inspect.isasyncgenfunction(one):
            raise ConfigError(f"handler {name} yields; it must return its one answer")


def _takes_context(function: Callable[..., Any], name: str) -> bool:
    """Whether the handler wants (message, context) instead of (message).

    A second argument with a default gets the context only if that default is None: in
    ``lambda message, i=i: ...`` it is something else.
    """
    try:
        parameters = inspect.signature(function).parameters.values()
    except ValueError:  # a function written in C that does not say
        return False
    positional = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    any_number = any(one.kind is one.VAR_POSITIONAL for one in parameters)
    if positional and positional[0].name == "self":
        raise ConfigError(f"handler {name} is a method without its object; register the method of an object")
    required = sum(one.default is one.empty for one in positional)
    named = [one.name for one in parameters if one.kind is one.KEYWORD_ONLY and one.default is one.empty]
    if named:
        raise ConfigError(f"handler {name} needs keyword argument {named[0]}; {_SHAPES}")
    if required > 2 or not (positional or any_number):
        raise ConfigError(f"handler {name} takes {required} arguments; {_SHAPES}")
    if len(positional) < 2:
        return any_number
    default = positional[1].default
    return default is None or default is positional[1].empty
