"""The operations of a run, met for the first time and again after a resume."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from typing import Any

import pytest

import roost
from runs.support import (
    SOON_S,
    Calls,
    Events,
    Number,
    Report,
    agent_of,
    below,
    double,
    doubled,
    go,
    numbers,
    plan,
    records,
    stored,
)


@dataclass
class Place:
    name: str
    at: tuple[int, int]


async def resumed(bus: roost.Bus, workflow: Any, *others: tuple[Any, Any]) -> tuple[Any, Any]:
    """The outcome of a workflow that waits for `go` as its last operation, and is handed over in the middle.

    Every execution runs from the beginning; the second one only reads what the first has recorded.
    """
    async with bus.serving(agent_of((plan, workflow), *others)):
        handle = await bus.start(plan, Number(n=3))
        await stored(bus, f"{bus.namespace}.run.{handle.id}.step.ready", 1)
    async with bus.serving(agent_of((plan, workflow), *others)):
        await bus.signal(handle.id, go, Number(n=1))
        return await handle.outcome(timeout_s=SOON_S), handle


async def ready() -> None:
    """The step that tells the test that all before it is on record."""


async def test_each_kind_of_operation_gives_the_same_after_a_resume(nats_url: str, namespace: str) -> None:
    calls = Calls()
    seen: list[Any] = []

    async def place(name: str) -> Place:
        calls.made.append("place")
        return Place(name, (1, 2))

    async def pair() -> tuple[int, str]:
        return (1, "one")

    async def nothing() -> None:
        calls.made.append("nothing")

    def blocking() -> dict[str, list[int]]:
        calls.made.append("blocking")
        return {"a": [1]}

    async def inner(value: Number, run: roost.Run[Any]) -> Number:
        return await run.call(double, value)

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        results: list[Any] = [
            await run.step("place", place, "here"),
            await run.step("pair", pair),
            await run.step("nothing", nothing),
            await run.step("blocking", blocking),  # type: ignore[arg-type]
            await run.step("plain", lambda: calls.note("plain")),
            await run.call(double, value),
            await run.call(below, value),
            run.now(),
            run.random(),
            run.random(),
        ]
        async with run.map(double, numbers(5), name="landed") as outcomes:
            results.append(
                sorted([(o.key, o.index, o.value.n) async for o in outcomes if isinstance(o, roost.Done)])
            )
        results.append(run.now())
        async with run.map(
            below, numbers(3), key=lambda v: f"item {v.n}", name="in order", ordered=True
        ) as outcomes:
            results.append([(o.key, o.index) async for o in outcomes])
        await run.step("ready", ready)
        await run.wait_for(go)
        seen.append(results)
        return Report(numbers=[])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow), (below, inner))):
            undisturbed = await bus.start(plan, Number(n=3), key="once")
            await bus.signal(undisturbed.id, go, Number(n=1))
            await undisturbed.result(timeout_s=SOON_S)
        seen_before, made = seen.pop(), list(calls.made)
        calls.made.clear()
        outcome, handle = await resumed(bus, workflow, (below, inner))
        assert isinstance(outcome, roost.Done)
        assert calls.made == made, "each step's function ran once, although the workflow ran twice"
        epochs = await bus.log.read_all(f"{namespace}.run.{handle.id}.epoch")
        assert len(epochs) == 2
    (results,) = seen
    assert results[0] == Place("here", (1, 2))
    assert results[1] == (1, "one")
    assert results[2] is None
    assert results[3] == {"a": [1]}
    assert results[5:7] == [Number(n=6), Number(n=6)]
    assert [type(one) for one in results] == [type(one) for one in seen_before]
    assert results[10] == [("0", 0, 0), ("1", 1, 2), ("2", 2, 4), ("3", 3, 6), ("4", 4, 8)]
    assert results[12] == [("item 0", 0), ("item 1", 1), ("item 2", 2)]


async def test_now_and_random_repeat_on_resume(nats_url: str, namespace: str) -> None:
    """They are given to a step, so another value would be another input, and park the run."""
    seen: list[list[float]] = []

    async def keep(values: list[float]) -> None:
        seen.append(values)

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        values = [run.now(), run.random()]
        await run.step("first", keep, values)
        values += [run.now(), run.random()]
        await run.call(double, value)
        values += [run.now(), run.random()]
        async with run.map(double, numbers(4), name="several") as outcomes:
            async for _ in outcomes:
                values.append(run.now())
        with pytest.raises(roost.RequestTimeout):
            await run.wait_for(go, timeout_s=0.05, name="never")
        values += [run.now(), run.random()]
        await run.step("ready", keep, values)
        await run.wait_for(go)
        await run.step("after", keep, [*values, run.now(), run.random()])
        return Report(numbers=[])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        outcome, _ = await resumed(bus, workflow)
    assert isinstance(outcome, roost.Done)
    assert len(seen) == 3
    times = seen[2][0::2][:4]
    assert times == sorted(times)
    assert len(set(seen[1])) > 6


async def test_an_ambiguous_name_is_an_error_when_it_is_first_met(nats_url: str, namespace: str) -> None:
    calls = Calls()

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        await run.step("same", calls.note, "first")
        found = []
        for again in (
            run.step("same", calls.note, "second"),
            run.call(double, value, name="same"),
            run.wait_for(go, name="same", timeout_s=1),
        ):
            with pytest.raises(roost.ConfigError, match=r"operation 'same'.*ambiguous"):
                await again
            found.append(1)
        with pytest.raises(roost.ConfigError, match="ambiguous"):
            async with run.map(double, [value], name="same"):
                pass
        await run.call(double, value)
        with pytest.raises(roost.ConfigError, match=r"'double'.*ambiguous"):
            await run.call(double, value)
        return Report(numbers=found)

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of((plan, workflow))):
        report = await (await bus.start(plan, Number(n=1))).result(timeout_s=SOON_S)
    assert report.numbers == [1, 1, 1]
    assert calls.made == ["first"]


async def test_names_of_any_characters_are_as_good_as_plain_ones(nats_url: str, namespace: str) -> None:
    names = ["a b", "a.b", "a.*", ">", "ö", "\n", "h_x", "x" * 300, "a/b", "🙂"]
    calls = Calls()

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        found = [await run.step(name, calls.note, name) for name in names]
        async with run.map(double, numbers(10), key=lambda v: names[v.n], name="keys . of > all") as outcomes:
            found += sorted([names.index(o.key) async for o in outcomes])
        found.append((await run.call(double, value, name="call " + names[1])).n)
        await run.step("ready", ready)
        await run.wait_for(go, name="wait *")
        return Report(numbers=found)

    async with roost.connect(nats_url, namespace=namespace) as bus:
        outcome, _ = await resumed(bus, workflow)
    assert isinstance(outcome, roost.Done)
    assert outcome.value.numbers == [*range(1, 11), *range(10), 6]
    assert calls.made == names


async def test_an_empty_name_is_refused(nats_url: str, namespace: str) -> None:
    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        with pytest.raises(roost.UnsafeToken):
            await run.step("", ready)
        return Report(numbers=[])

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of((plan, workflow))):
        await (await bus.start(plan, Number(n=1))).result(timeout_s=SOON_S)


async def test_a_step_that_failed_left_no_record_and_may_be_tried_again(
    nats_url: str, namespace: str
) -> None:
    tries: list[int] = []

    async def fragile() -> int:
        tries.append(1)
        if len(tries) < 3:
            raise ValueError("not yet")
        return len(tries)

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        while True:
            try:
                return Report(numbers=[await run.step("fragile", fragile)])
            except ValueError:
                continue

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of((plan, workflow))):
        handle = await bus.start(plan, Number(n=1))
        assert (await handle.result(timeout_s=SOON_S)).numbers == [3]
        assert len(await records(bus, handle.id, "step")) == 1


async def test_a_result_that_cannot_be_kept_is_told_and_leaves_no_record(
    nats_url: str, namespace: str
) -> None:
    async def large() -> str:
        return "x" * (256 * 1024)

    async def odd() -> Any:
        return object()

    async def wrong() -> int:
        return "text"  # type: ignore[return-value]

    async def unreadable() -> asyncio.Lock:
        raise AssertionError("it must not be called")

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        with pytest.raises(roost.TooLarge):
            await run.step("large", large)
        with pytest.raises(roost.InvalidMessage):
            await run.step("odd", odd)
        with pytest.raises(roost.InvalidMessage):
            await run.step("wrong", wrong)
        with pytest.raises(roost.ConfigError, match="cannot be the type of a message"):
            await run.step("unreadable", unreadable)
        return Report(numbers=[])

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of((plan, workflow))):
        handle = await bus.start(plan, Number(n=1))
        await handle.result(timeout_s=SOON_S)
        assert await records(bus, handle.id, "step") == []


async def test_a_step_whose_result_cannot_be_kept_is_not_repeated(nats_url: str, namespace: str) -> None:
    """Bug: each attempt of the workflow called its function again."""
    calls: list[int] = []

    async def large() -> str:
        calls.append(1)
        return "x" * (256 * 1024)

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        await run.step("large", large)
        return Report(numbers=[])

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of((plan, workflow))):
        handle = await bus.start(plan, Number(n=1))
        with pytest.raises(roost.TaskDead, match="step 'large' has run, but its result cannot be kept"):
            await handle.result(timeout_s=SOON_S)
    assert calls == [1]


async def test_calls_may_run_side_by_side_and_are_found_again(nats_url: str, namespace: str) -> None:
    runs: list[int] = []

    async def counted(value: Number) -> Number:
        runs.append(value.n)
        return await doubled(value)

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        found = await asyncio.gather(
            *(run.call(double, Number(n=n), name=f"call {n}") for n in range(20)), run.call(below, value)
        )
        await run.step("ready", ready)
        await run.wait_for(go)
        return Report(numbers=[one.n for one in found])

    async def inner(value: Number, run: roost.Run[Any]) -> Number:
        a, b = await asyncio.gather(run.call(double, value, name="a"), run.call(double, value, name="b"))
        return Number(n=a.n + b.n)

    async with roost.connect(nats_url, namespace=namespace) as bus:
        outcome, _ = await resumed(bus, workflow, (below, inner), (double, counted))
    assert isinstance(outcome, roost.Done)
    assert outcome.value.numbers == [2 * n for n in range(20)] + [12]
    assert len(runs) == 22


async def test_a_dead_call_is_an_error_that_a_workflow_may_handle(nats_url: str, namespace: str) -> None:
    async def refuse(value: Number) -> Number:
        raise roost.Reject(f"{value.n} is not wanted")

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        with pytest.raises(roost.TaskDead, match="is not wanted"):
            await run.call(double, value)
        await run.step("ready", ready)
        await run.wait_for(go)
        return Report(numbers=[1])

    async def careless(value: Number, run: roost.Run[Any]) -> Number:
        return await run.call(double, value)

    async with roost.connect(nats_url, namespace=namespace) as bus:
        outcome, _ = await resumed(bus, workflow, (double, refuse))
        assert isinstance(outcome, roost.Done)
        async with bus.serving(agent_of((below, careless), (double, refuse))):
            lost = await (await bus.start(below, Number(n=7))).outcome(timeout_s=SOON_S)
    assert isinstance(lost, roost.Dead)
    assert "is dead: 7 is not wanted" in lost.letter.reason


async def test_an_operation_after_the_workflow_has_returned_does_nothing(
    nats_url: str, namespace: str
) -> None:
    left: list[asyncio.Task[Any]] = []
    go_on = asyncio.Event()

    async def late(run: roost.Run[Any], value: Number) -> None:
        await go_on.wait()
        await run.call(double, value, name="late")

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        left.append(asyncio.create_task(late(run, value)))
        left.append(asyncio.create_task(run.wait_for(go)))
        await asyncio.sleep(0)
        return Report(numbers=[])

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of((plan, workflow))):
        handle = await bus.start(plan, Number(n=1))
        await handle.result(timeout_s=SOON_S)
        go_on.set()
        await asyncio.wait(left)
        with pytest.raises(roost.ConfigError, match="after its workflow has returned"):
            left[0].result()
        assert left[1].cancelled(), "what still waited for the log has ended"
        assert [r.subject for r in await records(bus, handle.id, "task")] == [
            bus.log.subjects.task(handle.ref)
        ]


async def test_records_say_what_was_done_and_by_whom(nats_url: str, namespace: str) -> None:
    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        await run.step("look", doubled, value)
        return Report(numbers=[])

    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        bus.serving(agent_of((plan, workflow))) as (one,),
    ):
        handle = await bus.start(plan, Number(n=4))
        await handle.result(timeout_s=SOON_S)
        (step,) = [json.loads(r.data) for r in await records(bus, handle.id, "step")]
        (state,) = [json.loads(r.data) for r in await bus.log.read_all(f"{namespace}.run.{handle.id}.state")]
        (epoch,) = [json.loads(r.data) for r in await bus.log.read_all(f"{namespace}.run.{handle.id}.epoch")]
    assert (step["kind"], step["op"], step["by"], step["value"]) == ("step", "look", one.name, {"n": 8})
    assert len(step["input"]) == 32
    assert (state["status"], state["by"]) == ("done", one.name)
    assert (epoch["workflow"], epoch["task"], epoch["by"]) == ("plan", handle.id, one.name)


async def test_a_journal_tells_of_records_that_new_code_does_not_ask_for(
    nats_url: str, namespace: str
) -> None:
    async def before(value: Number, run: roost.Run[Any]) -> Report:
        await run.step("gone", doubled, value)
        await run.step("ready", ready)
        await run.wait_for(go)
        return Report(numbers=[])

    async def after(value: Number, run: roost.Run[Any]) -> Report:
        await run.step("ready", ready)
        await run.wait_for(go)
        return Report(numbers=[])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        events = Events(bus)
        async with bus.serving(agent_of((plan, before))):
            handle = await bus.start(plan, Number(n=3))
            await stored(bus, f"{namespace}.run.{handle.id}.step.ready", 1)
        async with bus.serving(agent_of((plan, after))):
            await bus.signal(handle.id, go, Number(n=1))
            await handle.result(timeout_s=SOON_S)
        (event,) = await events.until("operations_not_met")
    assert event.reason.endswith("gone")
