"""The server's configuration is compared, never imposed; what disappears is made again."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import roost
from tasks.support import SOON_S, Events, Number, agent_of, api, plus_one, provision, stranger

add = roost.Task("add", Number, Number)


def differing(error: pytest.ExceptionInfo[roost.ConfigMismatch]) -> set[str]:
    for one in error.value.differences:
        assert one.field in str(error.value)
    return {one.field for one in error.value.differences}


async def test_a_stream_that_an_administrator_changed_is_an_error_that_lists_each_field(
    nats_url: str, namespace: str
) -> None:
    async with stranger(nats_url) as nc:
        await provision(
            nc, namespace, max_age=3600 * 10**9, discard="old", allow_atomic=False, republish=None
        )
        async with roost.connect(nats_url, namespace=namespace) as bus:
            with pytest.raises(roost.ConfigMismatch) as error:
                await bus.submit(add, Number(n=1))
            assert differing(error) == {"max_age", "discard", "allow_atomic", "republish"}
            with pytest.raises(roost.ConfigMismatch):
                async with bus.serving(agent_of(add, plus_one)):
                    pass
        left = (await api(nc, f"STREAM.INFO.ROOST_{namespace}"))["config"]
        assert (left["max_age"], left["discard"]) == (3600 * 10**9, "old"), "nothing is changed by looking"


async def test_size_replicas_and_description_are_the_administrators(nats_url: str, namespace: str) -> None:
    async with stranger(nats_url) as nc:
        await provision(nc, namespace, max_bytes=50_000_000, description="ours", duplicate_window=10**9)
        async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(add, plus_one)):
            assert await (await bus.submit(add, Number(n=1))).result(timeout_s=SOON_S) == Number(n=2)


@pytest.mark.parametrize(
    "change",
    [
        {"ack_wait": 10**9, "max_ack_pending": 10},
        {"max_deliver": 3},
        {"max_waiting": 5},
        {"ack_policy": "none"},
        {"deliver_policy": "new"},
        {"headers_only": True},
        {"backoff": [10**9, 2 * 10**9], "max_deliver": 5},
        {"inactive_threshold": 10**9},
    ],
    ids=lambda change: "-".join(change),
)
async def test_a_consumer_that_an_administrator_changed_is_an_error_that_lists_each_field(
    nats_url: str, namespace: str, change: dict[str, Any]
) -> None:
    """Bug, for the last three: a consumer without payloads, for instance, made a dead letter of each task."""
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as nc:
        async with bus.serving(agent_of(add, plus_one)):
            pass
        name = f"{bus.log.stream}.task_add"
        config = (await api(nc, f"CONSUMER.INFO.{name}"))["config"] | change
        await api(nc, f"CONSUMER.DELETE.{name}")
        made = await api(nc, f"CONSUMER.CREATE.{name}", {"stream_name": bus.log.stream, "config": config})
        assert "error" not in made, made
        with pytest.raises(roost.ConfigMismatch) as error:
            async with bus.serving(agent_of(add, plus_one)):
                pass
        allowed = {"ack_wait"} if "backoff" in change else set()
        assert differing(error) - allowed == set(change)


async def test_another_ack_wait_in_the_code_is_a_difference_too(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of(add, plus_one)):
            pass
        impatient = roost.Task("add", Number, Number, ack_wait_s=5)
        with pytest.raises(roost.ConfigMismatch, match="ack_wait is 30000000000, wanted 5000000000"):
            async with bus.serving(agent_of(impatient, plus_one)):
                pass


async def test_a_consumer_deleted_under_its_workers_comes_back_and_redoes_nothing(
    nats_url: str, namespace: str
) -> None:
    ran: list[int] = []

    async def count(value: Number) -> Number:
        ran.append(value.n)
        return await plus_one(value)

    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as nc:
        events = Events(bus)
        async with bus.serving(agent_of(add, count)), bus.serving(agent_of(add, count)):
            for n in range(20):
                await (await bus.submit(add, Number(n=n))).result(timeout_s=SOON_S)
            await api(nc, f"CONSUMER.DELETE.{bus.log.stream}.task_add")
            await events.until("pull_missing", 2)
            late = await bus.submit(add, Number(n=99))
            assert await late.result(timeout_s=SOON_S) == Number(n=100)
            async with asyncio.timeout(SOON_S):
                while bus.counters["redelivered_after_end"] < 20:
                    await bus.link.client.flush()
        assert sorted(ran) == [*range(20), 99]


async def test_attempts_are_remembered_by_a_consumer_made_anew(nats_url: str, namespace: str) -> None:
    """Bug: a new consumer's deliveries are first ones, and so the notes of earlier attempts were not looked at."""
    task = roost.Task("flaky", Number, Number, retry=roost.Retry(attempts=3, base_s=0.01))
    tries: list[int] = []

    async def fail(value: Number, ctx: roost.Context) -> Number:
        tries.append(ctx.attempt)
        raise roost.RetryLater(after_s=0.01 if len(tries) == 1 else 600)

    async def fail_too(value: Number, ctx: roost.Context) -> Number:
        tries.append(ctx.attempt)
        raise ValueError

    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as nc:
        events = Events(bus)
        handle = await bus.submit(task, Number(n=1))
        async with bus.serving(agent_of(task, fail)):
            await events.until("task_retried", 2)
        await api(nc, f"CONSUMER.DELETE.{bus.log.stream}.task_flaky")
        async with bus.serving(agent_of(task, fail_too)):
            outcome = await handle.outcome(timeout_s=SOON_S)
    assert tries == [1, 2, 3]
    assert isinstance(outcome, roost.Dead)
    assert outcome.letter.attempts == 3
