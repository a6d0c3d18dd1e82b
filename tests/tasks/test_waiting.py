"""Waiting for outcomes: hints wake, polls find what hints lost, only the log is believed."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE

import pytest

import roost
from roost.contracts import Limits
from roost.server import LocalServer, ServerOptions
from roost.tasks import waiting
from tasks.support import SOON_S, Events, Number, agent_of, plus_one, stranger

add = roost.Task("add", Number, Number)

READER = """
import asyncio, sys
import roost
async def main(url, namespace, id):
    async with roost.connect(url, namespace=namespace) as bus:
        print(await bus.handle(roost.Task("add", dict, dict), id).result(timeout_s=20))
asyncio.run(main(*sys.argv[1:]))
"""

DEAF = """
accounts { $SYS { users: [ { user: sys, password: sys } ] } }
authorization {
  users: [ { user: deaf, password: x, permissions: { subscribe: { deny: ["*.live.>"] } } } ]
}
no_auth_user: deaf
"""


async def test_another_process_waits_by_the_id_alone(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        handle = await bus.submit(add, Number(n=1), key="by id")
        command = [sys.executable, "-c", READER, nats_url, namespace, handle.id]
        reader = await asyncio.create_subprocess_exec(*command, stdout=PIPE, env=dict(os.environ))
        async with bus.serving(agent_of(add, plus_one)):
            said, _ = await asyncio.wait_for(reader.communicate(), SOON_S)
    assert said.decode().strip() == "{'n': 2}"


async def test_an_outcome_that_is_there_already_needs_no_hint_and_no_second_look(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(waiting, "POLLS_S", (1000.0,))
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(add, plus_one)):
        handle = await bus.submit(add, Number(n=1))
        await handle.result(timeout_s=SOON_S)
        async with roost.connect(nats_url, namespace=namespace) as other:
            assert await other.handle(add, handle.id).result(timeout_s=SOON_S) == Number(n=2)


async def test_who_may_not_hear_the_live_feed_finds_outcomes_by_looking() -> None:
    with LocalServer(ServerOptions(extra_config=DEAF)) as server:
        async with roost.connect(server.url) as bus, bus.serving(agent_of(add, plus_one)):
            handles = [await bus.submit(add, Number(n=n)) for n in range(40)]
            results = await asyncio.gather(*(handle.result(timeout_s=SOON_S) for handle in handles))
            assert [result.n for result in results] == list(range(1, 41))
            begun, release = asyncio.Event(), asyncio.Event()
            slow = roost.Task("slow", Number, Number)

            async def wait(value: Number) -> Number:
                begun.set()
                await release.wait()
                return value

            async with bus.serving(agent_of(slow, wait)):
                pending = asyncio.ensure_future(
                    (await bus.submit(slow, Number(n=5))).result(timeout_s=SOON_S)
                )
                await begun.wait()
                await asyncio.sleep(0)
                release.set()
                assert await pending == Number(n=5)
            assert bus.counters["permission_denied"] >= 1, "the test tests nothing if hints came"


async def test_a_forged_hint_is_not_believed(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as nc:
        handles = await bus.submit_many(add, [Number(n=n) for n in range(40)])
        pending = [asyncio.ensure_future(handle.outcome(timeout_s=SOON_S)) for handle in handles]
        await bus.link.client.flush()
        lie = json.dumps({"status": "done", "token": "t", "attempts": [], "value": {"n": 666}}).encode()
        for handle in handles:
            live = bus.log.subjects.live_end(handle.ref)
            forged = {
                "Nats-Subject": bus.log.subjects.end(handle.ref),
                "Nats-Sequence": "1",
                "Nats-Stream": "x",
            }
            await nc.publish(live, lie, headers=forged)
            await nc.publish(live, b"")
        await nc.flush()
        await bus.link.client.flush()
        async with bus.serving(agent_of(add, plus_one)):
            outcomes = await asyncio.gather(*pending)
    assert [outcome.value.n for outcome in outcomes if isinstance(outcome, roost.Done)] == list(range(1, 41))


async def test_hints_about_nothing_that_anybody_waits_for_do_no_harm(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as nc:
        handles = await bus.submit_many(add, [Number(n=n) for n in range(40)])
        pending = [asyncio.ensure_future(handle.outcome(timeout_s=SOON_S)) for handle in handles]
        await bus.link.client.flush()
        for n in range(10_000):
            await nc.publish(f"{namespace}.live.run.no{n}.end.add.no{n}", b"")
        await nc.flush()
        async with bus.serving(agent_of(add, plus_one)):
            assert len(await asyncio.gather(*pending)) == 40


async def test_ten_thousand_handles_are_awaited_at_once(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        handles = await bus.submit_many(add, [Number(n=n) for n in range(10_000)])
        pending = [asyncio.ensure_future(handle.result(timeout_s=50)) for handle in handles]
        await asyncio.sleep(0)
        async with bus.serving(agent_of(add, plus_one)):
            results = await asyncio.gather(*pending)
    assert [result.n for result in results] == list(range(1, 10_001))


async def test_a_wait_that_times_out_can_be_repeated(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        handle = await bus.submit(add, Number(n=1))
        with pytest.raises(roost.RequestTimeout, match="has no outcome after"):
            await handle.outcome(timeout_s=0.05)
        async with bus.serving(agent_of(add, plus_one)):
            assert await handle.result(timeout_s=SOON_S) == Number(n=2)


async def test_a_cancelled_wait_harms_neither_the_task_nor_other_waits(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        handle = await bus.submit(add, Number(n=1))
        kept = asyncio.ensure_future(handle.result(timeout_s=SOON_S))
        given_up = asyncio.ensure_future(handle.result(timeout_s=SOON_S))
        await bus.link.client.flush()
        given_up.cancel()
        async with bus.serving(agent_of(add, plus_one)):
            assert await kept == Number(n=2)
        assert given_up.cancelled()


async def test_a_wait_ends_when_its_bus_is_closed(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        handle = await bus.submit(add, Number(n=1))
        pending = asyncio.ensure_future(handle.outcome())
        await bus.link.client.flush()
    with pytest.raises(roost.ConnectionClosed):
        await pending
    with pytest.raises(roost.ConnectionClosed):
        await handle.outcome()


async def test_a_wait_outlives_a_crash_of_the_server(own_server: LocalServer) -> None:
    async with roost.connect(own_server.url) as bus, roost.connect(own_server.url) as worker:
        handles = await bus.submit_many(add, [Number(n=n) for n in range(30)])
        pending = [asyncio.ensure_future(handle.result(timeout_s=SOON_S)) for handle in handles]
        events = Events(bus)
        await bus.link.client.flush()
        await asyncio.to_thread(own_server.kill)
        await events.until("connection_lost")
        back = Events(worker)
        await asyncio.to_thread(own_server.restart)
        await back.until("reconnected")
        async with worker.serving(agent_of(add, plus_one)):
            assert len(await asyncio.gather(*pending)) == 30


async def test_a_large_result_within_the_limits_of_its_contract_is_readable(
    nats_url: str, namespace: str
) -> None:
    """Bug: readers took 512 KiB whatever the contract allowed, and the outcome could never be read."""
    task = roost.Task("large", Number, str, limits=Limits(max_bytes=900_000))

    async def large(value: Number) -> str:
        return "x" * 800_000

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(task, large)):
        assert len(await (await bus.submit(task, Number(n=1))).result(timeout_s=SOON_S)) == 800_000
