"""Code that does not fit what its run has on record: the run is parked, shown, and resumed by code that fits."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pydantic import BaseModel

import roost
from roost.runs import coordinator
from runs.support import (
    SOON_S,
    Events,
    Gate,
    Number,
    Report,
    agent_of,
    double,
    doubled,
    go,
    numbers,
    plan,
    records,
    stored,
)

Body = Callable[[roost.Run[Any]], Any]
other = roost.Task("other", Number, Number)
"""Another contract."""


class Word(BaseModel):
    text: str


wordy = roost.Task("double", Number, Word)
"""The same name, and another output."""
word = roost.Signal("go", Word)
finish = roost.Signal("finish", Number)


async def ready() -> None:
    pass


async def text(value: Number) -> str:
    return str(value.n)


async def listed(value: Number) -> list[int]:
    return [value.n]


def workflow_of(body: Body, *, waits: bool) -> Any:
    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        await body(run)
        await run.step("ready", ready)
        if waits:
            await run.wait_for(finish)
        return Report(numbers=[1])

    return workflow


async def everything(outcomes: AsyncIterator[Any]) -> list[Any]:
    return [one async for one in outcomes]


def step(name: str, fn: Any, *args: Any) -> Body:
    return lambda run: run.step(name, fn, *args)


def call(contract: Any, value: Any, name: str) -> Body:
    return lambda run: run.call(contract, value, name=name)


def mapped(contract: Any, items: Any, *, name: str = "op", key: Any = None, ahead: int = 1000) -> Body:
    async def body(run: roost.Run[Any]) -> None:
        async with run.map(
            contract, items() if callable(items) else items, key=key, name=name, ahead=ahead
        ) as outcomes:
            await everything(outcomes)

    return body


def waiting(signal: Any, name: str = "op", timeout_s: float | None = None) -> Body:
    return lambda run: run.wait_for(signal, name=name, timeout_s=timeout_s)


async def trickle(count: int) -> AsyncIterator[Number]:
    for one in numbers(count):
        await asyncio.sleep(0)
        yield one


ITEMS = numbers(4)
SECOND = Number(n=2)
OTHERS = [*ITEMS[:2], Number(n=9), ITEMS[3]]

CASES: dict[str, tuple[Body, Body, str]] = {
    "a step that was a call": (
        call(double, SECOND, "op"),
        step("op", doubled, SECOND),
        "asks for step, on record is call double",
    ),
    "a step that was a map": (
        mapped(double, ITEMS),
        step("op", doubled, SECOND),
        "asks for step, on record is map double",
    ),
    "a step that was a wait": (
        waiting(go),
        step("op", doubled, SECOND),
        "asks for step, on record is signal go",
    ),
    "a call that was a step": (
        step("op", doubled, SECOND),
        call(double, SECOND, "op"),
        "asks for call double, on record is step",
    ),
    "a map that was a step": (
        step("op", doubled, SECOND),
        mapped(double, ITEMS),
        "asks for map double, on record is step",
    ),
    "a map that was a call": (
        call(double, SECOND, "op"),
        mapped(double, ITEMS),
        "asks for map double, on record is call double",
    ),
    "a wait that was a call": (
        call(double, SECOND, "op"),
        waiting(go),
        "asks for signal go, on record is call double",
    ),
    "a call of another contract": (
        call(double, SECOND, "op"),
        call(other, SECOND, "op"),
        "call other, on record is call double",
    ),
    "a map of another contract": (
        mapped(double, ITEMS),
        mapped(other, ITEMS),
        "map other, on record is map double",
    ),
    "a step with another input": (
        step("op", doubled, SECOND),
        step("op", doubled, Number(n=3)),
        "another input",
    ),
    "a call with another input": (
        call(double, SECOND, "op"),
        call(double, Number(n=3), "op"),
        "another input",
    ),
    "a map with another item": (
        mapped(double, ITEMS),
        mapped(double, OTHERS),
        "another input for the key '2'|'2'",
    ),
    "a map in another order": (
        mapped(double, ITEMS),
        mapped(double, ITEMS[::-1]),
        "another input for the key",
    ),
    "a map with other keys": (
        mapped(double, ITEMS),
        mapped(double, ITEMS, key=lambda v: f"k{v.n}"),
        "an item with the key 'k0'",
    ),
    "a map with fewer items": (mapped(double, ITEMS), mapped(double, ITEMS[:3]), "asks for 3 items there"),
    "a map with no items": (mapped(double, ITEMS), mapped(double, []), "asks for 0 items there"),
    "a map with more items": (mapped(double, ITEMS), mapped(double, numbers(5)), "asks for more items"),
    "a map that had no items": (mapped(double, []), mapped(double, ITEMS), "asks for more items"),
    "a slow map with more items": (
        mapped(double, ITEMS),
        mapped(double, lambda: trickle(5)),
        "asks for more items",
    ),
    "a slow map with fewer items": (
        mapped(double, ITEMS),
        mapped(double, lambda: trickle(3)),
        "asks for 3 items there",
    ),
    "a map with fewer parts": (
        mapped(double, ITEMS, ahead=2),
        mapped(double, ITEMS[:2], ahead=2),
        "asks for 0 items there",
    ),
    "a step of another type": (
        step("op", doubled, SECOND),
        step("op", listed, SECOND),
        "a result of another type",
    ),
    "a call of another output": (
        call(double, SECOND, "op"),
        call(wordy, SECOND, "op"),
        "an output of another type",
    ),
    "a map of another output": (mapped(double, ITEMS), mapped(wordy, ITEMS), "an output of another type"),
    "a signal of another type": (waiting(go), waiting(word), "a result of another type"),
}


@pytest.mark.parametrize("case", CASES)
async def test_a_run_is_parked_and_goes_on_with_code_that_fits(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, case: str
) -> None:
    before, after, reason = CASES[case]
    monkeypatch.setattr(coordinator, "PARKED_S", 0.2)
    runs: list[int] = []

    async def counted(value: Number) -> Number:
        runs.append(value.n)
        return await doubled(value)

    async with roost.connect(nats_url, namespace=namespace) as bus:
        events = Events(bus)
        async with bus.serving(agent_of((plan, workflow_of(before, waits=True)), (double, counted))):
            handle = await bus.start(plan, Number(n=1))
            await bus.signal(handle.id, go, Number(n=7))
            await stored(bus, f"{namespace}.run.{handle.id}.step.ready", 1)
        done, tasks = list(runs), len(await records(bus, handle.id, "task"))
        async with bus.serving(agent_of((plan, workflow_of(after, waits=False)), (double, counted))):
            await events.until("run_parked", 2)  # it is tried again, and again
        parked = await bus.log.last(f"{namespace}.run.{handle.id}.state")
        assert parked is not None
        state = json.loads(parked.data)
        assert state["status"] == "parked"
        assert reason in state["reason"] or any(one in state["reason"] for one in reason.split("|"))
        assert "operation 'op" in state["reason"]
        async with bus.serving(agent_of((plan, workflow_of(before, waits=True)), (double, counted))):
            await bus.signal(handle.id, finish, Number(n=8))
            report = await handle.result(timeout_s=SOON_S)
        assert report.numbers == [1]
        assert runs == done, "nothing was done again"
        assert len(await records(bus, handle.id, "task")) == tasks, (
            "nothing was submitted by code that does not fit"
        )


async def test_a_parked_run_is_not_swallowed_by_code_that_catches_everything(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "PARKED_S", 30)
    went_on: list[int] = []

    async def stubborn(value: Number, run: roost.Run[Any]) -> Report:
        for _ in range(3):
            try:
                await run.step("op", doubled, Number(n=3))
            except BaseException:
                went_on.append(1)
        try:
            await run.call(double, value)
            went_on.append(100)
        finally:
            await run.step("cleanup", ready)
            went_on.append(100)
        return Report(numbers=[])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        events = Events(bus)
        async with bus.serving(agent_of((plan, workflow_of(step("op", doubled, SECOND), waits=True)))):
            handle = await bus.start(plan, Number(n=1))
            await stored(bus, f"{namespace}.run.{handle.id}.step.ready", 1)
        async with bus.serving(agent_of((plan, stubborn))):
            await events.until("run_parked")
            assert len(await records(bus, handle.id, "task")) == 1
    assert 100 not in went_on


async def test_code_that_never_ends_is_left_behind(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "PARKED_S", 30)
    monkeypatch.setattr(coordinator, "CLEANUP_S", 0.3)
    let_it_end = asyncio.Event()
    ended = asyncio.Event()

    async def endless(value: Number, run: roost.Run[Any]) -> Report:
        try:
            while not let_it_end.is_set():
                try:
                    await run.step("op", doubled, Number(n=3))
                except BaseException:
                    continue
        finally:
            ended.set()
        return Report(numbers=[])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        events = Events(bus)
        async with bus.serving(agent_of((plan, workflow_of(step("op", doubled, SECOND), waits=True)))):
            handle = await bus.start(plan, Number(n=1))
            await stored(bus, f"{namespace}.run.{handle.id}.step.ready", 1)
        async with bus.serving(agent_of((plan, endless))):
            await events.until("workflow_left_behind")
            await events.until("run_parked")
            (left,) = [task for task in asyncio.all_tasks() if task.get_name() == f"roost-run-{handle.id}"]
            let_it_end.set()
            left.cancel()
            await ended.wait()


async def test_a_parked_run_can_be_cancelled(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(coordinator, "PARKED_S", 60)
    gate = Gate()

    def wrong(run: roost.Run[Any]) -> Any:
        return run.step("op", listed, SECOND)

    async def before(value: Number, run: roost.Run[Any]) -> Report:
        await run.step("op", doubled, SECOND)
        await run.call(double, value)
        return Report(numbers=[])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        events = Events(bus)
        async with bus.serving(agent_of((plan, before), (double, gate)), grace_s=0):
            handle = await bus.start(plan, Number(n=1))
            await gate.until()
        async with bus.serving(agent_of((plan, workflow_of(wrong, waits=False)), (double, gate)), grace_s=0):
            await events.until("run_parked")
            assert await handle.cancel("it will not be mended")
            outcome = await handle.outcome(timeout_s=SOON_S)
            call_outcome = await bus.handle(double, f"{handle.id}/double/double").outcome(timeout_s=SOON_S)
    assert isinstance(outcome, roost.Cancelled)
    assert isinstance(call_outcome, roost.Cancelled)
    assert outcome.reason == "it will not be mended"


async def test_sets_in_another_order_are_the_same_input(nats_url: str, namespace: str) -> None:
    """What is written of a set differs between processes; here it differs between two values."""

    class Tags(BaseModel):
        tags: set[str]
        n: int = 0

    tagged = roost.Task("tagged", Tags, Number)
    words = [f"word {n}" for n in range(50)]

    async def count(value: Tags) -> Number:
        return Number(n=len(value.tags))

    def workflow_with(order: list[str]) -> Any:
        """Sets built in opposite orders are written in different orders."""

        async def workflow(value: Number, run: roost.Run[Any]) -> Report:
            tags = Tags(tags=set())
            object.__setattr__(tags, "tags", set(order))
            await run.step("op", count, tags)
            await run.call(tagged, tags, name="call")
            async with run.map(tagged, [tags, Tags(tags={"one"}, n=1)], name="several") as outcomes:
                await everything(outcomes)
            await run.step("ready", ready)
            await run.wait_for(go)
            return Report(numbers=[])

        return workflow

    backwards = words[::-1]
    assert list(set(words)) != list(set(backwards)), "this test needs sets whose order differs"
    async with roost.connect(nats_url, namespace=namespace) as bus:
        for order in (words, backwards):
            async with bus.serving(agent_of((plan, workflow_with(order)), (tagged, count))):
                handle = await bus.start(plan, Number(n=1), key="one")
                await stored(bus, f"{namespace}.run.{handle.id}.step.ready", 1)
        async with bus.serving(agent_of((plan, workflow_with(backwards)), (tagged, count))):
            await bus.signal(handle.id, go, Number(n=1))
            await handle.result(timeout_s=SOON_S)
