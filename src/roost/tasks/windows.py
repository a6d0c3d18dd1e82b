"""Reading values as they are stored: of a source of millions, one window is in memory."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Iterable
from itertools import islice
from typing import TypeVar

I = TypeVar("I")


async def windows(values: Iterable[I] | AsyncIterable[I], size: int) -> AsyncIterator[list[I]]:
    """`values` in lists of `size`, the last one shorter; the next is read when it is asked for."""
    if not isinstance(values, AsyncIterable):
        source = iter(values)
        while window := list(islice(source, size)):
            yield window
        return
    window = []
    async for value in values:
        window.append(value)
        if len(window) == size:
            yield window
            window = []
    if window:
        yield window
