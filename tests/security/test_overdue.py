"""Who does the upkeep ends overdue work with exactly the rights of upkeep; who has a deadline to write may write it."""

from __future__ import annotations

import asyncio
from pathlib import Path

import team
from security_kit import SHOP, SOON_S, as_user, provisioned, server_for, users_of

import roost
from roost.permissions.accounts import User
from roost.upkeep.overdue import Overdue
from roost.upkeep.rights import keeping

hurried = roost.Task("hurried", team.Order, team.Total, deadline_s=0.4)
outing = roost.Workflow("outing", team.Order, team.Total, deadline_s=1.0)
guide = roost.Agent("guide", calls=[hurried, team.secret])


@guide.handles(outing)
async def lead(order: team.Order, run: roost.Run) -> team.Total:
    await asyncio.gather(run.call(hurried, order), run.call(team.secret, order))
    return team.Total(n=0)


async def test_overdue_work_ends_with_the_rights_of_upkeep(tmp_path: Path) -> None:
    keeper = User(name="upkeep", does="upkeep", rights=keeping(SHOP, "_INBOX_upkeep"), of_the_log=True)
    users = [
        *users_of(guide),
        *users_of(hurried, outing, roles=["caller"]),
        *users_of(roles=["admin"]),
        keeper,
    ]
    with server_for(tmp_path, users) as server:
        await provisioned(server, [guide.job])
        async with (
            as_user(server, "upkeep") as upkeep,
            as_user(server, "caller") as caller,
            as_user(server, "guide") as bus,
            bus.serving(guide, grace_s=0),
        ):
            await upkeep.log.ensure()
            sweep = asyncio.create_task(Overdue(upkeep.log).run_once())
            try:
                late = [
                    await caller.submit(hurried, team.Order(n=1)),
                    await caller.start(outing, team.Order(n=1)),
                ]
                for handle in late:
                    assert isinstance(await handle.outcome(timeout_s=SOON_S), roost.Dead)
                async with asyncio.timeout(SOON_S):
                    while len(await upkeep.dead_letters()) < 4:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                assert not sweep.done(), sweep
            finally:
                sweep.cancel()
                await asyncio.gather(sweep, return_exceptions=True)
