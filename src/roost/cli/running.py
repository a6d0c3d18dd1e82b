"""What every command shares: how it connects, and how it fails."""

from __future__ import annotations

import asyncio
import functools
import os
import sys
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from contextlib import asynccontextmanager, contextmanager
from typing import Any, ParamSpec, TypeVar

import typer

from roost._text import clean
from roost.bus import Bus, connect
from roost.errors import ConfigError, RoostError, UnsafeToken
from roost.tasks.reading import attach

P = ParamSpec("P")
R = TypeVar("R")

INTERRUPTED = 130
"""What a shell gives for a command that Ctrl-C ended: 128 and the signal's number."""


def command(function: Callable[P, R]) -> Callable[P, R]:
    """A command whose errors are one sentence on standard error and exit code 1, and whose Ctrl-C is quiet."""

    @functools.wraps(function)
    def run(*arguments: P.args, **options: P.kwargs) -> R:
        try:
            return function(*arguments, **options)
        except RoostError as error:
            failure = clean(str(error), 2000)
        except BrokenPipeError:  # `roost dead ls | head`: whoever read has enough
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(1) from None
        except OSError as error:
            failure = clean(str(error), 2000)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None
        sys.stderr.write(f"roost: {failure}\n")
        raise typer.Exit(1)

    return run


@contextmanager
def usage() -> Iterator[None]:
    """What is refused in this block was written wrong on the command line: exit code 2."""
    try:
        yield
    except (ConfigError, UnsafeToken) as error:
        raise typer.BadParameter(clean(str(error), 2000)) from error


def wait_for(coroutine: Coroutine[Any, Any, R]) -> R:
    """Run a coroutine to its end."""
    return asyncio.run(coroutine)


@asynccontextmanager
async def reading(url: str | None, namespace: str | None) -> AsyncIterator[Bus]:
    """A bus on a log that exists. Raises ConnectError, StreamMissing."""
    async with connect(url, namespace=namespace, name="roost-cli") as bus:
        await attach(bus.log)
        yield bus


def say_unreadable(bus: Bus) -> None:
    """Tell if something in the log could not be read: a listing must not look complete when it is not."""
    count = bus.counters["record_unreadable"]
    if count:
        sys.stderr.write(f"roost: {count} record(s) of the log could not be read and are left out\n")
