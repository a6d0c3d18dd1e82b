"""Dead letters: their reason and history, their listing, and submitting their work again."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest

import roost
from roost.contracts import Retry
from roost.tasks import Ref, outcomes
from roost.tasks.records import encode_dead
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
    until,
)
from tasks.test_full_store import enlarge, fill
from tasks.worker_process import doomed

picky = roost.Task("picky", Number, Number, retry=Retry(attempts=2, base_s=0.01))
other = roost.Task("other", Number, Number)


async def only_even(value: Number) -> Number:
    if value.n % 2:
        raise ValueError(f"{value.n} is odd")
    return value


async def refuse(value: Number) -> Number:
    raise roost.Reject("never")


async def die(bus: roost.Bus, *numbers: int) -> list[roost.DeadLetter]:
    """The letters of tasks with these numbers as keys, in this order of dying."""
    letters = []
    for n in numbers:
        outcome = await (await bus.submit(picky, Number(n=n), key=str(n))).outcome(timeout_s=SOON_S)
        assert isinstance(outcome, roost.Dead)
        letters.append(outcome.letter)
    return letters


async def test_a_letter_has_reason_last_error_history_and_input(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(picky, only_even)):
        (from_outcome,) = await die(bus, 1)
        (listed,) = await bus.dead_letters()
    assert from_outcome.reason == listed.reason == "2 attempts failed, the last with ValueError: 1 is odd"
    assert listed.error == "ValueError: 1 is odd"
    assert listed.attempts == 2
    assert [(one.number, one.result, one.error) for one in listed.history] == [
        (1, "failed", "ValueError: 1 is odd"),
        (2, "failed", "ValueError: 1 is odd"),
    ]
    assert (listed.run, listed.name, listed.id) == ("picky:1", "picky", "picky:1")
    assert json.loads(listed.input) == {"n": 1}
    assert listed.died_s >= (listed.history[1].ended_s or 0) - 0.1


async def test_letters_are_listed_oldest_first_by_contract_and_up_to_a_limit(
    nats_url: str, namespace: str
) -> None:
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        bus.serving(agent_of(picky, only_even)),
        bus.serving(agent_of(other, refuse)),
    ):
        await die(bus, 5, 3, 1)
        await (await bus.submit(other, Number(n=0), key="0")).outcome(timeout_s=SOON_S)
        await (await bus.submit(picky, Number(n=2), key="2")).outcome(timeout_s=SOON_S)
        assert [one.id for one in await bus.dead_letters()] == ["picky:5", "picky:3", "picky:1", "other:0"]
        assert [one.id for one in await bus.dead_letters(picky, limit=2)] == ["picky:5", "picky:3"]
        assert [one.id for one in await bus.dead_letters(other)] == ["other:0"]


async def test_a_thousand_letters_are_listed(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(other, refuse)):
        handles = await bus.submit_many(other, [Number(n=n) for n in range(1100)])
        await asyncio.gather(*(handle.outcome(timeout_s=SOON_S) for handle in handles))
        assert {one.id for one in await bus.dead_letters()} == {handle.id for handle in handles}


async def test_a_replay_runs_the_same_input_again_and_the_letter_is_kept(
    nats_url: str, namespace: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of(picky, only_even)):
            (letter,) = await die(bus, 1)

        async def mended(value: Number) -> Number:
            return Number(n=value.n * 100)

        async with bus.serving(agent_of(picky, mended)):
            handle = await bus.replay(picky, letter)
            assert await handle.result(timeout_s=SOON_S) == Number(n=100)
        (kept,) = await bus.dead_letters()
        assert kept.replays == ("picky:1:r1",)
        assert isinstance(await bus.handle(picky, letter.id).outcome(timeout_s=SOON_S), roost.Dead)
        assert await bus.handle(picky, handle.id).result(timeout_s=SOON_S) == Number(n=100)


async def test_a_replay_may_have_another_payload(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(picky, only_even)):
        (letter,) = await die(bus, 1)
        handle = await bus.replay(picky, letter.id, Number(n=8))
        assert await handle.result(timeout_s=SOON_S) == Number(n=8)


async def test_a_replay_that_dies_can_be_replayed(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(picky, only_even)):
        (letter,) = await die(bus, 1)
        again = await (await bus.replay(picky, letter)).outcome(timeout_s=SOON_S)
        assert isinstance(again, roost.Dead)
        last = await bus.replay(picky, again.letter, Number(n=2))
        assert await last.result(timeout_s=SOON_S) == Number(n=2)


async def test_the_same_letter_replayed_twice_is_one_task(nats_url: str, namespace: str) -> None:
    """Bug: whoever came a millisecond after the first replay was noted made another one."""
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of(picky, only_even)):
            (letter,) = await die(bus, 1)
        at_once = await asyncio.gather(bus.replay(picky, letter), bus.replay(picky, letter))
        later = await bus.replay(picky, letter)
        assert sorted(handle.created for handle in (*at_once, later)) == [False, False, True]
        assert {handle.id for handle in (*at_once, later)} == {"picky:1/picky/picky:1:r1"}


async def test_a_replay_whose_author_died_before_noting_it_is_found_not_doubled(
    nats_url: str, namespace: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as nc:
        async with bus.serving(agent_of(picky, only_even)):
            (letter,) = await die(bus, 1)
        half = f"{namespace}.run.picky:1.task.picky.picky:1:r1"
        await put(nc, half, b'{"n":1}', {"Nats-Expected-Last-Subject-Sequence": "0"})
        handle = await bus.replay(picky, letter)
        assert (handle.id, handle.created) == ("picky:1/picky/picky:1:r1", False)
        (listed,) = await bus.dead_letters()
        assert listed.replays == ("picky:1:r1",)


async def test_what_is_not_dead_cannot_be_replayed(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(picky, only_even)):
        done = await bus.submit(picky, Number(n=2), key="2")
        await done.result(timeout_s=SOON_S)
        (letter,) = await die(bus, 1)
        for wrong in (done.id, "picky:nobody"):
            with pytest.raises(roost.ConfigError, match="no dead letter"):
                await bus.replay(picky, wrong)
        with pytest.raises(roost.ConfigError, match="belongs to"):
            await bus.replay(other, letter)
        assert len(await records(bus, "task")) == 2


async def test_a_letter_whose_writer_died_before_listing_it_is_listed_by_the_next(
    nats_url: str, namespace: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as nc:
        handle = await bus.submit(picky, Number(n=1), key="1")
        ref = handle.ref
        end = encode_dead("a.1", [], "its writer died after this")
        await put(nc, bus.log.subjects.end(ref), end)
        assert await bus.dead_letters() == []
        async with bus.serving(agent_of(picky, only_even)):
            await until(lambda: bus.counters["redelivered_after_end"] > 0)
        (letter,) = await bus.dead_letters()
        assert letter.reason == "its writer died after this"
        assert len(await records(bus, "end")) == 1


async def test_an_unreadable_letter_is_passed_over_counted_and_hides_no_other(
    nats_url: str, namespace: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as nc:
        events = Events(bus)
        async with bus.serving(agent_of(picky, only_even)):
            await die(bus, 1)
        junk = Ref("junk", "picky", "junk")
        await put(nc, bus.log.subjects.end(junk), b"\xff not json")
        await put(nc, bus.log.subjects.dead(junk), b"[" * 1000)
        await put(nc, bus.log.subjects.dead(Ref("half", "picky", "half")), b"{}")
        assert [one.id for one in await bus.dead_letters()] == ["picky:1"]
        assert len(events.of("record_unreadable")) == 1


async def test_a_letter_is_stored_and_listed_before_its_delivery_is_acknowledged_also_on_a_full_store(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its writer is killed between `end` and index, and the store takes nothing for a while."""
    monkeypatch.setattr(outcomes, "FULL_DELAY_S", 0.2)
    limit = 300_000
    async with stranger(nats_url) as nc:
        await provision(nc, namespace, max_bytes=limit)

        async def acknowledged() -> int:
            info = await api(nc, f"CONSUMER.INFO.ROOST_{namespace}.task_{doomed.name}")
            floor: int = info["ack_floor"]["stream_seq"]
            assert info["num_ack_pending"] == (0 if floor else 1)
            return floor

        async with roost.connect(nats_url, namespace=namespace) as bus, children() as start:
            events = Events(bus)
            worker = await start("dies-at-index", nats_url, namespace)
            await worker.says("ready")
            handle = await bus.submit(doomed, Number(n=1))
            assert await worker.ended() == -signal.SIGKILL
            assert len(await records(bus, "end")) == 1
            assert await records(bus, "dead") == []
            assert await acknowledged() == 0
            await fill(nats_url, namespace)
            async with bus.serving(agent_of(doomed, refuse)):
                handed_back = await events.until("task_handed_back", 3)
                assert all("could not be listed" in event.reason for event in handed_back)
                assert await acknowledged() == 0
                await enlarge(nats_url, namespace, 2 * limit)
                async with asyncio.timeout(SOON_S):
                    while not await acknowledged():
                        pass
            (letter,) = await bus.dead_letters()
            assert letter.ref == handle.ref
            assert len(await records(bus, "end")) == len(await records(bus, "dead")) == 1
