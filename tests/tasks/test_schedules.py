"""Schedules: one task for each time that the server fires, and none for a time that it fires twice."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

import roost
from roost.server import LocalServer
from roost.tasks.cron import Cron
from roost.tasks.provision import MOST_MISSED, timetable_stream
from tasks.support import SOON_S, Events, Number, agent_of, api, put, records, stranger, until

ring = roost.Task("ring", Number, Number, ack_wait_s=2)
EVERY_SECOND = "* * * * * *"
NIGHTLY = "0 30 6 * * mon-fri"


class Rung:
    """The ids of the tasks that have run."""

    def __init__(self) -> None:
        self.ids: list[str] = []
        self.values: list[int] = []
        self._more = asyncio.Event()

    async def __call__(self, value: Number, ctx: roost.Context) -> Number:
        self.ids.append(ctx.idempotency_key)
        self.values.append(value.n)
        self._more.set()
        return value

    async def until(self, count: int) -> None:
        async with asyncio.timeout(SOON_S):
            while len(self.ids) < count:
                self._more.clear()
                await self._more.wait()


async def firings(bus: roost.Bus, name: str) -> list[str]:
    """The tasks that a schedule has made, in the order of the log."""
    ids = [one.subject.rpartition(".")[2] for one in await records(bus, "task")]
    return [one for one in ids if f":{name}:" in one]


async def test_each_time_makes_one_task_over_two_workers(nats_url: str, namespace: str) -> None:
    rung = Rung()
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of(ring, rung), agent_of(ring, rung), grace_s=1):
            made = await bus.schedule(ring, Number(n=1), name="tick", cron=EVERY_SECOND)
            same = await bus.schedule(ring, Number(n=1), name="tick", cron=EVERY_SECOND)
            assert (made.task, made.cron, made.timezone, made.paused) == ("ring", EVERY_SECOND, "UTC", False)
            assert made.last_s is None
            assert same.name == "tick"
            await rung.until(3)
            (listed,) = await bus.schedules()
            assert listed.last_id in rung.ids
            assert listed.last_s == pytest.approx(time.time(), abs=2)
            assert listed.next_s == pytest.approx(time.time(), abs=2)
            assert listed.input == b'{"n":1}'
            await bus.cancel_schedule("tick")
            assert await bus.schedules() == []
            await until(lambda: bus.counters["task_done:ring"] == bus.counters["fired:tick"])
        assert Counter(await firings(bus, "tick")) == Counter(rung.ids)
        assert len(set(rung.ids)) == len(rung.ids)


async def test_paused_it_keeps_its_definition_and_fires_no_more(nats_url: str, namespace: str) -> None:
    zone = "Europe/Amsterdam"
    rung = Rung()
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as client:
        await bus.schedule(ring, Number(n=1), name="tick", cron=EVERY_SECOND, timezone=zone)
        await bus.schedule(ring, Number(n=2), name="nightly", cron=NIGHTLY, timezone=zone)
        paused = await bus.pause_schedule("tick")
        assert (paused.paused, paused.next_s, paused.timezone) == (True, None, zone)
        there = await fired(client, namespace)
        assert await bus.pause_schedule("tick") == paused
        again = await bus.schedule(ring, Number(n=3), name="tick", cron=EVERY_SECOND, timezone=zone)
        assert again.paused, "another definition does not resume it"
        by_name = {one.name: one for one in await bus.schedules()}
        assert by_name["tick"].paused
        next_s = by_name["nightly"].next_s
        assert next_s is not None
        local = datetime.fromtimestamp(next_s, ZoneInfo(zone))
        assert (local.hour, local.minute, local.isoweekday() <= 5) == (6, 30, True)
        await asyncio.sleep(1.2)  # a time passes
        assert await fired(client, namespace) == there
        async with bus.serving(agent_of(ring, rung), grace_s=1):
            resumed = await bus.resume_schedule("tick")
            assert resumed.next_s is not None
            await until(lambda: 3 in rung.values)
            await bus.cancel_schedule("tick")
        assert [one.name for one in await bus.schedules()] == ["nightly"]


async def fired(client: Any, namespace: str) -> int:
    query = {"subjects_filter": f"{namespace}.fired.>"}
    info = await api(client, f"STREAM.INFO.{timetable_stream(namespace)}", query)
    return sum((info["state"].get("subjects") or {}).values())


async def test_what_was_missed_is_made_up_for_up_to_a_bound(nats_url: str, namespace: str) -> None:
    rung = Rung()
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as client:
        await bus.schedule(ring, Number(n=1), name="tick", cron=EVERY_SECOND)
        async with asyncio.timeout(SOON_S):
            while await fired(client, namespace) < 2:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert (await bus.pause_schedule("tick")).last_s is None
        there = await fired(client, namespace)
        for _ in range(MOST_MISSED + 20):  # as if another had fired so often
            await put(client, f"{namespace}.fired.ring.cron.other", b"{}")
        assert await fired(client, namespace) == there + MOST_MISSED
        async with bus.serving(agent_of(ring, rung), grace_s=1):
            await rung.until(there)
            await until(lambda: bus.counters["firing_refused"] == MOST_MISSED)
        assert sorted(await firings(bus, "tick")) == sorted(rung.ids)
        assert len(rung.ids) == there


async def test_what_was_fired_goes_with_a_schedule_that_is_cancelled(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as client:
        await bus.schedule(ring, Number(n=1), name="tick", cron=EVERY_SECOND)
        async with asyncio.timeout(SOON_S):
            while not await fired(client, namespace):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        await bus.cancel_schedule("tick")
        assert await fired(client, namespace) == 0


async def test_a_time_that_the_server_fires_twice_makes_one_task(own_server: LocalServer) -> None:
    """It keeps its times in memory and writes them down when it is told to end: a crash takes it back to those.

    If the second firing is that of another time, the server has learned to remember.
    """
    rung = Rung()
    async with roost.connect(own_server.url) as bus:
        events = Events(bus)
        async with bus.serving(agent_of(ring, rung), agent_of(ring, rung), grace_s=1):
            await asyncio.sleep(4 - time.time() % 4 + 0.1)
            await bus.schedule(ring, Number(n=1), name="tick", cron="*/4 * * * * *")
            own_server.restart()
            await events.until("reconnected")
            await rung.until(1)
            own_server.kill()
            own_server.restart()
            await until(lambda: bus.counters["fired:tick"] >= 2)
            assert await firings(bus, "tick") == rung.ids[:1]


async def test_a_workflow_is_started(nats_url: str, namespace: str) -> None:
    plan = roost.Workflow("plan", Number, Number, ack_wait_s=2)
    agent, ran = roost.Agent("planner"), list[str]()

    @agent.handles(plan)
    async def _(value: Number, run: roost.Run) -> Number:
        ran.append(run.id)
        return value

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent, grace_s=1):
        await bus.schedule(plan, Number(n=1), name="plans", every_s=1)
        await until(lambda: len(ran) > 1)
        await bus.cancel_schedule("plans")
        assert all(one.startswith("plan:plans:") for one in ran)
        assert (await bus.handle(plan, ran[0]).result(timeout_s=SOON_S)).n == 1


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"cron": "* * * * *"}, "it has 5 fields; six are needed"),
        ({"cron": "0 0 25 * * *"}, "hour: '25': allowed are 0 to 23"),
        ({"cron": "0 0 0 30 2 *"}, "there is no such day"),
        ({"cron": "0 0 0 * * funday"}, "day of week: 'funday'"),
        ({"cron": EVERY_SECOND, "timezone": "Mars/Olympus"}, "timezone = 'Mars/Olympus'"),
        ({"cron": EVERY_SECOND, "timezone": "+02:00"}, "timezone = '\\+02:00'"),
        ({"cron": EVERY_SECOND, "timezone": "UTC\r\nNats-Rollup: all"}, "timezone = "),
        ({"every_s": 0}, "every_s = 0"),
        ({"every_s": 1.5}, "every_s = 1.5"),
        ({"every_s": 60, "timezone": "UTC"}, "an interval has none"),
        ({"every_s": 60, "cron": EVERY_SECOND}, "either cron or every_s"),
        ({}, "either cron or every_s"),
    ],
    ids=str,
)
async def test_what_is_wrong_is_said_and_nothing_is_scheduled(
    nats_url: str, namespace: str, wrong: dict[str, Any], said: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        with pytest.raises(roost.ConfigError, match=said):
            await bus.schedule(ring, Number(n=1), name="x", **wrong)
        assert await bus.schedules() == []


async def test_names_are_checked(nats_url: str, namespace: str) -> None:
    other = roost.Task("other", Number, Number)
    async with roost.connect(nats_url, namespace=namespace) as bus:
        with pytest.raises(roost.UnsafeToken):
            await bus.schedule(ring, Number(n=1), name="*", every_s=60)
        for change in (bus.pause_schedule, bus.resume_schedule, bus.cancel_schedule):
            with pytest.raises(roost.ConfigError, match="no schedule 'none'"):
                await change("none")
        await bus.schedule(ring, Number(n=1), name="mine", every_s=60)
        with pytest.raises(roost.ConfigError, match="is one of 'ring'"):
            await bus.schedule(other, Number(n=1), name="mine", every_s=60)
        lines = await bus.schedule(ring, Number(n=1), name="lines", cron="0 0 0 * *\r\n*")
        assert lines.cron == "0 0 0 * * *", "no header begins in it"
        await bus.cancel_schedule("lines")
        changed = await bus.schedule(ring, Number(n=1), name="mine", every_s=120)
        assert [one.every_s for one in await bus.schedules()] == [changed.every_s] == [120]


async def test_an_old_server_is_told_of_by_name(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        bus.link.client._server_info["version"] = "2.12.4"
        with pytest.raises(roost.ConfigError, match=r"nats-server 2\.12\.4; schedules need 2\.14"):
            await bus.schedule(ring, Number(n=1), name="x", every_s=60)


@pytest.mark.slow_limit(120)
async def test_the_server_is_killed_when_it_fires(own_server: LocalServer, seed: int) -> None:
    """At and around a full second, several times: no time makes two tasks, and it goes on."""
    print(f"seed {seed}")
    rung = Rung()
    async with roost.connect(own_server.url) as bus:
        events = Events(bus)
        async with bus.serving(agent_of(ring, rung), agent_of(ring, rung), grace_s=1):
            await bus.schedule(ring, Number(n=1), name="tick", cron=EVERY_SECOND)
            await rung.until(1)
            for n, after_s in enumerate((0.0, 0.002 + seed % 5 / 1000, -0.003), 1):
                now = time.time()
                await asyncio.sleep(1 - now % 1 + after_s)
                own_server.kill()
                own_server.restart()
                await events.until("reconnected", n)
                await rung.until(len(rung.ids) + 2)
            await bus.cancel_schedule("tick")
            made, ended = await firings(bus, "tick"), 0
            async with asyncio.timeout(SOON_S):
                while ended < len(made):
                    made = await firings(bus, "tick")
                    ended = len(await records(bus, "end"))
        made = await firings(bus, "tick")
        assert len(set(made)) == len(made)
        ends = Counter(one.subject for one in await records(bus, "end"))
        assert set(ends.values()) == {1}
        assert len(ends) == len(made)


AMSTERDAM = ZoneInfo("Europe/Amsterdam")


@pytest.mark.parametrize(
    ("cron", "now", "following"),
    [
        (EVERY_SECOND, "2026-01-01T00:00:00+00:00", "2026-01-01T00:00:01+00:00"),
        ("*/20 * * * * *", "2026-01-01T00:00:41+00:00", "2026-01-01T00:01:00+00:00"),
        ("0 30 6 * * mon-fri", "2026-11-20T06:30:00+01:00", "2026-11-23T06:30:00+01:00"),
        ("0 0 12 29 feb *", "2026-01-01T00:00:00+01:00", "2028-02-29T12:00:00+01:00"),
        ("0 0 0 1 * 0", "2026-11-02T00:00:00+01:00", "2026-11-08T00:00:00+01:00"),  # either day is enough
        ("0 0 0 */2 * 0", "2026-11-02T00:00:00+01:00", "2026-11-03T00:00:00+01:00"),
        ("0 30 2 * * *", "2026-10-25T02:30:00+02:00", "2026-10-25T02:30:00+01:00"),  # that hour comes twice
        ("0 30 2 * * *", "2026-03-28T12:00:00+01:00", "2026-03-30T02:30:00+02:00"),  # and here never
        ("@weekly", "2026-11-22T00:00:00+01:00", "2026-11-29T00:00:00+01:00"),
        ("5,10-12 0/30 1-3 ? JAN sun", "2026-01-04T01:00:05+01:00", "2026-01-04T01:00:10+01:00"),
    ],
)
def test_when_it_is_next(cron: str, now: str, following: str) -> None:
    found = Cron.parse(cron).after(datetime.fromisoformat(now).timestamp(), AMSTERDAM)
    assert found is not None
    assert datetime.fromtimestamp(found, UTC) == datetime.fromisoformat(following)


PAGE = Path(__file__).parents[2] / "docs" / "schedules.md"


def test_the_program_of_the_page_runs(tmp_path: Path) -> None:
    (program,) = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    run = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, timeout=30, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.splitlines() == ["tea", "True", "daily on", "drink paused"]
