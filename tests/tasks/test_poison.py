"""What strangers put into the log harms only the message that carries it."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

import roost
from roost.contracts import Retry
from tasks.support import SOON_S, Events, Number, agent_of, plus_one, put, records, stranger

add = roost.Task("add", Number, Number, retry=Retry(attempts=2, base_s=0.01))

POISON = {
    "bad-utf8": (b'{"n": 1, "s": "\xff\xfe"}', "payload"),
    "no-json": (b"hello", "payload"),
    "empty": (b"", "payload"),
    "deep": (b'{"n": 1, "deep": ' + b"[" * 5000 + b"]" * 5000 + b"}", "payload"),
    "oversized": (b'{"n": 1, "s": "' + b"x" * 300_000 + b'"}', "payload"),
    "equal-keys": (b'{"n": 1, "n": 2}', "payload"),
    "nan": (b'{"n": NaN}', "payload"),
    "misfit": (b'{"n": "many"}', "n"),
    "missing": (b"{}", "n"),
}


async def test_poison_becomes_a_dead_letter_with_its_reason_and_others_are_served(
    nats_url: str, namespace: str
) -> None:
    ran: list[int] = []

    async def count(value: Number) -> Number:
        ran.append(value.n)
        return await plus_one(value)

    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        stranger(nats_url) as nc,
        bus.serving(agent_of(add, count)),
    ):
        healthy = await bus.submit_many(add, [Number(n=n) for n in range(100, 150)])
        for name, (payload, _) in POISON.items():
            assert "error" not in await put(nc, f"{namespace}.run.{name}.task.add.{name}", payload)
        healthy += await bus.submit_many(add, [Number(n=n) for n in range(150, 200)])
        results = await asyncio.gather(*(handle.result(timeout_s=SOON_S) for handle in healthy))
        assert [result.n for result in results] == list(range(101, 201))
        for name, (payload, field) in POISON.items():
            outcome = await bus.handle(add, name).outcome(timeout_s=SOON_S)
            assert isinstance(outcome, roost.Dead), name
            assert outcome.letter.reason.startswith(f"invalid input: {field}:"), (name, outcome.letter.reason)
            assert outcome.letter.attempts == 0
            (letter,) = [one for one in await bus.dead_letters() if one.id == name]
            assert letter.input == payload
        assert sorted(ran) == list(range(100, 200))
        assert bus.counters["message_refused"] == len(POISON)


async def test_headers_of_strangers_change_nothing(nats_url: str, namespace: str) -> None:
    lies: list[dict[str, str]] = [
        {"Status": "404"},
        {"traceparent": "x" * 60_000},
        {"traceparent": "\u00e9\u20ac"},
        {"Nats-Sequence": "abc", "Nats-Subject": "elsewhere", "Nats-Time-Stamp": "yesterday"},
        {"Nats-Expected-Last-Subject-Sequence": "0", "Nats-Batch": "x"},
    ]
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        stranger(nats_url) as nc,
        bus.serving(agent_of(add, plus_one)),
    ):
        for n, headers in enumerate(lies):
            stored = await put(nc, f"{namespace}.run.lie{n}.task.add.lie{n}", b'{"n": 1}', headers)
            assert "error" not in stored, stored
        for n in range(len(lies)):
            assert await bus.handle(add, f"lie{n}").result(timeout_s=SOON_S) == Number(n=2)


@pytest.mark.parametrize(
    "shape",
    [
        "r.task.add",
        "r.task.add.x.more",
        "*.task.add.*",
        "r.task.add.>",
        "r.task.add.a\u00e9",
        "r.task.add.a*b",
    ],
)
async def test_a_subject_that_names_no_task_is_refused_counted_and_never_run(
    nats_url: str, namespace: str, shape: str
) -> None:
    """Bug: a task named `*` reached into the records of others, whose outcome it took for its own."""
    ran: list[int] = []

    async def count(value: Number) -> Number:
        ran.append(value.n)
        return value

    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as nc:
        events = Events(bus)
        async with bus.serving(agent_of(add, count)):
            await (await bus.submit(add, Number(n=1))).result(timeout_s=SOON_S)
            assert "error" not in await put(nc, f"{namespace}.run.{shape}", b'{"n": 666}')
            await (await bus.submit(add, Number(n=2))).result(timeout_s=SOON_S)
            if shape != "r.task.add":  # that one is not even under the filter
                (refused,) = await events.until("task_refused")
                assert "does not name a task" in refused.reason
        assert ran == [1, 2]
        assert len(await records(bus, "end")) == 2


@pytest.mark.parametrize("kind", ["foo", "dead", "step"])
async def test_a_strangers_record_beside_a_task_does_not_cost_its_outcome(
    nats_url: str, namespace: str, kind: str
) -> None:
    """Bug: the guard was refused, the task taken for removed, acknowledged, and lost."""
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as nc:
        handle = await bus.submit(add, Number(n=1), key="k")
        for _ in range(2):
            await put(nc, f"{namespace}.run.{handle.id}.{kind}.add.{handle.id}", b"junk")
        async with bus.serving(agent_of(add, plus_one)):
            assert await handle.result(timeout_s=SOON_S) == Number(n=2)
        assert len(await records(bus, "end")) == 1


async def test_records_with_forged_headers_of_the_server_are_read_for_what_they_are(
    nats_url: str, namespace: str
) -> None:
    """Bug: one such record made every read that met it fail, and with it the outcomes of others."""
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as nc:
        handle = await bus.submit(add, Number(n=1), key="victim")
        forged = {
            "Nats-Subject": bus.log.subjects.end(handle.ref),
            "Nats-Sequence": "x",
            "Nats-Time-Stamp": "y",
        }
        lie = b'{"status":"done","token":"","attempts":[],"value":{"n":666}}'
        await put(nc, f"{namespace}.run.evil.end.add.evil", lie, forged)
        evil = asyncio.ensure_future(bus.handle(add, "evil").outcome(timeout_s=SOON_S))
        waiting = asyncio.ensure_future(handle.outcome(timeout_s=SOON_S))
        done = await evil
        assert isinstance(done, roost.Done)
        async with bus.serving(agent_of(add, plus_one)):
            outcome = await waiting
        assert isinstance(outcome, roost.Done)
        assert outcome.value == Number(n=2)


@pytest.mark.parametrize(
    "note",
    [b"junk", b'{"k": 1}', b'{"k": "many", "event": "failed", "by": "", "at": 0}', b"[" * 3000],
)
async def test_notes_of_strangers_are_passed_over(nats_url: str, namespace: str, note: bytes) -> None:
    tries: list[int] = []

    async def flaky(value: Number, ctx: roost.Context) -> Number:
        tries.append(ctx.attempt)
        if len(tries) == 1:
            raise ValueError
        return value

    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as nc:
        handle = await bus.submit(add, Number(n=1))
        await put(nc, f"{namespace}.run.{handle.id}.note.add.{handle.id}.7", note)
        async with bus.serving(agent_of(add, flaky)):
            assert await handle.result(timeout_s=SOON_S) == Number(n=1)
    assert tries == [1, 2]


async def test_an_outcome_that_is_none_is_an_error_for_who_reads_it_only(
    nats_url: str, namespace: str
) -> None:
    junk: list[Any] = [b"", b"null", b'{"status": "done"}', b'{"status":"maybe","token":"","attempts":[]}']
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        stranger(nats_url) as nc,
        bus.serving(agent_of(add, plus_one)),
    ):
        for n, data in enumerate(junk):
            await put(nc, f"{namespace}.run.junk{n}.end.add.junk{n}", data)
            with pytest.raises(roost.InvalidMessage):
                await bus.handle(add, f"junk{n}").outcome(timeout_s=SOON_S)
        assert await (await bus.submit(add, Number(n=1))).result(timeout_s=SOON_S) == Number(n=2)
