"""One process of all does the upkeep; another goes on when it ends, dies or stands still."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import roost
from roost.upkeep import Upkeep, lease
from tasks.support import SOON_S, Child, Events, Number, _path, agent_of, api, stranger
from tasks.worker_process import paused
from upkeep.support import prune, stored
from upkeep.upkeep_process import WAIT_S

add = roost.Task("add", Number, Number)


async def plus(value: Number) -> Number:
    return Number(n=value.n + 1)


@pytest.fixture(autouse=True)
def _short_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "WAIT_S", WAIT_S)


@asynccontextmanager
async def process(mode: str, bus: roost.Bus, url: str, module: str) -> AsyncIterator[Child]:
    environment = os.environ | {"PYTHONPATH": _path(), "PYTHONUNBUFFERED": "1"}
    child = Child(
        await asyncio.create_subprocess_exec(
            sys.executable, "-m", module, mode, url, bus.namespace, stdout=PIPE, env=environment
        )
    )
    try:
        yield child
    finally:
        await child.close()


class Noting:
    """A duty that says when it is done, and can fail."""

    name = "noting"
    interval_s = 0.01

    def __init__(self) -> None:
        self.done = asyncio.Event()
        self.count = 0

    async def run_once(self) -> None:
        self.count += 1
        self.done.set()
        if self.count == 1:
            raise ValueError("the first time")


async def test_one_of_two_does_the_upkeep_and_the_other_goes_on_at_once(
    nats_url: str, namespace: str
) -> None:
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        roost.connect(nats_url, namespace=namespace) as other,
    ):
        events = Events(bus)
        duties = [Noting(), Noting()]
        first, second = Upkeep(bus.log, [duties[0]]), Upkeep(other.log, [duties[1]])
        await bus.log.ensure()
        await other.log.ensure()
        async with first.running(start_s=0), asyncio.timeout(SOON_S):
            while duties[0].count < 3:  # noqa: ASYNC110 (it goes on although it failed)
                await asyncio.sleep(0)
            assert events.of("upkeep_failed")[0].reason == "ValueError: the first time"
            async with second.running(start_s=0):
                await asyncio.sleep(2 * WAIT_S)
                assert duties[1].count == 0
                async with first.running():  # twice is once
                    pass
                assert events.of("upkeep_ended") == []
        async with (
            second.running(start_s=0),
            asyncio.timeout(0.9 * WAIT_S),
        ):  # not only when the lease is over
            await duties[1].done.wait()


async def test_what_a_killed_process_was_pruning_another_finishes(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as nc:
        async with bus.serving(agent_of(add, plus)):
            for handle in [await bus.submit(add, Number(n=n), key=str(n)) for n in range(5)]:
                await handle.result(timeout_s=SOON_S)
            open = await bus.submit(paused, Number(n=1))
        config = (await api(nc, f"STREAM.INFO.{bus.log.stream}"))["config"]
        config["metadata"] = {"roost.retention_s": "1"}
        assert "error" not in await api(nc, f"STREAM.UPDATE.{bus.log.stream}", config)
        await asyncio.sleep(1)  # all of them are old enough at the first look
        async with process("dies", bus, nats_url, "upkeep.upkeep_process") as child:
            await child.says("dies")
            await child.ended()
        left = [subject.split(".")[3] for subject, _ in (await stored(nc, namespace)).values()]
        assert sorted(left) == ["end"] * 5 + ["task"]
        events = Events(bus)
        async with bus.upkeep.running(start_s=0):
            assert "5 ended runs of 5 records" in (await events.until("runs_pruned"))[0].reason
        ((subject, _),) = (await stored(nc, namespace)).values()
        assert subject == bus.log.subjects.task(open.ref)
        assert bus.counters["pruned:records"] == 5


async def test_who_was_frozen_lets_the_next_one_be(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        await bus.log.ensure()
        async with process("plain", bus, nats_url, "upkeep.upkeep_process") as child:
            await child.says("event upkeep_begun")
            child.signal(signal.SIGSTOP)
            events = Events(bus)
            async with bus.upkeep.running(start_s=0):
                await events.until("upkeep_begun")
                child.signal(signal.SIGCONT)
                await child.says("event upkeep_ended")
                await asyncio.sleep(2 * WAIT_S)
                assert events.of("upkeep_ended") == []
            await child.says("event upkeep_begun")


async def test_a_worker_that_was_frozen_while_its_run_was_pruned_adds_nothing(
    nats_url: str, namespace: str
) -> None:
    async def quick(value: Number) -> str:
        return "by another"

    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as nc:
        async with process("slow", bus, nats_url, "tasks.worker_process") as child:
            await child.says("ready")
            handle = await bus.submit(paused, Number(n=1))
            await child.says("started 1")
            child.signal(signal.SIGSTOP)
            async with bus.serving(agent_of(paused, quick)):
                assert await handle.result(timeout_s=SOON_S) == "by another"
            assert (await prune(bus)).runs == 1
            child.signal(signal.SIGCONT)
            await child.says("event outcome_of_gone_task")
            await prune(bus)
            assert await stored(nc, namespace) == {}
            consumer = await api(nc, f"CONSUMER.INFO.{bus.log.stream}.task_paused")
            assert consumer["num_ack_pending"] == 0
