"""Rules of the server that the log is built on, pinned: the gate for another nats-server.

Plain nats-py on a stream of its own; nothing of Roost takes part.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from nats.aio.client import Client as NatsClient

from tasks.support import api, put, stranger

WRONG_LAST_SEQUENCE = 10071


@asynccontextmanager
async def log(url: str, namespace: str) -> AsyncIterator[tuple[NatsClient, str]]:
    """A connection, and the beginning of subjects in a stream like Roost's."""
    async with stranger(url) as nc:
        config = {
            "subjects": [f"{namespace}.>"],
            "allow_atomic": True,
            "allow_direct": True,
            "discard": "new",
        }
        made = await api(nc, f"STREAM.CREATE.ROOST_{namespace}", {"name": f"ROOST_{namespace}"} | config)
        assert "error" not in made, made
        yield nc, f"{namespace}.run.r"


def guard(sequence: int, pattern: str) -> dict[str, str]:
    return {
        "Nats-Expected-Last-Subject-Sequence": str(sequence),
        "Nats-Expected-Last-Subject-Sequence-Subject": pattern,
    }


def refused(answer: dict[str, Any]) -> bool:
    return bool(answer.get("error", {}).get("err_code") == WRONG_LAST_SEQUENCE)


async def test_a_guard_may_be_a_wildcard_over_the_subject_it_protects(nats_url: str, namespace: str) -> None:
    async with log(nats_url, namespace) as (nc, run):
        task = (await put(nc, f"{run}.task.x.7", b"in"))["seq"]
        await put(nc, f"{run}.task.x.8", b"in")
        await put(nc, f"{run}.note.x.7.1", b"one token more: outside of the guard")
        assert refused(await put(nc, f"{run}.end.x.7", b"out", guard(task + 1, f"{run}.*.x.7")))
        assert "error" not in await put(nc, f"{run}.end.x.7", b"out", guard(task, f"{run}.*.x.7"))
        assert refused(await put(nc, f"{run}.end.x.7", b"second", guard(task, f"{run}.*.x.7")))
        assert refused(await put(nc, f"{run}.cancel.x.7", b"other kind", guard(task, f"{run}.*.x.7")))


async def test_a_wildcard_guard_refuses_after_a_purge_where_create_once_would_accept(
    nats_url: str, namespace: str
) -> None:
    async with log(nats_url, namespace) as (nc, run):
        task = (await put(nc, f"{run}.task.x.7", b"in"))["seq"]
        await api(nc, f"STREAM.PURGE.ROOST_{namespace}", {"filter": f"{run}.>"})
        assert refused(await put(nc, f"{run}.end.x.7", b"zombie", guard(task, f"{run}.*.x.7")))
        assert "error" not in await put(
            nc, f"{run}.end.x.7", b"zombie", {"Nats-Expected-Last-Subject-Sequence": "0"}
        )


async def test_a_wildcard_guard_holds_in_an_atomic_batch(nats_url: str, namespace: str) -> None:
    async with log(nats_url, namespace) as (nc, run):
        task = (await put(nc, f"{run}.task.x.7", b"in"))["seq"]

        async def end_and_dead(batch: str) -> dict[str, Any]:
            first = guard(task, f"{run}.*.x.7") | {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": "1"}
            await nc.request(f"{run}.end.x.7", b"end", headers=first, timeout=5)
            last = {"Nats-Batch-Id": batch, "Nats-Batch-Sequence": "2", "Nats-Batch-Commit": "1"}
            return await put(nc, f"{run}.dead.x.7", b"dead", last)

        assert (await end_and_dead("one"))["count"] == 2
        assert refused(await end_and_dead("two"))


async def test_create_once_holds_within_an_atomic_batch_all_or_nothing(nats_url: str, namespace: str) -> None:
    async with log(nats_url, namespace) as (nc, run):
        await put(nc, f"{run}.task.x.2", b"there")
        once = {"Nats-Expected-Last-Subject-Sequence": "0", "Nats-Batch-Id": "b"}
        await nc.request(f"{run}.task.x.1", b"", headers=once | {"Nats-Batch-Sequence": "1"}, timeout=5)
        last = once | {"Nats-Batch-Sequence": "2", "Nats-Batch-Commit": "1"}
        assert refused(await put(nc, f"{run}.task.x.2", b"", last))
        info = await api(nc, f"STREAM.INFO.ROOST_{namespace}")
        assert info["state"]["messages"] == 1


async def test_the_acknowledgement_subject_has_the_sequence_the_delivery_count_and_the_time(
    nats_url: str, namespace: str
) -> None:
    async with log(nats_url, namespace) as (nc, run):
        seq = (await put(nc, f"{run}.task.x.7", b"in"))["seq"]
        pull = await nc.jetstream().pull_subscribe(
            f"{run}.task.x.>", durable="d", stream=f"ROOST_{namespace}"
        )
        (message,) = await pull.fetch(1, timeout=5)
        await message.nak()
        (message,) = await pull.fetch(1, timeout=5)
        words = message.reply.split(".")
        assert words[:4] == ["$JS", "ACK", f"ROOST_{namespace}", "d"]
        assert (int(words[4]), int(words[5])) == (2, seq)
        assert abs(int(words[7]) / 1e9 - message.metadata.timestamp.timestamp()) < 0.01
        await pull.unsubscribe()


async def test_a_publishers_headers_stand_before_the_servers_in_a_direct_get(
    nats_url: str, namespace: str
) -> None:
    async with log(nats_url, namespace) as (nc, run):
        await put(nc, f"{run}.task.x.7", b"in", {"Nats-Subject": "forged", "Nats-Sequence": "666"})
        raw: list[bytes] = []
        inbox = nc.new_inbox()
        process = nc._process_msg

        async def keep(sid: int, subject: bytes, reply: bytes, data: bytes, headers: bytes) -> None:
            raw.append(headers or b"")
            await process(sid, subject, reply, data, headers)

        nc._process_msg = keep  # type: ignore[method-assign]
        subscription = await nc.subscribe(inbox)
        await nc.publish(f"$JS.API.DIRECT.GET.ROOST_{namespace}.{run}.task.x.7", b"", reply=inbox)
        await subscription.next_msg(timeout=5)
        assert raw[0].index(b"Nats-Subject: forged") < raw[0].rindex(f"Nats-Subject: {run}".encode())
        assert raw[0].rindex(b"Nats-Sequence: 1\r\n") > raw[0].index(b"Nats-Sequence: 666")
