"""`ctx.once`: one record per name and task, over attempts and processes that die."""

from __future__ import annotations

import asyncio
import random
import signal
from collections import Counter
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

import roost
from roost.codec import Codec
from roost.server import LocalServer
from roost.tasks import Ref, once
from roost.tasks.once import result_type
from tasks.effects_process import CONCURRENCY, Sink, charged
from tasks.support import (
    SOON_S,
    Events,
    Number,
    agent_of,
    api,
    children,
    provision,
    put,
    records,
    stranger,
)

job = roost.Task("job", Number, int, retry=roost.Retry(attempts=3, base_s=0.01), ack_wait_s=10)


class Receipt(BaseModel):
    id: int


class NewReceipt(BaseModel):
    """As it is after a change of code that fits what is on record."""

    id: int
    note: str = ""


class Charge:
    """An effect that counts how often it was called."""

    def __init__(self, value: int = 7) -> None:
        self.calls = 0
        self._value = value

    async def __call__(self) -> int:
        self.calls += 1
        return self._value


async def outcome_of(
    bus: roost.Bus, handler: Callable[[Number, roost.Context], Awaitable[int]]
) -> roost.Outcome[int]:
    async with bus.serving(agent_of(job, handler)):
        handle = await bus.submit(job, Number(n=1))
        return await handle.outcome(timeout_s=SOON_S)


async def test_later_attempts_read_what_the_first_has_recorded(nats_url: str, namespace: str) -> None:
    charge = Charge()
    read: list[int] = []

    async def handler(value: Number, ctx: roost.Context) -> int:
        read.append(await ctx.once("charge", charge))
        if ctx.attempt < 3:
            raise ValueError("something else fails")
        return read[-1]

    async with roost.connect(nats_url, namespace=namespace) as bus:
        assert isinstance(await outcome_of(bus, handler), roost.Done)
        assert read == [7, 7, 7]
        assert charge.calls == 1
        assert len(await bus.log.read_all(f"{namespace}.run.*.once.>")) == 1


async def test_every_name_and_every_task_has_a_record_of_its_own(nats_url: str, namespace: str) -> None:
    """Names are any text: these would be equal, or no subject, if they were not hashed."""
    names = ["a", "a.b", "a b", "a/b", "*", ">", "h_a", "x" * 300, "ä"]

    async def numbered(number: int) -> int:
        return number

    async def handler(value: Number, ctx: roost.Context) -> int:
        first = [await ctx.once(name, numbered, n + value.n) for n, name in enumerate(names)]
        again = [await ctx.once(name, numbered, -1) for name in names]
        assert again == first == [n + value.n for n in range(len(names))]
        return sum(first)

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(job, handler)):
        handles = await bus.submit_many(job, [Number(n=0), Number(n=100)])
        results = [await handle.result(timeout_s=SOON_S) for handle in handles]
        assert results == [36, 936]
        assert len(await bus.log.read_all(f"{namespace}.run.*.once.>")) == 2 * len(names)


async def test_a_process_killed_between_effect_and_record_repeats_it_with_the_same_key(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    file = tmp_path / "sink.db"
    async with roost.connect(nats_url, namespace=namespace) as bus, children() as start:
        handle = await bus.submit(charged, Number(n=1))
        where = (nats_url, namespace, str(file))
        first = await start("hangs-before-the-record", *where, module="effects_process")
        await first.says("charged")
        first.signal(signal.SIGKILL)
        await start("works", *where, module="effects_process")
        result = await handle.result(timeout_s=SOON_S)
    assert Sink(file).calls() == [handle.id, handle.id]
    assert Sink(file).rows() == {handle.id: result}


async def test_a_process_killed_after_the_record_does_not_repeat_the_effect(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    file = tmp_path / "sink.db"
    async with roost.connect(nats_url, namespace=namespace) as bus, children() as start:
        handle = await bus.submit(charged, Number(n=1))
        where = (nats_url, namespace, str(file))
        first = await start("hangs-after-the-record", *where, module="effects_process")
        await first.says("recorded")
        first.signal(signal.SIGKILL)
        await start("works", *where, module="effects_process")
        result = await handle.result(timeout_s=SOON_S)
    assert Sink(file).calls() == [handle.id]
    assert Sink(file).rows() == {handle.id: result}


async def test_a_sink_has_one_row_per_key_and_calls_repeat_only_where_a_kill_fell(
    nats_url: str, namespace: str, tmp_path: Path, seed: int
) -> None:
    chance, file, kills = random.Random(seed), tmp_path / "sink.db", 0
    Sink(file)
    async with roost.connect(nats_url, namespace=namespace) as bus, children() as start:
        handles = await bus.submit_many(charged, [Number(n=n) for n in range(120)])
        ends = asyncio.gather(*(handle.result(timeout_s=40) for handle in handles))
        while not ends.done():
            worker = await start("works", nats_url, namespace, str(file), module="effects_process")
            if kills == 6:
                break
            for _ in range(chance.randrange(1, 25)):
                await worker.says(chance.choice(["charged", "recorded"]))
            worker.signal(signal.SIGKILL)
            kills += 1
        results = await ends
    sink = Sink(file)
    assert sink.rows() == {handle.id: row for handle, row in zip(handles, results, strict=True)}
    repeated = sum(Counter(sink.calls()).values()) - len(handles)
    assert repeated <= kills * CONCURRENCY
    print(f"{kills} kills, {repeated} calls repeated")


async def test_two_calls_of_one_name_at_once_have_one_effect(nats_url: str, namespace: str) -> None:
    """Bug: both found no record, and both called."""
    charge = Charge()

    async def handler(value: Number, ctx: roost.Context) -> int:
        return sum(await asyncio.gather(*(ctx.once("charge", charge) for _ in range(5))))

    async with roost.connect(nats_url, namespace=namespace) as bus:
        outcome = await outcome_of(bus, handler)
    assert isinstance(outcome, roost.Done)
    assert outcome.value == 35
    assert charge.calls == 1


async def test_an_effect_that_asks_for_itself_is_an_error_and_does_not_hang(
    nats_url: str, namespace: str
) -> None:
    async def handler(value: Number, ctx: roost.Context) -> int:
        async def inner() -> int:
            return await ctx.once("charge", inner)

        return await ctx.once("charge", inner)

    async with roost.connect(nats_url, namespace=namespace) as bus:
        outcome = await outcome_of(bus, handler)
    assert isinstance(outcome, roost.Dead)
    assert "under its own name" in outcome.letter.error


async def test_of_two_executions_at_once_both_get_the_result_that_was_recorded_first(
    nats_url: str, namespace: str
) -> None:
    """A paused process goes on beside the one that took its task over."""
    ref, codec = Ref("r", "job", "r"), roost_codec(int)
    both = asyncio.Barrier(2)

    async def charge(value: int) -> int:
        await both.wait()
        return value

    async with roost.connect(nats_url, namespace=namespace) as bus:
        await bus.log.ensure()
        found = await asyncio.gather(
            *(once(bus.log, ref, "charge", partial(charge, n), codec) for n in (1, 2))
        )
        assert found[0] == found[1]
        assert len(await bus.log.read_all(f"{namespace}.run.r.once.>")) == 1


async def test_an_effect_is_not_repeated_because_the_server_was_away_for_its_record(
    own_server: LocalServer,
) -> None:
    charge = Charge()

    async def effect() -> int:
        await asyncio.to_thread(own_server.kill)
        return await charge()

    async def handler(value: Number, ctx: roost.Context) -> int:
        return await ctx.once("charge", effect)

    async with roost.connect(own_server.url) as bus, bus.serving(agent_of(job, handler)):
        events = Events(bus)
        handle = await bus.submit(job, Number(n=1))
        await events.until("record_delayed")
        await asyncio.to_thread(own_server.restart)
        assert await handle.result(timeout_s=SOON_S) == 7
    assert charge.calls == 1


async def test_an_effect_is_not_repeated_because_the_store_was_full_for_its_record(
    nats_url: str, namespace: str
) -> None:
    charge, ref = Charge(), Ref("r", "job", "r")
    async with stranger(nats_url) as nc, roost.connect(nats_url, namespace=namespace) as bus:
        await provision(nc, namespace, max_bytes=100_000)
        while "error" not in await put(nc, f"{namespace}.run.junk.note.x.y.1", b"x" * 10_000):
            pass
        while "error" not in await put(nc, f"{namespace}.run.junk.note.x.y.1", b""):
            pass
        events = Events(bus)
        result = asyncio.ensure_future(once(bus.log, ref, "charge", charge, roost_codec(int)))
        assert "is full" in (await events.until("record_delayed"))[0].reason
        await api(nc, f"STREAM.PURGE.ROOST_{namespace}", {"filter": f"{namespace}.run.junk.>"})
        assert await result == 7
    assert charge.calls == 1


async def text() -> str:
    return "5"


async def number() -> int:
    return 5


async def truth() -> bool:
    return True


async def receipt() -> Receipt:
    return Receipt(id=5)


async def new_receipt() -> NewReceipt:
    return NewReceipt(id=5, note="paid")


async def nothing() -> None:
    return None


@pytest.mark.parametrize(
    ("before", "now", "said"),
    [
        (text, number, "which is no int"),
        (truth, number, "which is no int"),
        (text, receipt, "which is no Receipt"),
        (receipt, number, "which is no int"),
        (nothing, receipt, "which is no Receipt"),
    ],
)
async def test_another_type_on_record_than_the_code_wants_is_an_error_that_says_so(
    nats_url: str, namespace: str, before: Callable[[], Any], now: Callable[[], Any], said: str
) -> None:
    called: list[int] = []

    async def handler(value: Number, ctx: roost.Context) -> int:
        if ctx.attempt == 1:
            await ctx.once("charge", before)
            raise ValueError("new code is deployed")
        await ctx.once("charge", now)
        called.append(1)
        return 1

    async with roost.connect(nats_url, namespace=namespace) as bus:
        outcome = await outcome_of(bus, handler)
    assert isinstance(outcome, roost.Dead)
    assert said in outcome.letter.error
    assert "the effect was not repeated" in outcome.letter.error
    assert not called


@pytest.mark.parametrize(("before", "now"), [(receipt, new_receipt), (new_receipt, receipt)])
async def test_a_field_that_was_added_with_a_default_or_removed_is_no_other_type(
    nats_url: str, namespace: str, before: Callable[[], Any], now: Callable[[], Any]
) -> None:
    async def handler(value: Number, ctx: roost.Context) -> int:
        if ctx.attempt == 1:
            await ctx.once("charge", before)
            raise ValueError("new code is deployed")
        found = await ctx.once("charge", now)
        assert isinstance(found, Receipt | NewReceipt)
        assert type(found) is result_type(now)
        return found.id

    async with roost.connect(nats_url, namespace=namespace) as bus:
        outcome = await outcome_of(bus, handler)
    assert isinstance(outcome, roost.Done)
    assert outcome.value == 5


async def test_a_result_may_be_nothing_or_come_from_what_is_no_async_function(
    nats_url: str, namespace: str
) -> None:
    nothing_at_all: Callable[[], Awaitable[object]] = nothing

    def on_the_loop() -> Awaitable[int]:
        return asyncio.sleep(0, 5)

    async def handler(value: Number, ctx: roost.Context) -> int:
        found: object = await ctx.once("nothing", nothing_at_all)
        assert found is None
        plain: Any = lambda: 4  # noqa: E731 (mypy refuses a function that returns no awaitable)
        assert await ctx.once("plain", plain) == 4
        assert await ctx.once("charge", Charge(3)) == 3
        return await ctx.once("awaitable", on_the_loop)

    async with roost.connect(nats_url, namespace=namespace) as bus:
        outcome = await outcome_of(bus, handler)
    assert isinstance(outcome, roost.Done), outcome
    assert outcome.value == 5


async def test_a_result_that_is_too_large_is_refused_with_size_and_limit(
    nats_url: str, namespace: str
) -> None:
    """Bug: the effect was repeated by each attempt, and the error said that it had reached no handler."""
    calls: list[int] = []

    async def long() -> str:
        calls.append(1)
        return "x" * (256 * 1024)

    async def handler(value: Number, ctx: roost.Context) -> int:
        return len(await ctx.once("long", long))

    async with roost.connect(nats_url, namespace=namespace) as bus:
        outcome = await outcome_of(bus, handler)
        assert await records(bus, "once") == []
    assert isinstance(outcome, roost.Dead)
    assert calls == [1]
    assert outcome.letter.reason.startswith("ctx.once 'long' has run, but its result cannot be kept: ")
    assert "262146 bytes, allowed are 262144" in outcome.letter.reason


async def test_a_result_that_the_stream_does_not_take_is_not_asked_for_again(
    nats_url: str, namespace: str
) -> None:
    calls: list[int] = []

    async def wide() -> str:
        calls.append(1)
        async with stranger(nats_url) as nc:
            config = (await api(nc, f"STREAM.INFO.ROOST_{namespace}"))["config"] | {"max_msg_size": 1000}
            await api(nc, f"STREAM.UPDATE.ROOST_{namespace}", config)
        return "x" * 2000

    async def handler(value: Number, ctx: roost.Context) -> int:
        return len(await ctx.once("wide", wide))

    async with roost.connect(nats_url, namespace=namespace) as bus:
        outcome = await outcome_of(bus, handler)
    assert isinstance(outcome, roost.Dead)
    assert calls == [1]
    assert "cannot be kept" in outcome.letter.reason
    assert "max_msg_size" in outcome.letter.reason


async def test_where_there_is_no_task_there_is_no_record(nats_url: str, namespace: str) -> None:
    asked = roost.Endpoint("asked", Number, Number)
    agent = roost.Agent("asker")

    @agent.handles(asked)
    async def answer(value: Number, ctx: roost.Context) -> Number:
        with pytest.raises(roost.ConfigError, match="works in tasks"):
            await ctx.once("charge", number)
        return value

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        assert await bus.request(asked, Number(n=1)) == Number(n=1)


def roost_codec(model: type[int]) -> Codec[int]:
    return Codec(model)
