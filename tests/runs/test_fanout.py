"""Fan-outs: bounded, resumable, and never stuck."""

from __future__ import annotations

import asyncio
import json
import resource
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from pydantic import BaseModel

import roost
from roost.runs import arrivals, fanout
from runs.support import (
    SOON_S,
    Events,
    Gate,
    Number,
    Report,
    agent_of,
    below,
    double,
    doubled,
    go,
    numbers,
    plan,
    put,
    records,
    run_once,
    stored,
    stranger,
)


async def ready() -> None:
    pass


async def test_at_most_ahead_items_are_submitted_and_not_read(nats_url: str, namespace: str) -> None:
    taken: list[int] = []

    def items() -> Iterator[Number]:
        for n in range(60):
            taken.append(n)
            yield Number(n=n)

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        read, most = 0, 0
        async with run.map(double, items(), ahead=7) as outcomes:
            async for _ in outcomes:
                most = max(most, len(taken) - read)
                read += 1
                await asyncio.sleep(0)
        return Report(numbers=[read, most])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        outcome = await run_once(bus, workflow)
        parts = await bus.log.read_all(f"{namespace}.run.*.step.*")
    read, most = outcome.value.numbers
    assert read == 60
    assert len(parts) <= 60 / 3 + 2, (
        "there is a commit for each few items, not for each outcome that was read"
    )
    assert most <= 7 + 1  # one item is looked at beyond those taken, to know where the end is


@pytest.mark.parametrize("count", [0, 1, 199, 200, 201, 450])
@pytest.mark.parametrize("kind", ["list", "async"])
async def test_every_number_of_items_comes_to_its_end(
    nats_url: str, namespace: str, count: int, kind: str
) -> None:
    async def trickle() -> AsyncIterator[Number]:
        for one in numbers(count):
            yield one

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        async with run.map(double, numbers(count) if kind == "list" else trickle(), ordered=True) as outcomes:
            return Report(numbers=[o.value.n async for o in outcomes if isinstance(o, roost.Done)])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        outcome = await run_once(bus, workflow)
    assert outcome.value.numbers == [2 * n for n in range(count)]


async def test_outcomes_of_all_three_kinds_are_values(nats_url: str, namespace: str) -> None:
    gate = Gate()

    async def handler(value: Number) -> Number:
        if value.n == 1:
            raise roost.Reject("no")
        return await gate(value) if value.n == 2 else await doubled(value)

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        found = []
        async with run.map(double, numbers(3), key=lambda v: f"k{v.n}") as outcomes:
            async for outcome in outcomes:
                kind = {roost.Done: 1, roost.Dead: 2, roost.Cancelled: 3}[type(outcome)]
                found += [outcome.index, int(outcome.key == f"k{outcome.index}"), kind]
        return Report(numbers=found)

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow), (double, handler))):
            handle = await bus.start(plan, Number(n=1))
            await gate.until()
            assert await bus.handle(double, f"{handle.id}/double/double:k2").cancel("not needed")
            report = await handle.result(timeout_s=SOON_S)
    triples = sorted(tuple(report.numbers[at : at + 3]) for at in range(0, 9, 3))
    assert triples == [(0, 1, 1), (1, 1, 2), (2, 1, 3)]


async def test_the_landing_order_repeats_on_resume(nats_url: str, namespace: str) -> None:
    """The order is given to a step: another order would be another input, and park the run."""
    orders: list[list[int]] = []

    async def uneven(value: Number) -> Number:
        await asyncio.sleep((value.n * 7 % 5) / 200)
        return value

    async def keep(order: list[int]) -> None:
        orders.append(order)

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        order = []
        async with run.map(double, numbers(60), ahead=10) as outcomes:
            async for outcome in outcomes:
                order.append(outcome.index)
        await run.step("keep", keep, order)
        await run.wait_for(go)
        await run.step("again", keep, order)
        return Report(numbers=order)

    async with roost.connect(nats_url, namespace=namespace) as bus:
        for _ in range(2):
            async with bus.serving(agent_of((plan, workflow), (double, uneven))):
                handle = await bus.start(plan, Number(n=1), key="one")
                await stored(bus, f"{namespace}.run.{handle.id}.step.keep", 1)
        async with bus.serving(agent_of((plan, workflow), (double, uneven))):
            await bus.signal(handle.id, go, Number(n=1))
            report = await handle.result(timeout_s=SOON_S)
    assert orders == [report.numbers] * 2
    assert report.numbers != sorted(report.numbers)
    assert sorted(report.numbers) == list(range(60))


@pytest.mark.parametrize("ahead", [3, 40, 1000])
async def test_another_look_ahead_after_a_resume_changes_no_order(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch, ahead: int
) -> None:
    """With a smaller one the oldest outcome may be of an item that there was no room to plan: that hung."""
    monkeypatch.setattr(fanout, "PART", 4)
    gate = asyncio.Event()

    async def backwards(value: Number) -> Number:
        if value.n < 5:
            await gate.wait()
        return value

    def workflow_with(look_ahead: int) -> Any:
        async def workflow(value: Number, run: roost.Run[Any]) -> Report:
            order = []
            async with run.map(double, numbers(60), ahead=look_ahead) as outcomes:
                async for outcome in outcomes:
                    order.append(outcome.index)
                    if len(order) == 10:
                        await run.wait_for(go)
            return Report(numbers=order)

        return workflow

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow_with(40)), (double, backwards)), grace_s=0):
            handle = await bus.start(plan, Number(n=1))
            ends = await stored(bus, f"{namespace}.run.{handle.id}.end.double.*", 35)
        gate.set()
        async with bus.serving(agent_of((plan, workflow_with(ahead)), (double, backwards))):
            await bus.signal(handle.id, go, Number(n=1))
            report = await handle.result(timeout_s=SOON_S)
        landed = [int(r.subject.rpartition(":")[2]) for r in ends]
        assert report.numbers[: len(landed)] == landed, "outcomes come in the order of the log"
    assert sorted(report.numbers) == list(range(60))


async def test_a_source_that_lives_on_outcomes_resumes(nats_url: str, namespace: str) -> None:
    """A crawler: each page that was read leads to others."""

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        queue: asyncio.Queue[Number | None] = asyncio.Queue()
        queue.put_nowait(Number(n=1))
        open_pages, found = 1, []

        async def pages() -> AsyncIterator[Number]:
            while (page := await queue.get()) is not None:
                yield page

        async with run.map(double, pages(), key=lambda v: str(v.n)) as outcomes:
            async for outcome in outcomes:
                assert isinstance(outcome, roost.Done)
                found.append(outcome.value.n // 2)
                for new in (outcome.value.n, outcome.value.n + 1):
                    if new < 64:
                        queue.put_nowait(Number(n=new))
                        open_pages += 1
                open_pages -= 1
                if not open_pages:
                    queue.put_nowait(None)
                if len(found) == 40:
                    await run.step("ready", ready)
                    await run.wait_for(go)
        return Report(numbers=found)

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow))):
            handle = await bus.start(plan, Number(n=1))
            await stored(bus, f"{namespace}.run.{handle.id}.step.ready", 1)
        async with bus.serving(agent_of((plan, workflow))):
            await bus.signal(handle.id, go, Number(n=1))
            report = await handle.result(timeout_s=SOON_S)
    assert sorted(report.numbers) == list(range(1, 64))


async def test_maps_inside_of_each_other_over_the_same_contract_do_not_block(
    nats_url: str, namespace: str
) -> None:
    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        total = 0
        async with run.map(double, numbers(12), ahead=3, name="outer") as outer:
            async for one in outer:
                async with run.map(double, numbers(4), ahead=2, name=f"inner {one.index}") as inner:
                    async for o in inner:
                        total += o.value.n if isinstance(o, roost.Done) else 0
                await run.call(double, value, name=f"call {one.index}")
        await run.step("ready", ready)
        await run.wait_for(go)
        return Report(numbers=[total])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow))):
            handle = await bus.start(plan, Number(n=1))
            await stored(bus, f"{namespace}.run.{handle.id}.step.ready", 1)
        async with bus.serving(agent_of((plan, workflow))):
            await bus.signal(handle.id, go, Number(n=1))
            assert (await handle.result(timeout_s=SOON_S)).numbers == [12 * 12]


async def test_maps_side_by_side_finish_in_any_order(nats_url: str, namespace: str) -> None:
    async def total(run: roost.Run[Any], name: str, ordered: bool) -> int:
        found = 0
        async with run.map(double, numbers(300), ahead=20, name=name, ordered=ordered) as outcomes:
            async for o in outcomes:
                found += o.value.n if isinstance(o, roost.Done) else 0
        return found

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        return Report(
            numbers=await asyncio.gather(*(total(run, f"m{n}", ordered=n % 2 == 0) for n in range(4)))
        )

    async with roost.connect(nats_url, namespace=namespace) as bus:
        outcome = await run_once(bus, workflow)
    assert outcome.value.numbers == [299 * 300] * 4


async def test_two_readers_of_one_map_share_its_outcomes(nats_url: str, namespace: str) -> None:
    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        async with run.map(double, numbers(50), ahead=5) as outcomes:

            async def reader() -> list[int]:
                return [o.index async for o in outcomes]

            both = await asyncio.gather(reader(), reader())
        return Report(numbers=sorted(both[0] + both[1]))

    async with roost.connect(nats_url, namespace=namespace) as bus:
        assert (await run_once(bus, workflow)).value.numbers == list(range(50))


async def test_leaving_the_block_early_stops_submitting_and_ends_the_source(
    nats_url: str, namespace: str
) -> None:
    ended: list[str] = []

    async def endless() -> AsyncIterator[Number]:
        try:
            n = 0
            while True:
                yield Number(n=n)
                n += 1
        finally:
            ended.append("source")

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        found = []
        async with run.map(double, endless(), ahead=10) as outcomes:
            async for outcome in outcomes:
                found.append(outcome.index)
                if len(found) == 15:
                    break
        with pytest.raises(roost.ConfigError, match="inside of its block only"):
            await anext(outcomes)
        return Report(numbers=found)

    async with roost.connect(nats_url, namespace=namespace) as bus:
        outcome = await run_once(bus, workflow)
    assert len(outcome.value.numbers) == 15
    assert ended == ["source"]


async def test_an_exception_in_the_block_leaves_it(nats_url: str, namespace: str) -> None:
    tries: list[int] = []

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        tries.append(1)
        found = 0
        async with run.map(double, numbers(30), ahead=4) as outcomes:
            async for _ in outcomes:
                found += 1
                if found == 9 and len(tries) == 1:
                    raise ValueError("once")
        return Report(numbers=[found])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        outcome = await run_once(bus, workflow)
    assert outcome.value.numbers == [30]
    assert len(tries) == 2


async def test_large_items_are_cut_into_commits_that_the_server_takes(nats_url: str, namespace: str) -> None:
    """200 items of 200 KB would be one commit of 40 MB: beyond what a client may have on its way."""

    class Blob(BaseModel):
        n: int
        text: str

    big = roost.Task("big", Blob, Number)

    async def measure(value: Any) -> Number:
        return Number(n=len(value.text))

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        blobs = (Blob(n=n, text="x" * 200_000) for n in range(40))
        async with run.map(big, blobs) as outcomes:
            return Report(numbers=[o.value.n async for o in outcomes if isinstance(o, roost.Done)])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow), (big, measure))):
            handle = await bus.start(plan, Number(n=1))
            assert (await handle.result(timeout_s=SOON_S)).numbers == [200_000] * 40
            parts = [json.loads(r.data) for r in await records(bus, handle.id, "step")]
    assert sum(part["count"] for part in parts) == 40
    assert max(part["count"] for part in parts) <= fanout.PART_BYTES // 200_000
    assert [part["last"] for part in parts][-1] is True


async def test_strangers_records_do_not_stop_a_map(nats_url: str, namespace: str) -> None:
    """Outcomes of items that nobody has, replays of dead letters, and what is no outcome at all."""
    gate = Gate()

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        async with run.map(double, numbers(3)) as outcomes:
            return Report(numbers=sorted([o.index async for o in outcomes]))

    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as client:
        events = Events(bus)
        async with bus.serving(agent_of((plan, workflow), (double, gate))):
            handle = await bus.start(plan, Number(n=1))
            await gate.until(3)
            base = f"{namespace}.run.{handle.id}.end."
            for tail in (
                "double.double:77",
                "double.double:0:r1",
                "double.double",
                "double.*",
                "x.y.z.a",
                "q",
            ):
                await put(client, base + tail, b"junk")
            gate.open()
            assert (await handle.result(timeout_s=SOON_S)).numbers == [0, 1, 2]
        (event,) = events.of("foreign_record")
        assert event.subject.endswith("double:77")


async def test_a_map_of_workflows_gives_their_outcomes(nats_url: str, namespace: str) -> None:
    async def inner(value: Number, run: roost.Run[Any]) -> Number:
        return await run.call(double, value)

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        async with run.map(below, numbers(30), ahead=10, ordered=True) as outcomes:
            return Report(numbers=[o.value.n async for o in outcomes if isinstance(o, roost.Done)])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        outcome = await run_once(bus, workflow, (below, inner))
    assert outcome.value.numbers == [2 * n for n in range(30)]


async def test_a_map_that_nobody_reads_keeps_few_outcomes_in_memory(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While a call in the block waits, the feed reads on, past the outcomes of the map."""
    monkeypatch.setattr(arrivals, "MOST", 20)
    monkeypatch.setattr(arrivals, "FEW", 5)
    most = 0

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        nonlocal most
        found = []
        async with run.map(double, numbers(400), ahead=300) as outcomes:
            async for outcome in outcomes:
                found.append(outcome.index)
                await run.call(double, value, name=f"call {outcome.index}")
                most = max(most, len(outcomes._arrivals.records))
        return Report(numbers=found)

    async with roost.connect(nats_url, namespace=namespace) as bus:
        outcome = await run_once(bus, workflow)
    assert Counter(outcome.value.numbers) == Counter(range(400))
    assert most <= 20


@pytest.mark.slow_limit(150)
async def test_a_fan_out_of_20_000_with_a_small_look_ahead_keeps_memory_flat(
    nats_url: str, namespace: str
) -> None:
    grown: list[int] = []

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        read = 0
        async with run.map(double, (Number(n=n) for n in range(20_000)), ahead=400) as outcomes:
            async for outcome in outcomes:
                read += 1
                if read in (4_000, 20_000):
                    grown.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
                    kept = outcomes.__sizeof__() + sum(
                        len(one) for one in (outcomes._planned, outcomes._cancelled, outcomes._waiting)
                    )
                    assert kept < 2_000
                assert outcome.index >= 0
        return Report(numbers=[read])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of((plan, workflow))):
            report = await (await bus.start(plan, Number(n=1))).result(timeout_s=140)
    assert report.numbers == [20_000]
    assert grown[1] - grown[0] < 20 * 1024, f"{grown} KiB"
