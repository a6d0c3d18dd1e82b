"""Pausing a contract: nothing more is delivered, nothing is lost, and whose pause it is."""

from __future__ import annotations

import asyncio

import pytest

import roost
from roost.server import LocalServer
from roost.tasks.backlog import Backlog, backlog, paused
from roost.tasks.pausing import FOREVER, pause, pause_further, resume
from tasks.support import SOON_S, Events, Number, agent_of, plus_one, until

add = roost.Task("add", Number, Number)
other = roost.Task("other", Number, Number)


async def seen(bus: roost.Bus, name: str = "add") -> Backlog:
    found, _ = await backlog(bus.log)
    return next(one for one in found if one.name == name)


async def result(handle: roost.Handle[Number]) -> int:
    return (await handle.result(timeout_s=SOON_S)).n


async def test_what_runs_is_finished_and_what_is_submitted_waits_until_it_is_resumed(
    nats_url: str, namespace: str
) -> None:
    began, may_end = asyncio.Event(), asyncio.Event()

    async def slow(value: Number) -> Number:
        began.set()
        await may_end.wait()
        return await plus_one(value)

    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        bus.serving(agent_of(add, slow), agent_of(other, plus_one)),
    ):
        running = await bus.submit(add, Number(n=1))
        await began.wait()
        await bus.pause(add)
        waiting = await bus.submit_many(add, [Number(n=n) for n in range(10, 13)])
        may_end.set()
        assert await result(running) == 2
        assert await result(await bus.submit(other, Number(n=1))) == 2, "another contract goes on"
        one = await seen(bus)
        assert (one.waiting, one.paused_until) == (3, FOREVER)
        assert await paused(bus.log) == [("add", FOREVER)]
        assert await bus.resume(add)
        assert [await result(handle) for handle in waiting] == [11, 12, 13]
        assert (await seen(bus)).paused_until == ""
        assert not await bus.resume(add)


async def test_a_pause_with_an_end_ends_by_itself(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(add, plus_one)):
        begun = asyncio.get_running_loop().time()
        await bus.pause(add, for_s=0.4)
        assert await result(await bus.submit(add, Number(n=1))) == 2
        assert asyncio.get_running_loop().time() - begun > 0.35


async def test_a_workflow_is_paused_too_and_a_run_that_waits_goes_on(nats_url: str, namespace: str) -> None:
    go = roost.Signal("go", Number)
    flow = roost.Workflow("flow", Number, Number)
    agent = roost.Agent("boss")
    waits = asyncio.Event()

    @agent.handles(flow)
    async def run_it(value: Number, run: roost.Run) -> Number:
        waits.set()
        return await run.wait_for(go) if value.n == 0 else value

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        first = await bus.start(flow, Number(n=0))
        await waits.wait()
        await bus.pause(flow)
        second = await bus.start(flow, Number(n=5))
        await bus.signal(first.id, go, Number(n=7))
        assert await result(first) == 7
        assert (await seen(bus, "flow")).waiting == 1
        await bus.resume(flow)
        assert await result(second) == 5


async def test_a_contract_can_be_paused_before_its_first_worker_starts(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        await bus.pause(add)
        handle = await bus.submit(add, Number(n=1))
        async with bus.serving(agent_of(add, plus_one), agent_of(other, plus_one)):
            assert await result(await bus.submit(other, Number(n=1))) == 2
            assert (await seen(bus)).waiting == 1
            await bus.resume(add)
            assert await result(handle) == 2


async def test_a_pause_outlasts_a_crash_of_the_server(own_server: LocalServer) -> None:
    async with roost.connect(own_server.url) as bus, bus.serving(agent_of(add, plus_one)):
        events = Events(bus)
        await bus.pause(add)
        handle = await bus.submit(add, Number(n=1))
        await asyncio.to_thread(own_server.kill)
        await events.until("connection_lost")
        await asyncio.to_thread(own_server.restart)
        await until(lambda: bus.link.client.is_connected)
        async with bus.serving(agent_of(other, plus_one)):
            assert await result(await bus.submit(other, Number(n=1))) == 2
        one = await seen(bus)
        assert (one.waiting, one.paused_until) == (1, FOREVER)
        await bus.resume(add)
        assert await result(handle) == 2


async def test_a_program_never_lifts_or_shortens_the_pause_of_an_operator(
    nats_url: str, namespace: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(add, plus_one)):
        own = await pause_further(bus.log, "add", 30)
        operators = await pause(bus.log, "add", 3600)
        assert not await resume(bus.log, "add", only=own)
        assert (await seen(bus)).paused_until == operators
        assert await pause_further(bus.log, "add", 30) == ""
        assert (await seen(bus)).paused_until == operators
        assert await resume(bus.log, "add")

        own = await pause_further(bus.log, "add", 30)
        assert await resume(bus.log, "add", only=own)
        assert (await seen(bus)).paused_until == ""


async def test_a_pause_that_cannot_be_is_refused(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        await bus.log.ensure()
        with pytest.raises(roost.ConfigError, match="no worker of 'add' was ever started"):
            await bus.resume(add)
        for wrong in (0, -1, 1e12, float("nan")):
            with pytest.raises(roost.ConfigError, match="for_s"):
                await bus.pause(add, for_s=wrong)
