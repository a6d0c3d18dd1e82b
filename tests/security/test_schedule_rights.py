"""Who may write schedules: whoever was given that right, and nobody else. Delays need no right of their own."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import team
from security_kit import SHOP, SOON_S, ConfiguredServer, as_user, server_for, users_of

import roost
from roost.cli.permissions import wanted
from roost.tasks.administer import Contracted, provision

AGENTS = (team.packer, team.planner)
TARGETS = [(one.name, one) for one in AGENTS]
LATER_S = 1.3


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredServer]:
    users = [
        *users_of(*AGENTS),
        *wanted(TARGETS, ["caller"], SHOP, "timer", schedules=True),
        *wanted(TARGETS, ["caller"], SHOP, "plain"),
        *users_of(roles=["admin"]),
    ]
    with server_for(tmp_path_factory.mktemp("server"), users) as running:
        asyncio.run(provisioned(running))
        yield running


async def provisioned(server: ConfiguredServer) -> None:
    async with as_user(server, "admin") as bus:
        contracts: list[Contracted] = [team.pack, team.serve_in_turn, team.plan]
        changes = await provision(bus.log, contracts, schedules=True)
        assert {one.action for one in changes} == {"created"}
        assert [one.what for one in changes][-4:] == [
            "stream ROOST-SCHED_shop",
            *(f"consumer fired_{one.name}" for one in (team.pack, team.plan, team.serve_in_turn)),
        ]


@asynccontextmanager
async def plain(server: ConfiguredServer) -> AsyncIterator[roost.Bus]:
    """A caller without the right, who will be refused something."""
    async with roost.connect(
        server.url,
        namespace=SHOP,
        credentials=roost.Credentials(user="plain", password="pw"),
        inbox_prefix="_INBOX_plain",
    ) as bus:
        yield bus


async def test_with_the_right_schedules_and_delays_work_and_nobody_is_refused_anything(
    server: ConfiguredServer,
) -> None:
    async with as_user(server, "packer") as packer, as_user(server, "timer") as timer:
        async with packer.serving(team.packer, grace_s=1):
            await timer.schedule(team.serve_in_turn, team.Order(n=7), name="tick", every_s=1)
            handle = await timer.submit(team.pack, team.Order(n=1), delay_s=LATER_S)
            assert (await handle.result(timeout_s=SOON_S)).n == 1
            assert packer.counters["waits_outside"] == 1
            async with asyncio.timeout(SOON_S):
                while not (made := (await timer.schedules())[0].last_id):  # noqa: ASYNC110
                    await asyncio.sleep(0.1)
            assert (await timer.handle(team.serve_in_turn, made).result(timeout_s=SOON_S)).n == 7
            assert (await timer.pause_schedule("tick")).paused
            assert not (await timer.resume_schedule("tick")).paused
            await timer.cancel_schedule("tick")
    async with as_user(server, "admin") as admin:
        await admin.schedule(team.pack, team.Order(n=1), name="mine", every_s=60)
        assert [one.name for one in await admin.schedules()] == ["mine"]
        await admin.cancel_schedule("mine")


async def test_without_it_a_delayed_task_waits_in_the_consumer(server: ConfiguredServer) -> None:
    async with as_user(server, "packer") as packer, plain(server) as bus:
        async with packer.serving(team.packer, grace_s=1):
            handle = await bus.submit(team.pack, team.Order(n=2), delay_s=LATER_S)
            assert bus.counters["delay_without_schedule"] == 1
            assert (await handle.result(timeout_s=SOON_S)).n == 2
            assert packer.counters["waits_outside"] == 1, "when it has come back, its time has come"
            assert packer.counters["waits_in_consumer"] >= 1


async def test_without_it_there_is_nothing_to_be_scheduled_or_seen(server: ConfiguredServer) -> None:
    async with plain(server) as bus:
        with pytest.raises(roost.PermissionDenied, match="ROOST-SCHED_shop"):
            await bus.schedule(team.pack, team.Order(n=1), name="x", every_s=60)
        for call in (bus.pause_schedule, bus.resume_schedule, bus.cancel_schedule):
            with pytest.raises(roost.PermissionDenied):
                await call("x")
        with pytest.raises(roost.PermissionDenied):
            await bus.schedules()
