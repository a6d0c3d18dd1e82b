"""A worker with a circuit breaker may pause its own task, and needs to."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
import team
from security_kit import SOON_S, as_user, provisioned, server_for, users_of, without

import roost

PAUSE = "$JS.API.CONSUMER.PAUSE.ROOST_shop.task_pack"

breaker = roost.Agent("breaker")


@breaker.handles(team.pack, breaker=roost.BreakerPolicy(minimum_calls=2, open_s=30), concurrency=2)
async def pack(order: team.Order) -> team.Total:
    raise OSError("no boxes")


async def test_it_pauses_with_exactly_what_is_printed_and_is_not_started_with_less(tmp_path: Path) -> None:
    (user,) = users_of(breaker)
    less = without(user, "publish", PAUSE, "less")
    with server_for(
        tmp_path, [user, less, *users_of(team.pack, roles=["caller"]), *users_of(roles=["admin"])]
    ) as server:
        await provisioned(server, [breaker.job])
        async with as_user(server, "breaker") as bus, as_user(server, "caller") as caller:
            opened = asyncio.Event()
            bus.watch(lambda event: opened.set() if event.kind == "breaker_opened" else None)
            async with bus.serving(breaker, grace_s=0):
                await caller.submit_many(team.pack, [team.Order(n=n) for n in range(4)])
                async with asyncio.timeout(SOON_S):
                    await opened.wait()
                    info = f"CONSUMER.INFO.{bus.log.stream}.task_pack"
                    while not (await bus.log.link.jetstream.call(info)).get("paused"):  # noqa: ASYNC110
                        await asyncio.sleep(0.01)
            assert not (await bus.log.link.jetstream.call(info)).get("paused")  # lifted at its end
            assert bus.counters["pause_failed"] == 0
        async with roost.connect(
            server.url,
            namespace="shop",
            credentials=roost.Credentials(user="less", password="pw"),
            inbox_prefix="_INBOX_breaker",
        ) as bus:
            with pytest.raises(roost.PermissionDenied, match="PAUSE"):
                async with bus.serving(breaker, grace_s=0):
                    pytest.fail("it started")
