"""What keeps the resumption of a long fan-out short."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import BaseModel, field_validator

import roost
from roost.runs import arrivals
from roost.tasks.log import Log, Record
from runs.support import SOON_S, Number, Report, agent_of, double, go, numbers, plan, stored


async def ready() -> None:
    pass


async def _resumed(bus: roost.Bus, workflow: Any, *others: tuple[Any, Any], before: Any = None) -> Report:
    """Run a workflow to its step `ready`, stop its agent, start another one, send `go`; what came of it."""
    async with bus.serving(agent_of((plan, workflow), *others)):
        handle = await bus.start(plan, Number(n=1))
        await stored(bus, f"{bus.namespace}.run.{handle.id}.step.ready", 1)
    if before is not None:
        before()
    async with bus.serving(agent_of((plan, workflow), *others)):
        await bus.signal(handle.id, go, Number(n=1))
        return await handle.result(timeout_s=SOON_S)


async def test_the_next_page_is_on_its_way_while_outcomes_are_handed_out(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A workflow that awaits nothing else hands the loop no turn; every page was waited for in full."""
    left: list[int] = []
    now: Any = None
    page = Log.page

    async def seen(self: Log, query: dict[str, Any], *, leader: bool = False) -> list[Record]:
        if now is not None and ".end." in query.get("next_by_subj", ""):
            left.append(len(now._arrivals.records))
        return await page(self, query, leader=leader)

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        nonlocal now
        read = 0
        async with run.map(double, numbers(1_400)) as outcomes:
            now = outcomes
            async for _ in outcomes:
                read += 1
            now = None
        await run.step("ready", ready)
        await run.wait_for(go)
        return Report(numbers=[read])

    async with roost.connect(nats_url, namespace=namespace) as bus:
        monkeypatch.setattr(Log, "page", seen)
        report = await _resumed(bus, workflow, before=left.clear)
    assert report.numbers == [1_400]
    assert any(0 < one <= arrivals.FEW for one in left), f"outcomes at hand when a page was asked for: {left}"


async def test_items_on_record_are_compared_and_not_validated_again(nats_url: str, namespace: str) -> None:
    validated = 0

    class Checked(BaseModel):
        n: int

        @field_validator("n")
        @classmethod
        def count(cls, n: int) -> int:
            nonlocal validated
            validated += 1
            return n

    task = roost.Task("checked", Checked, Number)

    async def handler(value: Any) -> Number:
        return Number(n=value.n)

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        items = (Checked.model_construct(n=n) for n in range(300))
        async with run.map(task, items, ordered=True) as outcomes:
            found = [o.value.n async for o in outcomes if isinstance(o, roost.Done)]
        await run.step("ready", ready)
        await run.wait_for(go)
        return Report(numbers=found)

    def forget() -> None:
        nonlocal validated
        assert validated >= 600, "before they are stored, and as the handler gets them"
        validated = 0

    async with roost.connect(nats_url, namespace=namespace) as bus:
        report = await _resumed(bus, workflow, (task, handler), before=forget)
    assert report.numbers == list(range(300))
    assert validated == 0


async def test_an_item_that_no_longer_fits_its_contract_is_told_on_resume(
    nats_url: str, namespace: str
) -> None:
    """Its bytes are not those on record, so it goes the long way, where it is refused."""
    broken = False

    async def workflow(value: Number, run: roost.Run[Any]) -> Report:
        items: list[Any] = numbers(3)
        if broken:
            items[1] = Report(numbers=[])
        try:
            async with run.map(double, items) as outcomes:
                found = [o.index async for o in outcomes]
        except roost.InvalidMessage:
            return Report(numbers=[-1])
        await run.step("ready", ready)
        await run.wait_for(go)
        return Report(numbers=found)

    def break_it() -> None:
        nonlocal broken
        broken = True

    async with roost.connect(nats_url, namespace=namespace) as bus:
        report = await _resumed(bus, workflow, before=break_it)
        assert report.numbers == [-1]
