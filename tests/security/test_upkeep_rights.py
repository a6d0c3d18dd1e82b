"""Upkeep removes records, so no agent with least privilege does it: a user of its own does, with exactly its rights."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator

import pytest
import team
from security_kit import SOON_S, ConfiguredServer, as_user, provisioned, server_for, users_of

import roost
from roost.tasks.administer import Size, provision


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredServer]:
    users = [*users_of(team.packer), *users_of(team.packer, roles=["caller"])]
    users += users_of(roles=["admin", "upkeep"])
    with server_for(tmp_path_factory.mktemp("server"), users) as running:
        asyncio.run(provisioned(running, [team.packer.job]))
        yield running


async def test_agents_leave_it_to_the_user_who_may(
    server: ConfiguredServer, caplog: pytest.LogCaptureFixture
) -> None:
    told = asyncio.Event()
    pruned = asyncio.Event()
    caplog.set_level(logging.INFO, "roost")
    async with (
        as_user(server, "admin") as admin,
        as_user(server, "packer") as packer,
        as_user(server, "caller") as caller,
        as_user(server, "upkeep") as keeper,
        asyncio.timeout(SOON_S),
    ):
        packer.watch(lambda event: told.set() if event.kind == "upkeep_not_allowed" else None)
        keeper.watch(lambda event: pruned.set() if event.kind == "runs_pruned" else None)
        await provision(admin.log, size=Size(retention_s=1))
        async with packer.upkeep.running(start_s=0), packer.serving(team.packer, grace_s=1):
            await told.wait()
            handle = await caller.submit(team.pack, team.Order(n=3))
            await handle.result()
        (line,) = [one for one in caplog.records if "upkeep_not_allowed" in one.getMessage()]
        assert line.levelno == logging.INFO
        said = line.getMessage()
        assert re.search(r"lacks \d\d permissions .*`roost permissions --role upkeep` prints them", said)
        assert len(said) < 250, "all of them were listed"
        with pytest.raises(roost.PermissionDenied, match=r"MSG\.DELETE"):
            await packer.upkeep.check()
        await keeper.upkeep.check()
        await keeper.log.ensure()
        async with keeper.upkeep.running(start_s=0):
            await pruned.wait()
        assert keeper.counters["upkeep_failed"] == 0
        assert await keeper.log.page({"seq": 1, "next_by_subj": "shop.run.>", "batch": 10}) == []
