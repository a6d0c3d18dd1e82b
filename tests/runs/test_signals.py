"""Signals: each taken once, oldest first, whenever they were sent and whoever waits."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from pydantic import BaseModel

import roost
from roost.tasks.log import Record
from runs.support import (
    SOON_S,
    Events,
    Gate,
    Number,
    Report,
    agent_of,
    below,
    double,
    go,
    plan,
    put,
    records,
    stored,
    stranger,
)

other = roost.Signal("other", Number)


class Word(BaseModel):
    text: str


async def ready() -> None:
    pass


def waits(*names: str, timeout_s: float | None = None) -> Any:
    """A workflow that waits for `go` under each of these names; -1 stands for a wait that timed out."""

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        found = []
        for name in names:
            try:
                found.append((await run.wait_for(go, name=name, timeout_s=timeout_s)).n)
            except roost.RequestTimeout:
                found.append(-1)
            await run.step(f"after {name}", ready)
        return Report(numbers=found)

    return workflow


async def test_signals_sent_before_the_start_and_twice_are_taken_in_order(
    nats_url: str, namespace: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        for n in (1, 2, 2):
            await bus.signal("plan:early", go, Number(n=n))
        async with bus.serving(agent_of((plan, waits("a", "b", "c", "d")))):
            handle = await bus.start(plan, Number(n=0), key="early")
            assert handle.id == "plan:early"
            await bus.signal(handle.id, go, Number(n=3))
            assert (await handle.result(timeout_s=SOON_S)).numbers == [1, 2, 2, 3]


async def test_a_signal_is_taken_once_however_often_the_run_is_resumed(nats_url: str, namespace: str) -> None:
    names = ["a", "b", "c"]
    async with roost.connect(nats_url, namespace=namespace) as bus:
        handle = await bus.start(plan, Number(n=0), key="one")
        for n, name in enumerate(names):
            async with bus.serving(agent_of((plan, waits(*names)))):
                await bus.signal(handle.id, go, Number(n=n))
                if name != "c":
                    await stored(bus, f"{namespace}.run.{handle.id}.step.*", 2 * n + 2)
                else:
                    assert (await handle.result(timeout_s=SOON_S)).numbers == [0, 1, 2]


async def test_signals_of_other_names_and_runs_are_left_alone(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of((plan, waits("a")))):
        one, two = [await bus.start(plan, Number(n=0), key=key) for key in ("one", "two")]
        await bus.signal(one.id, other, Number(n=9))
        await bus.signal(one.id, go, Number(n=1))
        await bus.signal(two.id, go, Number(n=2))
        assert (await two.result(timeout_s=SOON_S)).numbers == [2]
        assert (await one.result(timeout_s=SOON_S)).numbers == [1]


async def test_a_signal_that_does_not_fit_is_counted_and_passed_over(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as client:
        events = Events(bus)
        async with bus.serving(agent_of((plan, waits("a")))):
            handle = await bus.start(plan, Number(n=0))
            subject = f"{namespace}.run.{handle.id}.signal.go"
            for junk in (b"", b"{", b'{"n": "x"}', b"\xff" * 100, b'{"n": 1, "n": 2}'):
                await put(client, subject, junk)
            await events.until("message_refused", 5)
            await bus.signal(handle.id, go, Number(n=4))
            assert (await handle.result(timeout_s=SOON_S)).numbers == [4]


async def test_a_signal_to_a_run_that_is_over_is_refused(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of((plan, waits("a")))):
        handle = await bus.start(plan, Number(n=0))
        await bus.signal(handle.id, go, Number(n=1))
        await handle.result(timeout_s=SOON_S)
        with pytest.raises(roost.ConfigError, match=r"is over .done.*not sent"):
            await bus.signal(handle.id, go, Number(n=2))
        assert len(await records(bus, handle.id, "signal")) == 1
        for id in ("", "a.b", "*", ">", "a b", "run/name/id"):
            with pytest.raises(roost.ConfigError):
                await bus.signal(id, go, Number(n=2))


async def test_a_wait_ends_at_its_time_also_across_a_resume(nats_url: str, namespace: str) -> None:
    """The second process must not begin the wait anew; and the outcome of the wait repeats."""
    loop = asyncio.get_running_loop()
    async with roost.connect(nats_url, namespace=namespace) as bus:
        handle = await bus.start(plan, Number(n=0), key="one")
        workflow = waits("a", "b", timeout_s=1.5)
        async with bus.serving(agent_of((plan, workflow))):
            await stored(bus, f"{namespace}.run.{handle.id}.step.a:wait", 1)
            began = loop.time()
        async with bus.serving(agent_of((plan, workflow))):
            await stored(bus, f"{namespace}.run.{handle.id}.step.a", 1)
            assert loop.time() - began > 1.2
            assert len(await bus.log.read_all(f"{namespace}.run.{handle.id}.step.a:wait")) == 1
            await bus.signal(handle.id, go, Number(n=5))
        async with bus.serving(agent_of((plan, workflow))):
            assert (await handle.result(timeout_s=SOON_S)).numbers == [-1, 5]


async def test_a_signal_that_came_in_time_counts_although_nobody_was_at_work(
    nats_url: str, namespace: str
) -> None:
    """It was sent before the wait's end, while no coordinator ran; the next one begins after that end."""
    workflow = waits("a", "b", timeout_s=1)
    async with roost.connect(nats_url, namespace=namespace) as bus:
        handle = await bus.start(plan, Number(n=0), key="one")
        async with bus.serving(agent_of((plan, workflow))):
            (mark,) = await stored(bus, f"{namespace}.run.{handle.id}.step.a:wait", 1)
        await bus.signal(handle.id, go, Number(n=1))
        until = json.loads(mark.data)["until"]
        await asyncio.sleep(max(0.0, until - bus.log.now_s() + 0.05))  # the wait is over while nobody runs
        await bus.signal(handle.id, go, Number(n=2))
        async with bus.serving(agent_of((plan, workflow))):
            assert (await handle.result(timeout_s=SOON_S)).numbers == [1, 2]


async def test_a_signal_that_comes_as_its_wait_ends_is_there_for_the_next(
    nats_url: str, namespace: str
) -> None:
    """The future of the wait has it, and the wait is cancelled in the same turn of the loop."""

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        inbox = run._core.inbox
        waiting = asyncio.ensure_future(inbox.signal("go"))
        await asyncio.sleep(0)
        inbox._signals["go"].take(Record(f"{namespace}.run.{run.id}.signal.go", 10**9, b'{"n": 6}'))
        waiting.cancel()
        await asyncio.wait([waiting])
        return Report(numbers=[int(waiting.cancelled()), (await run.wait_for(go)).n])

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of((plan, workflow))):
        handle = await bus.start(plan, Number(n=0))
        assert (await handle.result(timeout_s=SOON_S)).numbers == [1, 6]


async def test_waits_side_by_side_each_take_one(nats_url: str, namespace: str) -> None:
    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        found = await asyncio.gather(
            run.wait_for(go, name="a"), run.wait_for(go, name="b"), run.wait_for(other, timeout_s=300)
        )
        return Report(numbers=sorted(one.n for one in found))

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of((plan, workflow))):
        handle = await bus.start(plan, Number(n=0))
        for n in (1, 2):
            await bus.signal(handle.id, go, Number(n=n))
        await bus.signal(handle.id, other, Number(n=3))
        assert (await handle.result(timeout_s=SOON_S)).numbers == [1, 2, 3]


async def test_a_run_below_another_takes_signals_by_its_own_id(nats_url: str, namespace: str) -> None:
    async def inner(value: Number, run: roost.Run[Any]) -> Number:
        await bus.signal(run.id, go, Number(n=8))
        return await run.wait_for(go)

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        return Report(numbers=[(await run.call(below, value)).n])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow), (below, inner))):
            assert (await (await bus.start(plan, Number(n=0))).result(timeout_s=SOON_S)).numbers == [8]


async def test_a_flood_of_signals_that_nobody_waits_for_is_not_read(nats_url: str, namespace: str) -> None:
    kept = []

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        found = await run.wait_for(go)
        kept.append({name: len(one.records) for name, one in run._core.inbox._signals.items()})
        return Report(numbers=[found.n])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        handle_id = "plan:one"
        await asyncio.gather(*(bus.signal(handle_id, other, Number(n=n)) for n in range(1000)))
        await asyncio.gather(*(bus.signal(handle_id, go, Number(n=1)) for n in range(1500)))
        async with bus.serving(agent_of((plan, workflow))):
            handle = await bus.start(plan, Number(n=0), key="one")
            assert (await handle.result(timeout_s=SOON_S)).numbers == [1]
    assert set(kept[0]) == {"go"}
    assert kept[0]["go"] <= 500


async def test_hints_that_nobody_waits_for_do_not_make_the_feed_spin(nats_url: str, namespace: str) -> None:
    """Outcomes of a map that was left come in while a step runs: the loop of the whole process stood still."""
    gate = Gate()

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        async with run.map(double, [Number(n=n) for n in range(9)]) as outcomes:
            await anext(outcomes)
        await run.step("long", long)
        return Report(numbers=[1])

    async def handler(value: Number) -> Number:
        return await gate(value) if value.n else value

    async def long() -> None:
        gate.open()
        await stored(bus, f"{namespace}.run.*.end.double.*", 9)

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow), (double, handler), concurrency=10)):
            handle = await bus.start(plan, Number(n=0))
            assert (await handle.result(timeout_s=SOON_S)).numbers == [1]


async def test_a_waiting_run_costs_nothing_but_a_look_now_and_then(nats_url: str, namespace: str) -> None:
    reads = 0

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        original = run._core.log.page

        async def counted(query: dict[str, Any], *, leader: bool = False) -> Any:
            nonlocal reads
            reads += 1
            return await original(query, leader=leader)

        run._core.log.page = counted  # type: ignore[method-assign]
        try:
            await run.wait_for(go)
        finally:
            run._core.log.page = original  # type: ignore[method-assign]
        return Report(numbers=[])

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of((plan, workflow))):
        handle = await bus.start(plan, Number(n=0))
        await asyncio.sleep(1.0)  # the time over which is counted
        await bus.signal(handle.id, go, Number(n=1))
        await handle.result(timeout_s=SOON_S)
    assert 0 < reads < 6
