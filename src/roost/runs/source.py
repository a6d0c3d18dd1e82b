"""The items of a fan-out, from an iterable of either kind, taken when asked for."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Iterator
from itertools import islice
from typing import Any

from roost._text import quoted
from roost.errors import ConfigError

log = logging.getLogger("roost.runs")

SOON_S = 0.005
"""An asynchronous source that has no item for so long ends the part, so that what is there gets going."""


class SourceEnded(Exception):
    """The source raised CancelledError although nobody cancelled it."""


class Source:
    """Items in order. Raises ConfigError for what cannot be iterated."""

    def __init__(self, items: Iterable[Any] | AsyncIterable[Any]) -> None:
        self._sync: Iterator[Any] | None = None
        self._async: AsyncIterator[Any] | None = None
        if isinstance(items, Iterable):
            self._sync = iter(items)
        elif isinstance(items, AsyncIterable):
            self._async = aiter(items)
        else:
            raise ConfigError(f"items = {quoted(items)}: must be an iterable or an asynchronous iterable")
        self._next: asyncio.Task[Any] | None = None
        self._ready: deque[Any] = deque()
        self._ended = False

    @property
    def done(self) -> bool:
        """Whether it is known that no item follows."""
        return self._ended and not self._ready

    def put_back(self, items: list[Any]) -> None:
        """Items that were taken and are to be taken again."""
        self._ready.extendleft(reversed(items))

    async def take(self, count: int, *, patient: bool) -> list[Any]:
        """Up to `count` items; fewer at the end, or when a source that is not waited for has none soon.

        Raises what the source raises, and SourceEnded.
        """
        taken: list[Any] = []
        while self._ready and len(taken) < count:
            taken.append(self._ready.popleft())
        if self._sync is not None:
            if not self._ended:
                taken += islice(self._sync, count - len(taken))  # not one by one: there are many
            await self._fill(patient=True)  # so that `done` is known
            return taken
        while len(taken) < count and await self._fill(patient=patient or not taken):
            taken.append(self._ready.popleft())
        return taken

    async def over(self) -> bool:
        """Whether no item follows; waits for the source to say so."""
        return not await self._fill(patient=True)

    async def close(self) -> None:
        """Ask for no more; a generator ends now, not when it is collected."""
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)
        end = getattr(self._async, "aclose", None) or getattr(self._sync, "close", None)
        if end is None:
            return
        try:
            ending = end()
            if self._async is not None:
                await ending
        except Exception:  # it is the user's code
            log.exception("the items of a fan-out could not be closed")

    async def _fill(self, *, patient: bool) -> bool:
        """Have one item ready; False when there is none (yet)."""
        if self._ready:
            return True
        if self._ended:
            return False
        if self._sync is not None:
            item = next(self._sync, _END)
        else:
            if self._next is None:
                self._next = asyncio.get_running_loop().create_task(
                    self._advance(), name="roost-fan-out-item"
                )
            await asyncio.wait([self._next], timeout=None if patient else SOON_S)
            if not self._next.done():
                return False
            advanced, self._next = self._next, None
            if advanced.cancelled():
                raise SourceEnded("the items raised CancelledError although nobody cancelled them")
            item = advanced.result()
        if item is _END:
            self._ended = True
            return False
        self._ready.append(item)
        return True

    async def _advance(self) -> Any:
        assert self._async is not None
        try:
            return await anext(self._async, _END)
        except SystemExit as error:  # it would end the loop
            raise SourceEnded(f"the items called sys.exit({error.code!r})") from error


_END: Any = object()
