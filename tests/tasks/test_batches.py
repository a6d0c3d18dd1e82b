"""`submit_many`: atomic batches that are stored whole or not at all, and repeated without doubling anything."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator

import pytest

import roost
from roost.server import LocalServer
from roost.transport.jetstream import TOO_MANY_BATCHES
from tasks.support import SOON_S, Events, Number, agent_of, api, plus_one, put, records, stranger, until

add = roost.Task("add", Number, Number)
GUARD = {"Nats-Expected-Last-Subject-Sequence": "0"}


def numbers(count: int) -> list[Number]:
    return [Number(n=n) for n in range(count)]


def keys(count: int) -> list[str]:
    return [f"k{n}" for n in range(count)]


async def test_2500_values_are_stored_in_order_in_batches_and_each_has_its_outcome(
    nats_url: str, namespace: str
) -> None:
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        stranger(nats_url) as nc,
        bus.serving(agent_of(add, plus_one)),
    ):
        js = nc.jetstream()
        subscription = await js.subscribe(
            f"{namespace}.run.*.task.add.*", ordered_consumer=True, stream=bus.log.stream
        )
        handles = await bus.submit_many(add, numbers(2500))
        outcomes = await asyncio.gather(*(handle.result(timeout_s=SOON_S) for handle in handles))
        assert [outcome.n for outcome in outcomes] == list(range(1, 2501))
        batches: Counter[str] = Counter()
        order: dict[str, list[str]] = {}
        for _ in range(2500):
            message = await subscription.next_msg(timeout=SOON_S)
            assert message.headers is not None
            batch = message.headers["Nats-Batch-Id"]
            batches[batch] += 1
            order.setdefault(batch, []).append(message.subject.rsplit(".", 1)[1])
        await subscription.unsubscribe()
    assert len(batches) >= 3
    assert max(batches.values()) <= 1000
    ids = [handle.id for handle in handles]
    for found in order.values():
        at = ids.index(found[0])
        assert found == ids[at : at + len(found)]


async def test_a_source_is_read_no_further_than_a_thousand_values_ahead_of_what_is_stored(
    nats_url: str, namespace: str
) -> None:
    read = 0

    async def source() -> AsyncIterator[Number]:
        nonlocal read
        for n in range(3500):
            read += 1
            yield Number(n=n)

    async with roost.connect(nats_url, namespace=namespace) as bus:
        most = got = 0
        async for handle in bus.submit_each(add, source(), key=lambda value: f"k{value.n}"):
            assert handle.key == f"k{got}"
            got += 1
            most = max(most, read - got)
        assert (got, read) == (3500, 3500)
        assert most < 1000
        assert len(await records(bus, "task")) == 3500

        read, left = 0, bus.submit_each(add, source(), key=lambda value: f"m{value.n}")
        assert (await anext(left)).created
        await left.aclose()  # type: ignore[attr-defined]
        assert read == 1000, "whoever stops asking stops the reading"


async def test_a_generator_may_be_submitted_and_its_values_name_themselves(
    nats_url: str, namespace: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        handles = await bus.submit_many(
            add, (Number(n=n) for n in range(1200)), key=lambda value: f"k{value.n}"
        )
        again = await bus.submit_many(add, numbers(1200), keys=keys(1200))
        assert [one.id for one in again] == [one.id for one in handles]
        assert not any(one.created for one in again)
        for wrong in (
            bus.submit_many(add, iter(numbers(1)), keys=["a"]),
            bus.submit_many(add, numbers(1), keys=["a"], key=lambda value: "a"),
        ):
            with pytest.raises(roost.ConfigError, match="function key"):
                await wrong


async def test_nothing_to_submit_is_no_error(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        assert await bus.submit_many(add, []) == []


async def test_after_a_conflict_only_what_is_missing_is_sent_again(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        await bus.submit_many(add, numbers(100), keys=keys(100))
        sent = bus.link.client.stats["out_msgs"]
        handles = await bus.submit_many(add, numbers(750), keys=keys(750))
        assert [handle.created for handle in handles] == [False] * 100 + [True] * 650
        assert 750 + 150 <= bus.link.client.stats["out_msgs"] - sent < 750 + 150 + 20
        assert len(await records(bus, "task")) == 750


async def test_what_is_all_there_is_found_in_the_given_order(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        first = await bus.submit_many(add, numbers(600), keys=keys(600))
        again = await bus.submit_many(add, numbers(600)[::-1], keys=keys(600)[::-1])
        assert [handle.id for handle in again] == [handle.id for handle in first][::-1]
        assert not any(handle.created for handle in again)
        assert len(await records(bus, "task")) == 600


async def test_a_key_with_another_payload_is_a_conflict_that_names_it(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        await bus.submit(add, Number(n=-1), key="k300")
        with pytest.raises(roost.Conflict) as conflict:
            await bus.submit_many(add, numbers(600), keys=keys(600))
        assert "k300" in conflict.value.key
        found = {record.subject: record.data for record in await records(bus, "task")}
        assert found[f"{namespace}.run.add:k300.task.add.add:k300"] == b'{"n":-1}'


async def test_one_key_twice_in_a_call_is_one_task_or_a_conflict(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        one, two = await bus.submit_many(add, [Number(n=1), Number(n=1)], keys=["a", "a"])
        assert one.id == two.id
        with pytest.raises(roost.Conflict):
            await bus.submit_many(add, [Number(n=1), Number(n=2)], keys=["b", "b"])
        with pytest.raises(roost.ConfigError):
            await bus.submit_many(add, numbers(2), keys=["c"])
        assert len(await records(bus, "task")) == 1


async def test_more_than_50_batches_in_flight_are_refused_and_repeated(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as nc:
        await bus.log.ensure()
        held = [f"{namespace}.run.held{n}.task.other.held{n}" for n in range(50)]
        for n, subject in enumerate(held):
            open_batch = {"Nats-Batch-Id": f"held{n}", "Nats-Batch-Sequence": "1"}
            await nc.request(subject, b"{}", headers=GUARD | open_batch, timeout=5)
        refused = await put(nc, held[0], b"{}", {"Nats-Batch-Id": "one-more", "Nats-Batch-Sequence": "1"})
        assert refused["error"]["err_code"] == TOO_MANY_BATCHES

        heard = bus.link.client.stats["in_msgs"]
        several = [
            asyncio.ensure_future(
                bus.submit_many(add, numbers(500), keys=[f"{part}-{n}" for n in range(500)])
            )
            for part in range(4)
        ]
        async with asyncio.timeout(SOON_S):
            while bus.link.client.stats["in_msgs"] < heard + 4:  # refusals
                await bus.link.client.flush()
        assert not any(one.done() for one in several)
        for n, subject in enumerate(held):
            commit = {"Nats-Batch-Id": f"held{n}", "Nats-Batch-Sequence": "2", "Nats-Batch-Commit": "eob"}
            await nc.request(subject, b"", headers=commit, timeout=5)
        for handles in await asyncio.gather(*several):
            assert all(handle.created for handle in handles)
        ours = [record for record in await records(bus, "task") if ".task.add." in record.subject]
        assert len(ours) == len({record.subject for record in ours}) == 2000


async def test_a_server_killed_in_mid_batch_and_the_same_keys_again_double_nothing(
    own_server: LocalServer,
) -> None:
    async with roost.connect(own_server.url) as bus:
        await bus.submit_many(add, numbers(10), keys=keys(10))
        heard = bus.link.client.stats["in_msgs"]
        unknown = asyncio.ensure_future(bus.submit_many(add, numbers(5000), keys=keys(5000), timeout_s=0.5))
        await until(lambda: bus.link.client.stats["in_msgs"] >= heard + 4)
        await asyncio.to_thread(own_server.kill)
        with pytest.raises(roost.SubmissionUnknown) as error:
            await unknown
        assert 0 < len(error.value.ids) < 5000

        await asyncio.to_thread(own_server.restart)
        stored = {record.subject.rsplit(".", 1)[1] for record in await _after_reconnect(bus)}
        read = max(int(id.removeprefix("add:k")) for id in error.value.ids) + 1
        assert not {f"add:{key}" for key in keys(read)} - stored - set(error.value.ids), (
            "reported as stored, but lost"
        )
        assert not {f"add:{key}" for key in keys(error.value.stored)} - stored
        handles = await bus.submit_many(add, numbers(5000), keys=keys(5000))
        assert {handle.id for handle in handles if not handle.created} == stored
        subjects = [record.subject for record in await records(bus, "task")]
        assert len(subjects) == len(set(subjects)) == 5000


async def _after_reconnect(bus: roost.Bus) -> list[roost.tasks.log.Record]:
    await until(lambda: bus.link.client.is_connected)
    return await records(bus, "task")


async def test_a_fan_out_survives_a_restart_of_the_server(own_server: LocalServer) -> None:
    async with roost.connect(own_server.url) as bus:
        await bus.log.ensure()
        events = Events(bus)
        storing = asyncio.ensure_future(bus.submit_many(add, numbers(20_000), keys=keys(20_000)))
        await until(lambda: bus.link.client.stats["in_msgs"] >= 10)
        await asyncio.to_thread(own_server.kill)
        await events.until("connection_lost")
        assert not storing.done()
        await asyncio.to_thread(own_server.restart)
        assert len(await storing) == 20_000
        subjects = [record.subject for record in await records(bus, "task")]
        assert len(subjects) == len(set(subjects)) == 20_000


async def test_a_look_at_what_is_stored_that_fails_is_repeated_and_leaks_no_exception_group(
    own_server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: what was raised while looking for stored tasks came out as an ExceptionGroup."""
    async with roost.connect(own_server.url) as bus:
        await bus.submit_many(add, numbers(10), keys=keys(10))
        look = bus.log.newest
        looks = 0

        async def interrupted(
            subjects: list[str], *, leader: bool = False
        ) -> dict[str, roost.tasks.log.Record]:
            nonlocal looks
            looks += 1
            if looks == 1:
                await asyncio.to_thread(own_server.kill)
                await asyncio.to_thread(own_server.restart)
            return await look(subjects, leader=leader)

        monkeypatch.setattr(bus.log, "newest", interrupted)
        handles = await bus.submit_many(add, numbers(20), keys=keys(20))
        assert [handle.created for handle in handles] == [False] * 10 + [True] * 10
        assert looks >= 2


async def test_a_missing_stream_is_named_and_leaks_no_exception_group(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as nc:
        await bus.log.ensure()
        await api(nc, f"STREAM.DELETE.{bus.log.stream}")
        with pytest.raises(roost.StreamMissing, match=bus.log.stream):
            await bus.submit_many(add, numbers(10))
        with pytest.raises(roost.StreamMissing, match=bus.log.stream):
            await bus.submit(add, numbers(1)[0])
