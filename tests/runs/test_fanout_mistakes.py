"""What the source, the key or an item of a fan-out does wrong: told where it is, and nothing else harmed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

import roost
from runs.support import (
    SOON_S,
    Gate,
    Number,
    Report,
    agent_of,
    double,
    indices,
    numbers,
    plan,
    records,
    run_once,
)


def _failing(n: int) -> Iterator[Number]:
    yield from numbers(n)
    raise ValueError("the source broke")


async def _failing_async(n: int) -> AsyncIterator[Number]:
    for one in numbers(n):
        yield one
    raise ValueError("the source broke")


async def _cancelling(n: int) -> AsyncIterator[Number]:
    for one in numbers(n):
        yield one
    raise asyncio.CancelledError


async def _exiting(n: int) -> AsyncIterator[Number]:
    for one in numbers(n):
        yield one
    raise SystemExit(1)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        (_failing, "the source broke"),
        (_failing_async, "the source broke"),
        (_cancelling, "CancelledError although nobody"),
        (_exiting, "sys.exit"),
    ],
)
async def test_what_a_source_raises_is_raised_in_the_block(
    nats_url: str, namespace: str, source: Any, text: str
) -> None:
    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        found: list[int] = []
        with pytest.raises(Exception, match=text):
            await indices(run, source(12), found, ahead=4)
        return Report(numbers=found)

    async with roost.connect(nats_url, namespace=namespace) as bus:
        outcome = await run_once(bus, workflow)
    assert len(outcome.value.numbers) >= 8, "what was submitted before was read"


async def test_what_key_raises_and_gives_is_told(nats_url: str, namespace: str) -> None:
    def broken(value: Number) -> str:
        raise LookupError("no key")

    keys: list[tuple[Any, type[Exception], str]] = [
        (broken, LookupError, "no key"),
        (lambda v: 3, roost.UnsafeToken, "a key is a str"),
        (lambda v: "", roost.UnsafeToken, "empty"),
        (lambda v: "same", roost.ConfigError, "item 1 has the key 'same'"),
    ]

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        for at, (key, error, text) in enumerate(keys):
            with pytest.raises(error, match=text):
                await indices(run, numbers(3), [], key=key, name=f"map {at}")
        return Report(numbers=[])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow))):
            handle = await bus.start(plan, Number(n=1))
            await handle.result(timeout_s=SOON_S)
            assert len(await records(bus, handle.id, "task")) == 1


@pytest.mark.parametrize("fate", ["done", "cancelled"])
async def test_a_key_that_an_earlier_part_has_used_is_refused(
    nats_url: str, namespace: str, fate: str
) -> None:
    """The task of a cancelled item is gone, so the server would create a second one, which never ends."""
    gate = Gate()

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        found: list[int] = []
        with pytest.raises(roost.ConfigError, match="item 1 has the key 'same', which another item has"):
            await indices(run, numbers(2), found, key=lambda v: "same", ahead=1)
        return Report(numbers=found)

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow), (double, gate))):
            handle = await bus.start(plan, Number(n=1))
            await gate.until()
            if fate == "cancelled":
                await bus.handle(double, f"{handle.id}/double/double:same").cancel()
            gate.open()
            assert (await handle.result(timeout_s=SOON_S)).numbers == [0]


async def test_an_item_that_does_not_fit_its_contract_is_told(nats_url: str, namespace: str) -> None:
    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        with pytest.raises(roost.InvalidMessage):
            await indices(run, [Number(n=1), Report(numbers=[])], [])
        for ahead in (0, -1, 1.5, True):
            with pytest.raises(roost.ConfigError, match="ahead"):
                run.map(double, [], ahead=ahead)  # type: ignore[arg-type]
        return Report(numbers=[])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        assert isinstance(await run_once(bus, workflow), roost.Done)
