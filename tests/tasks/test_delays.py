"""Tasks that must not begin before a time: once each, whoever dies, and no slot is held meanwhile."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

import roost
from roost.server import LocalServer
from roost.tasks.delivery import Wake
from roost.tasks.provision import consumer_name, timetable_config, timetable_stream
from roost.tasks.records import Ref
from tasks.support import SOON_S, Events, Number, agent_of, api, put, records, stranger, until

ring = roost.Task("ring", Number, Number, retry=roost.Retry(attempts=1), ack_wait_s=2)
LATER_S = 1.6
"""Longer than what waits in the consumer."""


class Bell:
    """A handler that writes down what it was given, when, and for which attempt."""

    def __init__(self) -> None:
        self.rang: list[int] = []
        self.at: dict[int, float] = {}
        self.attempts: Counter[int] = Counter()

    async def __call__(self, value: Number, ctx: roost.Context) -> Number:
        self.rang.append(value.n)
        self.at[value.n] = time.time()
        self.attempts[ctx.attempt] += 1
        return value


@asynccontextmanager
async def served(
    url: str, namespace: str, bell: Bell, task: Any = ring, count: int = 1
) -> AsyncIterator[roost.Bus]:
    """A bus that has served the contract all along."""
    async with roost.connect(url, namespace=namespace) as bus:
        async with bus.serving(*(agent_of(task, bell) for _ in range(count)), grace_s=1):
            yield bus


async def pending(bus: roost.Bus, task: Any = ring) -> int:
    """Deliveries that hold a slot of the contract's consumer."""
    info = await bus.link.jetstream.call(f"CONSUMER.INFO.{bus.log.stream}.{consumer_name(task.name)}")
    return int(info["num_ack_pending"])


async def test_they_begin_when_they_may_and_hold_no_slot_until_then(nats_url: str, namespace: str) -> None:
    bell = Bell()
    async with served(nats_url, namespace, bell, count=2) as bus:
        begun = time.time()
        delays = {0: None, 1: 0.4, 2: LATER_S, 3: LATER_S + 0.2}
        handles = [await bus.submit(ring, Number(n=n), delay_s=delay_s) for n, delay_s in delays.items()]
        tomorrow = await bus.submit(ring, Number(n=9), at=datetime.now(UTC) + timedelta(days=1))
        await until(lambda: bus.counters["waits_outside"] >= 3)
        assert bell.rang in ([0], [0, 1])
        assert [(await one.result(timeout_s=SOON_S)).n for one in handles] == [0, 1, 2, 3]
        late = {n: bell.at[n] - begun - (delay_s or 0) for n, delay_s in delays.items()}
        assert all(-0.005 < one < 1.0 for one in late.values()), late
        assert bell.rang == [0, 1, 2, 3]
        assert bell.attempts == {1: 4}, "to wait is no attempt"
        assert await pending(bus) == 0, "the one of tomorrow waits outside of the consumer"
        assert await tomorrow.cancel("no need")
        assert isinstance(await tomorrow.outcome(timeout_s=SOON_S), roost.Cancelled)


async def test_one_that_was_cancelled_before_it_may_begin_never_does(nats_url: str, namespace: str) -> None:
    bell = Bell()
    async with served(nats_url, namespace, bell) as bus:
        handle = await bus.submit(ring, Number(n=1), delay_s=LATER_S)
        other = await bus.submit(ring, Number(n=2), delay_s=LATER_S + 0.3)
        assert await handle.cancel()
        await other.result(timeout_s=SOON_S)
        assert isinstance(await handle.outcome(timeout_s=SOON_S), roost.Cancelled)
        assert bell.rang == [2]


async def test_a_repeated_key_waits_as_long_as_the_first_submission_said(
    nats_url: str, namespace: str
) -> None:
    bell = Bell()
    async with served(nats_url, namespace, bell) as bus:
        begun = time.time()
        first = await bus.submit(ring, Number(n=1), key="k", delay_s=2.2)
        sooner = await bus.submit(ring, Number(n=1), key="k", delay_s=1.2)
        at_once = await bus.submit(ring, Number(n=1), key="k")
        passed = await bus.submit(ring, Number(n=1), key="k", at=datetime.now(UTC) - timedelta(hours=1))
        assert [one.created for one in (first, sooner, at_once, passed)] == [True, False, False, False]
        with pytest.raises(roost.Conflict):
            await bus.submit(ring, Number(n=2), key="k", delay_s=1.2)
        await at_once.result(timeout_s=SOON_S)
        assert bell.at[1] - begun >= 2.2
        now = await bus.submit(ring, Number(n=3), key="now")
        await now.result(timeout_s=SOON_S)
        again = await bus.submit(ring, Number(n=3), key="now", delay_s=1.1)
        assert not again.created
        await (await bus.submit(ring, Number(n=4), delay_s=LATER_S)).result(timeout_s=SOON_S)
        assert bell.rang == [1, 3, 4]


@pytest.mark.parametrize(
    ("wrong", "said"),
    [
        ({"at": datetime(2099, 1, 1)}, "with a time zone"),
        ({"at": datetime.now(UTC) - timedelta(minutes=2)}, "has passed"),
        ({"delay_s": -1}, "delay_s = -1"),
        ({"delay_s": float("nan")}, "delay_s = nan"),
        ({"delay_s": 4e9}, "ten years"),
        ({"delay_s": True}, "delay_s = True"),
        ({"at": datetime(9999, 1, 1, tzinfo=UTC)}, "ten years"),
        ({"delay_s": 1, "at": datetime.now(UTC) + timedelta(days=1)}, "not both"),
    ],
)
async def test_what_is_no_time_is_refused_and_nothing_is_stored(
    nats_url: str, namespace: str, wrong: dict[str, Any], said: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        with pytest.raises(roost.ConfigError, match=said):
            await bus.submit(ring, Number(n=1), **wrong)
        assert await records(bus, "task") == []


async def test_a_worker_that_starts_when_the_time_has_passed_runs_it_once(
    nats_url: str, namespace: str
) -> None:
    bell = Bell()
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as client:
        handles = [await bus.submit(ring, Number(n=n), delay_s=1.1) for n in range(5)]
        async with asyncio.timeout(SOON_S):
            while await waiting(client, namespace, "fired") < 5:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        async with bus.serving(agent_of(ring, bell), agent_of(ring, bell), grace_s=1):
            for handle in handles:
                await handle.result(timeout_s=SOON_S)
            async with asyncio.timeout(SOON_S):
                while await waiting(client, namespace, "fired"):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
        assert sorted(bell.rang) == [0, 1, 2, 3, 4]
        assert len(await records(bus, "end")) == 5


async def waiting(client: Any, namespace: str, kind: str) -> int:
    """Messages of a kind in the stream of schedules: `sched` or `fired`."""
    query = {"subjects_filter": f"{namespace}.{kind}.>"}
    info = await api(client, f"STREAM.INFO.{timetable_stream(namespace)}", query)
    return sum((info["state"].get("subjects") or {}).values())


async def test_a_workflow_starts_later(nats_url: str, namespace: str) -> None:
    begun: list[float] = []
    plan = roost.Workflow("plan", Number, Number, ack_wait_s=2)
    agent = roost.Agent("planner")

    @agent.handles(plan)
    async def _(value: Number, run: roost.Run) -> Number:
        begun.append(time.time())
        return value

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent, grace_s=1):
        now = time.time()
        handle = await bus.start(plan, Number(n=1), key="p", delay_s=LATER_S)
        assert (await handle.result(timeout_s=SOON_S)).n == 1
        assert len(begun) == 1
        assert begun[0] - now >= LATER_S


async def test_in_a_queue_it_takes_its_place_when_it_may_begin(nats_url: str, namespace: str) -> None:
    line = roost.Task("line", Number, Number, order_key=lambda _: "one", ack_wait_s=2)
    bell = Bell()
    async with served(nats_url, namespace, bell, line) as bus:
        later = await bus.submit(line, Number(n=1), key="later", delay_s=1.3)
        await bus.submit(line, Number(n=1), key="later")  # does not line it up either
        sooner = [await bus.submit(line, Number(n=n)) for n in (2, 3)]
        for handle in sooner:
            await handle.result(timeout_s=SOON_S)
        assert bell.rang == [2, 3], "what may run does not wait for what may not"
        await later.result(timeout_s=SOON_S)
        assert bell.rang == [2, 3, 1]


async def test_its_deadline_counts_from_when_it_may_begin(nats_url: str, namespace: str) -> None:
    short = roost.Task("short", Number, Number, deadline_s=1, ack_wait_s=2)
    bell = Bell()
    async with served(nats_url, namespace, bell, short) as bus:
        handle = await bus.submit(short, Number(n=1), delay_s=LATER_S)
        assert (await handle.result(timeout_s=SOON_S)).n == 1
    async with roost.connect(nats_url, namespace=namespace) as bus:
        late = await bus.submit(short, Number(n=2), delay_s=0.2)
        await asyncio.sleep(1.3)  # its deadline
        async with bus.serving(agent_of(short, bell), grace_s=1):
            outcome = await late.outcome(timeout_s=SOON_S)
        assert isinstance(outcome, roost.Dead)
        assert "deadline" in outcome.letter.reason
        assert bell.rang == [1]


async def test_without_schedules_it_waits_in_the_consumer(nats_url: str, namespace: str) -> None:
    """As where the user may write none: here the stream of schedules is taken away."""
    bell = Bell()
    async with served(nats_url, namespace, bell) as bus, stranger(nats_url) as client:
        bus.desk._submitter._delays._refused = True
        handle = await bus.submit(ring, Number(n=1), delay_s=LATER_S)
        await until(lambda: bus.counters["waits_in_consumer"] > 0)
        assert await pending(bus) == 1
        assert (await handle.result(timeout_s=SOON_S)).n == 1
        assert bell.rang == [1]
        assert "error" in await api(client, f"STREAM.INFO.{timetable_stream(namespace)}")


async def test_a_stream_of_schedules_that_somebody_made_otherwise_is_refused(
    nats_url: str, namespace: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as client:
        config = timetable_config(namespace) | {"max_msgs": 1000}
        assert "error" not in await api(client, f"STREAM.CREATE.{config['name']}", config)
        with pytest.raises(roost.ConfigMismatch, match="max_msgs"):
            await bus.submit(ring, Number(n=1), delay_s=60)
        assert await records(bus, "task") == []


async def test_what_says_too_early_that_it_may_begin_is_not_believed(nats_url: str, namespace: str) -> None:
    bell = Bell()
    async with served(nats_url, namespace, bell) as bus, stranger(nats_url) as client:
        events, subjects = Events(bus), bus.log.subjects
        begun = time.time()
        handle = await bus.submit(ring, Number(n=1), key="k", delay_s=LATER_S)
        task = next(one for one in await records(bus, "task"))
        begin_ms = int(dict(task.marks)["Roost-Not-Before"])
        now = await bus.submit(ring, Number(n=2), key="now")
        await now.result(timeout_s=SOON_S)
        fired = f"{namespace}.fired.ring"
        forged = [
            Wake(begin_ms, handle.ref).subject(subjects),  # of the right time, stored too early
            Wake(begin_ms - 1500, handle.ref).subject(subjects),  # another time
            Wake(begin_ms, now.ref).subject(subjects),  # of a task that has ended
            Wake(begin_ms, Ref("none", "ring", "none")).subject(subjects),
            f"{fired}.at.{begin_ms - 1400}.{handle.ref.run}.{handle.ref.id}",
            f"{fired}.at.{begin_ms}.nobody.nothing",
            f"{fired}.cron.mine",  # no schedule has sent that
            f"{fired}.at.*.x.y",
        ]
        for subject in forged:
            assert "error" not in await put(client, subject, b"{}"), subject
        await events.until("firing_refused", 2)
        await events.until("foreign_record", 2)
        await handle.result(timeout_s=SOON_S)
        assert bell.at[1] - begun >= LATER_S - 0.005
        assert bell.rang == [2, 1]


@pytest.mark.slow_limit(120)
async def test_the_server_is_killed_when_fifty_of_them_are_due(own_server: LocalServer, seed: int) -> None:
    print(f"seed {seed}")
    bell = Bell()
    async with roost.connect(own_server.url) as bus:
        # Of one worker only: another would take those for lost whose outcomes the first cannot store meanwhile.
        async with bus.serving(agent_of(ring, bell), grace_s=1):
            due = datetime.now(UTC) + timedelta(seconds=LATER_S + 0.4)
            handles = [await bus.submit(ring, Number(n=n), key=f"k{n}", at=due) for n in range(50)]
            await until(lambda: bus.counters["waits_outside"] >= 50)
            spread_s = (seed % 20) / 1000
            await asyncio.sleep(due.timestamp() - time.time() + spread_s)
            own_server.kill()
            own_server.restart()
            outcomes = [await one.outcome(timeout_s=30) for one in handles]
            assert all(isinstance(one, roost.Done) for one in outcomes)
            ends = Counter(one.subject for one in await records(bus, "end"))
            assert len(ends) == 50
            assert set(ends.values()) == {1}
            assert set(bell.rang) == set(range(50))


async def test_they_outlast_a_restart_of_the_server(own_server: LocalServer) -> None:
    bell = Bell()
    async with roost.connect(own_server.url) as bus:
        events = Events(bus)
        handle = await bus.submit(ring, Number(n=1), delay_s=LATER_S)
        own_server.restart()
        await events.until("reconnected")
        async with bus.serving(agent_of(ring, bell), grace_s=1):
            assert (await handle.result(timeout_s=SOON_S)).n == 1
    assert bell.rang == [1]
