"""Each role does its whole work with exactly the permissions that are printed for it, and is refused nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import pytest
import team
from security_kit import SOON_S, ConfiguredServer, as_user, provisioned, server_for, soon, users_of

import roost
from roost.permissions import Job
from roost.runs.listing import list_runs
from roost.tasks.backlog import paused
from roost.tasks.reading import read_histories

AGENTS = (team.packer, team.keeper, team.planner, team.clerk)
JOBS: list[Job] = [one.job for one in AGENTS]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredServer]:
    users = [
        *users_of(*AGENTS),
        *users_of(*AGENTS, team.approve, roles=["caller"]),
        *users_of(roles=["observer", "admin"]),
    ]
    folder: Path = tmp_path_factory.mktemp("server")
    with server_for(folder, users) as running:
        asyncio.run(provisioned(running, JOBS))
        yield running


async def everybody(server: ConfiguredServer, stack: AsyncExitStack) -> None:
    """Serve each agent as its own user."""
    for agent in AGENTS:
        bus = await stack.enter_async_context(as_user(server, agent.name))
        await stack.enter_async_context(bus.serving(agent, grace_s=1))


async def test_tasks_endpoints_streams_topics_workflows_and_reports_work(server: ConfiguredServer) -> None:
    async with AsyncExitStack() as stack:
        await everybody(server, stack)
        caller = await stack.enter_async_context(as_user(server, "caller"))
        handle = await caller.submit(team.pack, team.Order(n=3))
        assert (await handle.result(timeout_s=SOON_S)).n == 3
        assert [one.value async for one in handle.chunks(dict)] == [{"n": 3}]
        assert [one.value async for one in handle.progress()] == ["packing"]
        assert await soon(team.reported) == handle.key

        many = await caller.submit_many(
            team.pack, [team.Order(n=n) for n in (1, 13)], keys=["one", "thirteen"]
        )
        assert (await many[0].result(timeout_s=SOON_S)).n == 1
        assert isinstance(await many[1].outcome(timeout_s=SOON_S), roost.Dead)

        turns = [await caller.submit(team.serve_in_turn, team.Order(n=n)) for n in range(3)]
        assert [(await one.result(timeout_s=SOON_S)).n for one in turns] == [0, 1, 2]

        assert (await caller.request(team.price, team.Order(n=4))).n == 8
        assert [one.value.n async for one in caller.ask_all(team.price, team.Order(n=5))] == [10]

        async def answer(order: team.Order) -> team.Total:
            return team.Total(n=100)

        async with caller.stream(team.tail, team.Order(n=0), answers={team.sure: answer}) as totals:
            assert [one.n async for one in totals] == list(range(100))
        await caller.publish(team.news.at(branch="north"), team.News(text="open"))
        assert await soon(team.heard) == "open"

        run = await caller.start(team.plan, team.Order(n=4))
        await caller.signal(run.id, team.approve, team.Order(n=50))
        assert (await run.result(timeout_s=SOON_S)).n == 4 + 4 + 50


async def test_an_observer_sees_everything_and_an_admin_cancels(server: ConfiguredServer) -> None:
    async with AsyncExitStack() as stack:
        await everybody(server, stack)
        caller = await stack.enter_async_context(as_user(server, "caller"))
        observer = await stack.enter_async_context(as_user(server, "observer"))
        admin = await stack.enter_async_context(as_user(server, "admin"))
        assert [one.agent for one in await observer.agents()] == ["clerk", "keeper", "packer", "planner"]
        async with observer.watch_agents() as watch:
            assert len(watch.agents) == 4
        run = await caller.start(team.plan, team.Order(n=2))
        await admin.log.ensure()
        assert await admin.handle(team.plan, run.id).cancel("not today")
        assert isinstance(await run.outcome(timeout_s=SOON_S), roost.Cancelled)
        assert run.id in [one.id for one in await list_runs(observer.log)]
        assert {one.name for one in await read_histories(observer.log)} >= {"pack", "plan"}
        dead = await caller.submit(team.pack, team.Order(n=13))
        assert isinstance(await dead.outcome(timeout_s=SOON_S), roost.Dead)
        assert dead.id in [one.ref.id for one in await observer.dead_letters()]
        again = await admin.replay(team.pack, dead.id, team.Order(n=14))
        assert (await again.result(timeout_s=SOON_S)).n == 14


async def test_nobody_but_an_admin_pauses(server: ConfiguredServer) -> None:
    async with as_user(server, "admin") as admin, as_user(server, "observer") as observer:
        await admin.pause(team.pack, for_s=60)
        assert [name for name, _ in await paused(observer.log)] == [team.pack.name]
        assert await admin.resume(team.pack)
        for name in ("observer", "packer"):
            async with roost.connect(
                server.url,
                namespace="shop",
                credentials=roost.Credentials(user=name, password="pw"),
                inbox_prefix=f"_INBOX_{name}",
            ) as other:
                with pytest.raises(roost.PermissionDenied):
                    await other.pause(team.pack)


async def test_nobody_but_an_admin_cancels(server: ConfiguredServer) -> None:
    async with as_user(server, "caller") as caller, as_user(server, "admin") as admin:
        handle = await caller.submit(team.secret, team.Order(n=1))
        with pytest.raises(roost.PermissionDenied):
            async with roost.connect(
                server.url,
                namespace="shop",
                credentials=roost.Credentials(user="caller", password="pw"),
                inbox_prefix="_INBOX_caller",
            ) as other:
                await other.handle(team.secret, handle.id).cancel()
        assert await admin.handle(team.secret, handle.id).cancel()
        assert isinstance(await handle.outcome(timeout_s=SOON_S), roost.Cancelled)


async def test_an_agent_whose_consumer_nobody_has_made_says_who_makes_it(tmp_path: Path) -> None:
    with server_for(tmp_path, [*users_of(team.keeper), *users_of(roles=["admin"])]) as server:
        await provisioned(server, [])
        async with roost.connect(
            server.url,
            namespace="shop",
            credentials=roost.Credentials(user="keeper", password="pw"),
            inbox_prefix="_INBOX_keeper",
        ) as bus:
            with pytest.raises(roost.ConfigError, match=r"consumer task_secret .* `roost provision`"):
                async with bus.serving(team.keeper):
                    pass
        await provisioned(server, [team.keeper.job])
        async with as_user(server, "keeper") as bus, bus.serving(team.keeper, grace_s=0) as (instance,):
            assert instance.name.startswith("keeper-")
