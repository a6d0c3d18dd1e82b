"""A timeline of plain tasks: each attempt, and the backoff between them, in one row for each task."""

from __future__ import annotations

from collections import Counter
from xml.etree import ElementTree

import pytest

import roost
from roost.contracts import Retry
from tasks.support import SOON_S, Number, agent_of

flaky = roost.Task("flaky", Number, Number, retry=Retry(attempts=4, base_s=0.02))
SVG = "{http://www.w3.org/2000/svg}"


class Fails:
    """The first attempts, as many as the task's number says."""

    def __init__(self) -> None:
        self.calls = Counter[int]()

    async def __call__(self, value: Number) -> Number:
        self.calls[value.n] += 1
        if self.calls[value.n] <= value.n:
            raise OSError("busy")
        return value


async def test_a_task_is_drawn_with_its_attempts_and_several_together(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of(flaky, Fails())):
            handles = [await bus.submit(flaky, Number(n=n), key=f"k{n}") for n in (2, 0, 4)]
            for handle in handles:
                await handle.outcome(timeout_s=SOON_S)
        one = await roost.timeline(bus, handles[0])
        assert one.title == "Task flaky:k2"
        assert one == await roost.timeline(bus, handles[0].id)
        assert [attempt.result for attempt in one.tasks[0].attempts] == ["failed", "failed", "done"]
        assert one.summary()[:4] == ["1 task", "1 done", "0 dead", "2 retries"]
        assert one.text().count("backoff") == 2
        root = ElementTree.fromstring(one.svg())
        bars = [box for box in root.iter(f"{SVG}rect") if box.get("class") in ("failed", "done")][:3]
        assert len({box.get("y") for box in bars}) == 1
        both = await roost.timeline(bus, [*handles, f"{handles[0].id}/flaky/{handles[0].id}"])
        assert both.summary()[:4] == ["3 tasks", "2 done", "1 dead", "5 retries"]


async def test_a_task_that_waits_or_was_cancelled_is_drawn_and_one_that_is_not_there_is_an_error(
    nats_url: str, namespace: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        waiting = await bus.submit(flaky, Number(n=0), key="waiting")
        picture = await roost.timeline(bus, waiting)
        assert picture.until_s is not None
        assert "1 open" in picture.summary()
        await waiting.cancel("not needed")
        assert "1 cancelled" in (await roost.timeline(bus, waiting.id)).summary()
        with pytest.raises(roost.ConfigError, match="no run and no task 'flaky:other'"):
            await roost.timeline(bus, [waiting.id, "flaky:other"])
