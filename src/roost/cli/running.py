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
from roost.bus import Bus
from roost.connecting import connect
from roost.errors import ConfigError, RoostError, StreamMissing, UnsafeToken
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


class NothingYet(ConfigError):
    """Nobody has stored anything in the namespace on this server, so that it has no log."""

    def __init__(self, bus: Bus) -> None:
        super().__init__(
            f"nothing has been stored in namespace {bus.namespace} on {bus.settings.shown} yet (there is no stream "
            f"{bus.log.stream}); if there should be something, compare the namespace and the server"
        )


@asynccontextmanager
async def reading(url: str | None, namespace: str | None) -> AsyncIterator[Bus]:
    """A bus on a log that exists. Raises ConnectError, NothingYet."""
    async with connect(url, namespace=namespace, name="roost-cli") as bus:
        try:
            await attach(bus.log)
        except StreamMissing:
            raise NothingYet(bus) from None
        yield bus


@contextmanager
def listing(*, json: bool) -> Iterator[None]:
    """For a block that prints a list: of nothing at all it is an empty one, which is no failure."""
    try:
        yield
    except NothingYet as error:
        if json:
            sys.stdout.write("[]\n")
        sys.stderr.write(f"roost: {clean(str(error), 2000)}\n")


def say_unreadable(bus: Bus) -> None:
    """Tell if something in the log could not be read: a listing must not look complete when it is not."""
    count = bus.counters["record_unreadable"]
    if count:
        sys.stderr.write(f"roost: {count} record(s) of the log could not be read and are left out\n")
