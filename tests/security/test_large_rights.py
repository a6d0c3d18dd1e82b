"""Large payloads need subjects of their own: those get them whose contracts allow any, and each line is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

import pytest
import team
from security_kit import SOON_S, ConfiguredServer, as_user, lines_of, provisioned, server_for, users_of

import roost
from roost.contracts import Limits

scan = roost.Task("scan", str, str, ack_wait_s=1, limits=Limits(max_bytes=1_000_000))
album = roost.Workflow("album", str, str, ack_wait_s=1, limits=Limits(max_bytes=1_000_000))
PAGE = "x" * 300_000

scanner = roost.Agent("scanner")
archivist = roost.Agent("archivist", calls=[scan])
auditor = roost.Agent("auditor")
told: list[roost.Outcome[str]] = []
heard = asyncio.Event()


@scanner.handles(scan)
async def do_scan(page: str) -> str:
    return page + "!"


@archivist.handles(album)
async def do_album(page: str, run: roost.Run) -> str:
    async with run.map(scan, [page], name="pages") as outcomes:
        async for outcome in outcomes:
            assert isinstance(outcome, roost.Done)
    return await run.call(scan, page)


@auditor.reports(scan)
async def audit(outcome: roost.Outcome[str], ctx: roost.Context) -> None:
    told.append(outcome)
    heard.set()


AGENTS = [scanner, archivist, auditor]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredServer]:
    users = [
        *users_of(*AGENTS),
        *users_of(scan, album, roles=["caller"]),
        *users_of(roles=["admin", "upkeep"]),
    ]
    with server_for(tmp_path_factory.mktemp("server"), users) as running:
        asyncio.run(provisioned(running, [one.job for one in AGENTS]))
        yield running


async def test_each_role_has_what_large_payloads_need(server: ConfiguredServer) -> None:
    async with (
        as_user(server, "scanner") as works,
        as_user(server, "archivist") as coordinates,
        as_user(server, "auditor") as reports,
        as_user(server, "caller") as caller,
        as_user(server, "admin") as admin,
        as_user(server, "upkeep") as keeper,
        works.serving(scanner),
        coordinates.serving(archivist),
        reports.serving(auditor),
        asyncio.timeout(SOON_S),
    ):
        assert await (await caller.submit(scan, PAGE)).result() == PAGE + "!"
        await heard.wait()
        assert isinstance(told[0], roost.Done)
        assert told[0].value == PAGE + "!"
        run = await caller.start(album, PAGE)
        assert await run.result() == PAGE + "!"
        names = await admin.log.objects.names()
        assert len(names) == 8
        await keeper.log.objects.remove_runs({run.id})
        assert len(await admin.log.objects.names()) == 2


def test_only_contracts_that_allow_large_payloads_have_their_subjects() -> None:
    def subjects(*targets: object, roles: Sequence[str] = ()) -> list[str]:
        return [one for user in users_of(*targets, roles=roles) for _, one in lines_of(user.rights)]

    small = subjects(team.packer, team.planner) + subjects(team.packer, team.planner, roles=["caller"])
    assert not [one for one in small if "OBJ_" in one or one.startswith("$O.")]
    writes = [one for one in subjects(scan, roles=["caller"]) if one.startswith("$O.ROOST_shop.C.")]
    assert writes == ["$O.ROOST_shop.C.*.task.scan.*.*"]
