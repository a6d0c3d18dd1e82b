"""A stream that is still to be opened: whoever reads it without `async with` is told how it is done."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from types import TracebackType
from typing import NoReturn, TypeVar

from roost.errors import ConfigError

T = TypeVar("T", covariant=True)


class StreamBlock(AbstractAsyncContextManager[T]):
    """The block of a stream; leaving it tells the responder."""

    def __init__(self, opened: AbstractAsyncContextManager[T]) -> None:
        self._opened = opened

    async def __aenter__(self) -> T:
        return await self._opened.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        return await self._opened.__aexit__(kind, error, trace)

    def __aiter__(self) -> NoReturn:
        raise ConfigError(
            "a stream is a block, so that leaving it tells the responder: async with bus.stream(...) as chunks, and in "
            "it async for chunk in chunks. Nothing was sent."
        )
