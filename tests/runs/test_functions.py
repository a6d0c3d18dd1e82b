"""How a step's function is called, and what its result is read as."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any

import pytest

from roost.errors import InvalidMessage
from roost.runs.functions import call, codec_of, encoded, is_sync, returned_type


async def plain(n: int) -> list[int]:
    return [n]


def blocking(n: int) -> str:
    return f"{n} on {threading.current_thread() is threading.main_thread()}"


def wrapped(n: int) -> Awaitable[list[int]]:
    return plain(n)


def silent(n):  # type: ignore[no-untyped-def]
    return threading.current_thread() is threading.main_thread()


class Caller:
    async def __call__(self, n: int) -> int:
        return n

    async def method(self, n: int) -> int:
        return n

    def slow(self, n: int) -> int:
        return n


ASYNC: list[Callable[..., Any]] = [
    plain,
    wrapped,
    lambda n: plain(n),
    functools.partial(plain, 1),
    Caller(),
    Caller().method,
]
SYNC: list[Callable[..., Any]] = [blocking, silent, functools.partial(blocking, 1), Caller().slow, len]


@pytest.mark.parametrize("fn", ASYNC)
def test_a_function_that_gives_an_awaitable_is_called_on_the_loop(fn: Callable[..., Any]) -> None:
    assert not is_sync(fn)


@pytest.mark.parametrize("fn", SYNC)
def test_a_function_that_may_block_is_called_on_a_thread(fn: Callable[..., Any]) -> None:
    assert is_sync(fn)


async def test_results_arrive_whichever_way_a_function_is_called() -> None:
    assert await call(plain, (1,), {}) == [1]
    assert await call(wrapped, (), {"n": 2}) == [2]
    assert await call(blocking, (3,), {}) == "3 on False"
    assert await call(silent, (3,), {}) is False
    assert await call(lambda: asyncio.gather(plain(1), plain(2)), (), {}) == [[1], [2]]


async def test_a_sync_function_that_raises_stop_iteration_does_not_hang() -> None:
    def broken() -> int:
        return next(iter(()))

    with pytest.raises(RuntimeError, match="StopIteration"):
        await call(broken, (), {})


def test_the_type_of_a_result_is_behind_the_awaitable() -> None:
    def coroutine() -> Coroutine[Any, Any, dict[str, int]]: ...  # type: ignore[empty-body]

    def task() -> asyncio.Task[tuple[int, str]]: ...  # type: ignore[empty-body]

    async def none() -> None: ...

    assert returned_type(plain) == list[int]
    assert returned_type(wrapped) == list[int]
    assert returned_type(coroutine) == dict[str, int]
    assert returned_type(task) == tuple[int, str]
    assert returned_type(none) is type(None)
    assert returned_type(silent) is Any
    assert returned_type(lambda: 1) is Any


def test_a_result_without_an_annotation_is_what_its_json_is_read_as() -> None:
    """A tuple that holds None was refused: what is read back, a list, does not equal it."""
    codec = codec_of(Any)
    for value, data in [((1, None), b"[1,null]"), ({"a": {1}}, b'{"a":[1]}'), (None, b"null")]:
        assert encoded(codec, value, subject="s") == data


@pytest.mark.parametrize("value", [object(), float("nan"), {"k": float("inf")}])
def test_a_result_that_has_no_json_is_refused(value: Any) -> None:
    with pytest.raises(InvalidMessage):
        encoded(codec_of(Any), value, subject="s")
