"""Workflows that call workflows: at any depth, with one slot, and nothing submitted twice."""

from __future__ import annotations

from typing import Any

import roost
from runs.support import (
    SOON_S,
    Gate,
    Number,
    Report,
    agent_of,
    below,
    double,
    numbers,
    plan,
)


async def test_five_nested_levels_finish_at_concurrency_1(nats_url: str, namespace: str) -> None:
    levels = [roost.Workflow(f"level{n}", Number, Number, ack_wait_s=1) for n in range(5)]

    def level(n: int) -> Any:
        async def workflow(value: Number, run: roost.Run[Any]) -> Number:
            contract: Any = levels[n + 1] if n < 4 else double
            total = 0
            async with run.map(contract, numbers(2), name="several") as outcomes:
                async for outcome in outcomes:
                    total += outcome.value.n if isinstance(outcome, roost.Done) else 1000
            return Number(n=total + (await run.call(contract, value)).n)

        return workflow

    async with roost.connect(nats_url, namespace=namespace) as bus:
        handlers = [(contract, level(n)) for n, contract in enumerate(levels)]
        async with bus.serving(agent_of(*handlers, concurrency=1)):
            result = await (await bus.start(levels[0], Number(n=1))).result(timeout_s=60)

    def expected(n: int, value: int) -> int:
        if n == 5:
            return 2 * value
        return expected(n + 1, 0) + expected(n + 1, 1) + expected(n + 1, value)

    assert result.n == expected(0, 1)


async def test_a_workflow_that_calls_itself_finishes_at_concurrency_1(nats_url: str, namespace: str) -> None:
    async def factorial(value: Number, run: roost.Run[Any]) -> Number:
        if value.n <= 1:
            return Number(n=1)
        return Number(n=value.n * (await run.call(below, Number(n=value.n - 1))).n)

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((below, factorial), concurrency=1)):
            assert (await (await bus.start(below, Number(n=8))).result(timeout_s=SOON_S)).n == 40320


async def test_a_call_in_flight_is_not_submitted_again_by_the_next_coordinator(
    nats_url: str, namespace: str
) -> None:
    gate = Gate()

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        return Report(numbers=[(await run.call(double, value)).n])

    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        roost.connect(nats_url, namespace=namespace) as two,
    ):
        worker = roost.Agent("worker")
        register: Any = worker.handles(double)
        register(gate)
        only = roost.Agent("coordinator")
        only.handles(plan)(workflow)
        async with two.serving(worker, grace_s=0):
            handle = await bus.start(plan, Number(n=4))
            for _ in range(3):
                async with bus.serving(only):
                    await gate.until()
            async with bus.serving(only):
                gate.open()
                assert (await handle.result(timeout_s=SOON_S)).numbers == [8]
    assert gate.reached == 1
