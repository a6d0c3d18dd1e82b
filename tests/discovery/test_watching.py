"""`bus.watch_agents`: who comes, changes, falls silent, leaves, is gone. Real processes and signals."""

from __future__ import annotations

import asyncio
import signal
import time

import pytest
from discovery_kit import COUNT, DIGEST, PATIENCE_S, child, counter, everything, seen

import roost
from roost.errors import ConfigError
from roost.server import LocalServer


async def test_a_killed_instance_is_gone_within_three_heartbeats(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, child(nats_url, namespace, 0.5) as agent:
        async with bus.watch_agents() as watch:
            first = await seen(watch, lambda change: True)
            assert (first.kind, first.agent.instance, first.agent.state) == ("joined", agent.name, "ready")
            began = time.monotonic()
            agent.signal(signal.SIGKILL)
            last = await seen(watch, lambda change: change.kind != "changed")
            assert time.monotonic() - began < 3 * 0.5
            assert (last.kind, last.agent.instance, last.agent.state) == ("gone", agent.name, "gone")
            assert watch.agents == ()
        assert await bus.agents() == []


async def test_a_frozen_instance_is_silent_until_it_speaks_again(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, child(nats_url, namespace, 0.3) as agent:
        async with bus.watch_agents() as watch:
            agent.signal(signal.SIGSTOP)
            silent = await seen(watch, lambda change: change.kind in ("silent", "gone"))
            assert (silent.kind, silent.agent.state) == ("silent", "silent")
            assert [one.state for one in watch.agents] == ["silent"]
            assert await bus.agents() == []  # it does not answer
            agent.signal(signal.SIGCONT)
            back = await seen(watch, lambda change: change.kind != "silent")
            assert (back.kind, back.agent.state) == ("changed", "ready")


async def test_a_frozen_instance_that_is_killed_is_gone(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, child(nats_url, namespace, 0.2) as agent:
        async with bus.watch_agents() as watch:
            agent.signal(signal.SIGSTOP)
            await seen(watch, lambda change: change.kind == "silent")
            agent.signal(signal.SIGKILL)
            await seen(watch, lambda change: change.kind == "gone")


async def test_an_instance_is_followed_from_its_beginning_to_its_end(nats_url: str, namespace: str) -> None:
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        roost.connect(nats_url, namespace=namespace) as other,
    ):
        told: list[tuple[str, str]] = []

        async def read() -> None:
            async for change in watch:
                told.append((change.kind, change.agent.state))

        async with other.watch_agents() as watch:
            reader = asyncio.create_task(read())
            async with bus.serving(counter()):
                await other.link.client.flush()
                await asyncio.sleep(0)
            await bus.link.client.flush()
            await other.link.client.flush()
            await asyncio.sleep(0)
        await asyncio.wait_for(reader, PATIENCE_S)
    assert told[0][0] == "joined"
    assert told[-1] == ("left", "left")
    assert ("changed", "draining") in told


async def test_two_processes_of_one_name_after_each_other_are_two(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a supervisor starts them: the first is killed, its successor has its name."""
    monkeypatch.setenv("ROOST_INSTANCE", "counter-1")
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.watch_agents() as watch:
        async with child(nats_url, namespace, 5) as first:
            before = await seen(watch, lambda change: change.kind == "joined")
            first.signal(signal.SIGKILL)
            await first.process.wait()
        async with child(nats_url, namespace, 5) as second:
            gone = await seen(watch, lambda change: change.kind == "gone")
            assert gone.agent.pid == before.agent.pid
            joined = await seen(watch, lambda change: change.kind == "joined")
            assert second.name == "counter-1"
            assert joined.agent.pid == second.process.pid
            assert len(watch.agents) == 1


async def test_after_a_restart_of_the_server_who_is_still_on_his_way_is_not_gone(
    own_server: LocalServer,
) -> None:
    async with roost.connect(own_server.url) as bus, child(own_server.url, bus.namespace, 0.2) as agent:
        async with bus.watch_agents() as watch:
            await seen(watch, lambda change: change.kind == "joined")
            back = asyncio.Event()
            bus.link.client.on_reconnect.append(back.set)
            agent.signal(signal.SIGSTOP)  # so that we are the first to be back, by far
            own_server.kill()
            own_server.restart()
            await asyncio.wait_for(back.wait(), PATIENCE_S)
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(1.5):  # more than enough to find that nobody is connected there
                    await seen(watch, lambda change: change.kind == "gone")
            agent.signal(signal.SIGCONT)
            async with asyncio.timeout(PATIENCE_S):
                while not await bus.agents():
                    continue
            assert [one.instance for one in watch.agents] == [agent.name]


async def test_while_the_server_is_away_nobody_is_shown_as_ready(own_server: LocalServer) -> None:
    async with roost.connect(own_server.url) as bus, roost.connect(own_server.url) as served:
        async with served.serving(counter(), heartbeat_s=0.3), bus.watch_agents() as watch:
            await seen(watch, lambda change: change.kind == "joined")
            own_server.kill()
            silent = await seen(watch, lambda change: change.kind != "changed")
            assert (silent.kind, silent.agent.state) == ("silent", "silent")
            own_server.restart()
            back = await seen(watch, lambda change: change.kind != "silent")
            assert (back.kind, back.agent.state) == ("changed", "ready")


async def test_after_a_restart_of_the_server_who_came_meanwhile_is_there(own_server: LocalServer) -> None:
    async with roost.connect(own_server.url) as bus, roost.connect(own_server.url) as served:
        async with served.serving(counter(), heartbeat_s=0.2), bus.watch_agents() as watch:
            back = asyncio.Event()
            served.link.client.on_reconnect.append(back.set)
            own_server.kill()
            own_server.restart()
            await asyncio.wait_for(back.wait(), PATIENCE_S)
            told: list[str] = []
            async with served.serving(counter("late"), heartbeat_s=0.2) as (late,):
                async with asyncio.timeout(PATIENCE_S):
                    async for change in watch:
                        told.append(change.kind)
                        if change.agent.instance == late.name:
                            break
            assert set(told) <= {"joined", "changed"}


async def test_only_those_that_can_do_it_are_followed(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(counter()):
            async with (
                bus.watch_agents(capability=DIGEST) as watch,
                bus.watch_agents(agent="clerk") as clerks,
            ):
                assert watch.agents == clerks.agents == ()
                async with bus.serving(everything()) as (clerk,):
                    for one in (watch, clerks):
                        change = await seen(one, lambda change: change.agent.state == "ready")
                        assert change.agent.instance == clerk.name
                        assert change.agent.handles(COUNT)
                for one in (watch, clerks):
                    await seen(one, lambda change: change.kind == "left")


async def test_what_strangers_publish_as_heartbeats_is_refused(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.watch_agents() as watch:
        for data in (b"", b"{}", b"[1]", b'{"state": "king", "version": "1", "roost": "1", "started": 1}'):
            bus.link.client.send(f"{namespace}.beat.a.b", data)
        good = b'{"state": "ready", "version": "1", "roost": "1", "started": 1, "interval_s": 60, "more": {"x": 1}}'
        bus.link.client.send(f"{namespace}.beat.a.no:token", good)
        bus.link.client.send(f"{namespace}.beat.a.b", good)
        change = await seen(watch, lambda change: True)
        assert (change.agent.instance, change.agent.agent, change.agent.handlers) == ("b", "a", ())
        assert bus.counters["beat_refused"] == 5


async def test_a_watch_is_entered_before_it_is_read_and_ends_with_its_block(
    nats_url: str, namespace: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        watch = bus.watch_agents()
        with pytest.raises(ConfigError, match="begins with its block"):
            await anext(watch)
        async with watch:
            waiting = asyncio.ensure_future(anext(watch))
            await asyncio.sleep(0)
        with pytest.raises(StopAsyncIteration):
            await waiting
        with pytest.raises(ConfigError, match="entered once"):
            async with watch:
                pytest.fail("entered")
