"""The items of a fan-out, taken from whatever can be iterated."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator

import pytest

from roost.errors import ConfigError
from roost.runs.source import Source, SourceEnded


async def trickle(count: int, gate: asyncio.Event | None = None) -> AsyncIterator[int]:
    for n in range(count):
        if gate is not None and n == count - 1:
            await gate.wait()
        yield n


async def test_the_end_of_a_list_is_known_with_its_last_item() -> None:
    source = Source([1, 2, 3])
    assert await source.take(2, patient=True) == [1, 2]
    assert not source.done
    assert await source.take(1, patient=True) == [3]
    assert source.done
    assert await source.over()


async def test_an_empty_source_gives_nothing_and_is_done() -> None:
    for source in (Source([]), Source(trickle(0))):
        assert await source.take(5, patient=False) == []
        assert source.done


async def test_items_put_back_come_first_and_in_order() -> None:
    source = Source([1, 2, 3, 4])
    taken = await source.take(3, patient=True)
    source.put_back(taken[1:])
    assert not source.done
    assert await source.take(9, patient=True) == [2, 3, 4]
    assert source.done


async def test_a_slow_source_gives_what_is_there_and_loses_nothing() -> None:
    gate = asyncio.Event()
    source = Source(trickle(3, gate))
    assert await source.take(10, patient=False) == [0, 1]
    assert not source.done
    gate.set()
    assert await source.take(10, patient=False) == [2]
    assert await source.over()
    await source.close()


async def test_a_patient_taker_waits_for_all_it_wants() -> None:
    gate = asyncio.Event()
    source = Source(trickle(3, gate))
    waiting = asyncio.ensure_future(source.take(3, patient=True))
    await asyncio.sleep(0.02)
    assert not waiting.done()
    gate.set()
    assert await waiting == [0, 1, 2]


async def test_closing_ends_a_generator_that_waits_and_one_that_does_not() -> None:
    ended: list[str] = []

    async def endless() -> AsyncIterator[int]:
        try:
            yield 1
            await asyncio.get_running_loop().create_future()
        finally:
            ended.append("async")

    def plain() -> Iterator[int]:
        try:
            yield 1
            yield 2
        finally:
            ended.append("sync")

    for source in (Source(endless()), Source(plain())):
        await source.take(2, patient=False)
        await source.close()
    assert ended == ["async", "sync"]


async def test_a_source_that_raises_cancelled_error_does_not_hang() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise asyncio.CancelledError

    source = Source(broken())
    with pytest.raises(SourceEnded, match="although nobody cancelled"):
        await source.take(2, patient=True)


async def test_a_source_that_exits_does_not_end_the_loop() -> None:
    async def broken() -> AsyncIterator[int]:
        yield 1
        raise SystemExit(3)

    source = Source(broken())
    with pytest.raises(SourceEnded, match=r"sys\.exit"):
        await source.take(2, patient=True)


async def test_what_cannot_be_iterated_is_refused() -> None:
    with pytest.raises(ConfigError, match="iterable"):
        Source(3)  # type: ignore[arg-type]
