"""Payloads above 256 KiB go by reference, and nobody who submits, handles or waits sees a difference."""

from __future__ import annotations

import asyncio
import hashlib
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from nats.js.api import StreamConfig

import roost
from roost.contracts import Limits
from roost.errors import Conflict, InvalidMessage, StoreFull, TooLarge
from roost.runs.fork import fork_run
from roost.server import LocalServer
from roost.tasks import objects as objects_module
from roost.tasks import outcomes
from roost.tasks.administer import Size, provision
from roost.tasks.dead import find_dead, input_of, replay_raw
from roost.tasks.references import CHUNK_BYTES, INLINE_BYTES, Reference
from roost.upkeep.objects import Objects
from runs.support import agent_of as agents
from tasks.large_process import echo
from tasks.support import SOON_S, Events, agent_of, api, children, stranger
from upkeep.support import prune

KIB, MIB = 1024, 1024 * 1024
quick = roost.Retry(attempts=2, base_s=0.01)
large = Limits(max_bytes=8 * MIB)
double = roost.Task("twofold", str, str, retry=quick, ack_wait_s=1, limits=large)
refuse = roost.Task("refuse", str, str, retry=quick, limits=large)
never = roost.Task("never", str, str, limits=large)
"""Nobody does these."""
gather = roost.Workflow("gather", str, str, ack_wait_s=1, limits=large)


async def twice(value: str) -> str:
    return value * 2


async def reject(value: str) -> str:
    if value.startswith("good"):
        return value
    raise roost.Reject("not good")


def text(size: int) -> str:
    """A text that has `size` bytes as JSON, and no two chunks alike."""
    line = "".join(f"{number:07d}" for number in range(size // 7 + 1))
    return line[: size - 2]


@asynccontextmanager
async def connected(url: str, namespace: str, *served: roost.Agent[None]) -> AsyncIterator[roost.Bus]:
    async with roost.connect(url, namespace=namespace) as bus, bus.serving(*served):
        yield bus


async def inputs(bus: roost.Bus, task: roost.Task[str, str]) -> list[bytes]:
    """What the records of the inputs of a contract hold."""
    return [one.data for one in await bus.log.read_all(bus.log.subjects.tasks_of(task.name))]


async def consumers(bus: roost.Bus) -> int:
    """Of the stream of objects."""
    info = await bus.log.objects.info()
    return int(info["state"]["consumer_count"])


async def test_large_inputs_and_results_come_as_they_were_sent(nats_url: str, namespace: str) -> None:
    sizes = (300 * KIB, 2 * MIB + 5)
    async with connected(nats_url, namespace, agent_of(double, twice)) as bus:
        handles = [await bus.submit(double, text(size)) for size in sizes]
        for handle, size in zip(handles, sizes, strict=True):
            assert await handle.result(timeout_s=SOON_S) == text(size) * 2
            (end,) = await bus.log.read_all(f"{namespace}.run.{handle.id}.end.>")
            assert len(end.data) < 1000
            again = await bus.handle(double, handle.id).outcome(timeout_s=SOON_S)
            assert isinstance(again, roost.Done)
            assert [one.number for one in again.history] == [1]
        assert all(len(one) < 200 for one in await inputs(bus, double))
        assert len(await bus.log.objects.names()) == 4


async def test_up_to_256_kib_the_record_has_the_payload(nats_url: str, namespace: str) -> None:
    async with connected(nats_url, namespace) as bus:
        for size in (INLINE_BYTES, INLINE_BYTES + 1):
            await bus.submit(never, text(size))
        at, above = await inputs(bus, never)
        assert len(at) == INLINE_BYTES
        reference = Reference.of(above, subject="")
        assert reference.size == INLINE_BYTES + 1
        assert reference.sha256 == hashlib.sha256(f'"{text(INLINE_BYTES + 1)}"'.encode()).hexdigest()


async def test_a_key_stands_for_one_large_input(nats_url: str, namespace: str) -> None:
    value = text(300 * KIB)
    async with connected(nats_url, namespace) as bus, connected(nats_url, namespace) as other:
        first = await bus.submit(never, value, key="a")
        again = await other.submit(never, value, key="a")
        assert (first.created, again.created) == (True, False)
        for different in (value[:-1] + "x", "small"):
            with pytest.raises(Conflict):
                await bus.submit(never, different, key="a")
        await bus.submit(never, "small", key="b")
        with pytest.raises(Conflict):
            await bus.submit(never, value, key="b")
        assert len(await bus.log.objects.names()) == 1

        async def at_once(bus: roost.Bus) -> bool:
            return (await bus.submit(never, value, key="c")).created

        assert sorted(await asyncio.gather(at_once(bus), at_once(other))) == [False, True]

        values = [text(300 * KIB + number) for number in range(3)]
        handles = await bus.submit_many(never, [*values, values[0]], keys=["0", "1", "2", "0"])
        assert [one.created for one in handles] == [True] * 4
        handles = await bus.submit_many(never, values, keys=["0", "1", "2"])
        assert [one.created for one in handles] == [False] * 3
        with pytest.raises(Conflict):
            await bus.submit_many(never, values[:2], keys=["9", "9"])
        with pytest.raises(Conflict):
            await bus.submit_many(never, values, keys=["2", "1", "0"])


async def test_a_worker_killed_between_object_and_outcome_does_no_harm(nats_url: str, namespace: str) -> None:
    value = text(300 * KIB)
    async with connected(nats_url, namespace) as bus, children() as start:
        handle = await bus.submit(echo, value)
        worker = await start("dies", nats_url, namespace, module="large_process")
        assert await worker.ended() == -signal.SIGKILL
        before = set(await bus.log.objects.names())
        assert len(before) == 2
        await start("plain", nats_url, namespace, module="large_process")
        assert await handle.result(timeout_s=SOON_S) == value
        after = set(await bus.log.objects.names())
        assert len(after) == 3

        duty = Objects(bus.log, orphan_s=0.0)
        await Objects(bus.log).run_once()
        assert set(await bus.log.objects.names()) == after
        await duty.run_once()
        (left,) = after - set(await bus.log.objects.names())
        assert left in before
        assert f".end.{echo.name}." in left
        assert await bus.handle(echo, handle.id).result(timeout_s=SOON_S) == value


async def test_an_object_without_a_record_is_kept_until_it_has_had_none_for_long(
    nats_url: str, namespace: str
) -> None:
    async with connected(nats_url, namespace) as bus:
        cancelled = await bus.submit(never, text(300 * KIB))
        kept = await bus.submit(never, text(300 * KIB))
        await cancelled.cancel()
        await bus.log.objects.put(f"{namespace}.run.gone.task.never.gone", b"x" * 1000)
        async with stranger(nats_url) as nc:
            await nc.jetstream().publish(f"$O.ROOST_{namespace}.C.*.task.never.*.*", b"x")
        duty = Objects(bus.log, orphan_s=0.05)
        await duty.run_once()
        assert len(await bus.log.objects.names()) == 4
        await asyncio.sleep(0.06)
        await duty.run_once()
        names = await bus.log.objects.names()
        assert sorted(one.partition(".")[0] for one in names) == ["*", kept.id]
        assert bus.counters["removed:objects"] == 2


async def test_large_payloads_outlive_the_server(own_server: LocalServer) -> None:
    value = text(MIB)
    async with connected(own_server.url, "shop") as bus:
        events = Events(bus)
        handle = await bus.submit(double, value)
        await asyncio.to_thread(own_server.restart)
        await events.until("reconnected")
        async with bus.serving(agent_of(double, twice)):
            assert await handle.result(timeout_s=SOON_S) == value * 2


@pytest.mark.parametrize("how", ["missing", "damaged", "shortened", "stream"])
async def test_a_lost_input_is_a_dead_letter_that_says_so(nats_url: str, namespace: str, how: str) -> None:
    async with connected(nats_url, namespace) as bus, stranger(nats_url) as nc:
        handle = await bus.submit(double, text(300 * KIB))
        (name,) = await bus.log.objects.names()
        stream, chunks = f"OBJ_ROOST_{namespace}", f"$O.ROOST_{namespace}.C.{name}"
        if how == "missing":
            await bus.log.objects.remove(name)
        elif how == "stream":
            await api(nc, f"STREAM.DELETE.{stream}")
            bus.link.jetstream._new_until = 0.0  # it is not looked for as one that is about to appear
        else:
            answer = await api(nc, f"STREAM.MSG.DELETE.{stream}", {"seq": 1})
            assert answer["success"]
            if how == "damaged":
                await nc.jetstream().publish(chunks, b"x" * CHUNK_BYTES)
        async with bus.serving(agent_of(double, twice)):
            outcome = await handle.outcome(timeout_s=SOON_S)
        assert isinstance(outcome, roost.Dead)
        word = {"missing": "is missing", "damaged": "is damaged", "shortened": "has ", "stream": "is missing"}
        assert outcome.letter.reason.startswith("invalid input: payload: its 307200 bytes")
        assert word[how] in outcome.letter.reason
        assert stream in outcome.letter.reason


async def test_a_lost_result_is_an_error_for_who_waits(nats_url: str, namespace: str) -> None:
    async with connected(nats_url, namespace, agent_of(double, twice)) as bus:
        handle = await bus.submit(double, text(200 * KIB))
        await handle.result(timeout_s=SOON_S)
        (name,) = await bus.log.objects.names()
        await bus.log.objects.remove(name)
        with pytest.raises(InvalidMessage, match="is missing"):
            await bus.handle(double, handle.id).outcome(timeout_s=SOON_S)


async def test_a_reference_that_is_none_is_a_dead_letter(nats_url: str, namespace: str) -> None:
    async with (
        connected(nats_url, namespace, agent_of(double, twice)) as bus,
        stranger(nats_url) as nc,
    ):
        for number, data in enumerate((b"{}", b"[", b'{"object":"../x","bytes":1,"sha256":""}', b"null")):
            subject = f"{namespace}.run.s{number}.task.twofold.s{number}"
            await nc.jetstream().publish(subject, data, headers={"Roost-Object": "x"})
            outcome = await bus.handle(double, f"s{number}").outcome(timeout_s=SOON_S)
            assert isinstance(outcome, roost.Dead)
            assert "invalid input: object" in outcome.letter.reason


async def test_a_worker_reads_no_more_than_its_contract_allows(nats_url: str, namespace: str) -> None:
    small = roost.Task("twofold", str, str, retry=quick, ack_wait_s=1)
    async with connected(nats_url, namespace) as bus:
        handle = await bus.submit(double, text(300 * KIB))
        await bus.log.objects.remove(*await bus.log.objects.names())  # if it were read, that would be said
        async with bus.serving(agent_of(small, twice)):
            outcome = await handle.outcome(timeout_s=SOON_S)
    assert isinstance(outcome, roost.Dead)
    assert "307200 bytes, allowed are 262144" in outcome.letter.reason


async def test_dead_letters_of_large_inputs_are_replayed_and_edited(nats_url: str, namespace: str) -> None:
    value = text(300 * KIB)
    async with connected(nats_url, namespace, agent_of(refuse, reject)) as bus:
        outcome = await (await bus.submit(refuse, value)).outcome(timeout_s=SOON_S)
        assert isinstance(outcome, roost.Dead)
        letter = await find_dead(bus.log, outcome.letter.ref)
        assert await input_of(bus.log, letter) == f'"{value}"'.encode()

        again = await bus.replay(refuse, letter)
        assert isinstance(await again.outcome(timeout_s=SOON_S), roost.Dead)
        edited = await bus.replay(refuse, letter.id, "good" + value)
        assert await edited.result(timeout_s=SOON_S) == "good" + value
        raw = await replay_raw(bus.log, letter.ref)
        assert isinstance(await bus.handle(refuse, str(raw.ref)).outcome(timeout_s=SOON_S), roost.Dead)
        raw = await replay_raw(bus.log, letter.ref, f'"good{value}"'.encode())
        assert await bus.handle(refuse, str(raw.ref)).result(timeout_s=SOON_S) == "good" + value
        names = await bus.log.objects.names()
        assert {one.partition(".")[0] for one in names} == {letter.run}
        assert len(names) == 7


async def test_workflows_fan_out_resume_and_fork_large_values(nats_url: str, namespace: str) -> None:
    values = [text(300 * KIB + number) for number in range(3)]

    async def plan(value: str, run: roost.Run) -> str:
        async with run.map(double, values, name="all", ordered=True) as outcomes:
            found = [one.value async for one in outcomes if isinstance(one, roost.Done)]
        assert found == [value * 2 for value in values]
        called = await run.call(double, value)
        await run.step("last", step)
        return called

    done: list[int] = []
    runs = 0
    go_on = asyncio.Event()

    async def noted(value: str) -> str:
        done.append(len(value))
        return value * 2

    async def step() -> None:
        nonlocal runs
        runs += 1
        if runs == 1:
            raise RuntimeError("so that it is resumed")
        if runs == 3:
            await go_on.wait()

    async with connected(nats_url, namespace, agents((gather, plan), (double, noted))) as bus:
        value = text(400 * KIB)
        run = await bus.start(gather, value, key="1")
        assert await run.result(timeout_s=SOON_S) == value * 2
        info = await bus.log._stream_info()
        assert int(info["state"]["bytes"]) < 60 * KIB
        copy = bus.handle(gather, str(await fork_run(bus.log, run.id, before="last")))
        assert (await prune(bus)).runs == 1
        go_on.set()
        assert await copy.result(timeout_s=SOON_S) == value * 2
        assert len(done) == 4  # neither the resumption nor the fork has done one again


async def test_pruned_runs_take_their_objects_along(nats_url: str, namespace: str) -> None:
    async with connected(nats_url, namespace, agent_of(double, twice)) as bus:
        open = await bus.submit(never, text(300 * KIB))
        for _ in range(2):
            await (await bus.submit(double, text(300 * KIB))).result(timeout_s=SOON_S)
        await prune(bus, dry_run=True)
        assert len(await bus.log.objects.names()) == 5
        assert (await prune(bus)).runs == 2
        (left,) = await bus.log.objects.names()
        assert left.startswith(f"{open.id}.task.")
        assert (await bus.log.objects.info())["state"][
            "messages"
        ] == 4  # three chunks, and what is said of them


async def test_reads_leave_nothing_behind_on_the_server(nats_url: str, namespace: str) -> None:
    async with connected(nats_url, namespace) as bus, stranger(nats_url) as nc:
        handle = await bus.submit(never, text(300 * KIB))
        (record,) = await bus.log.read_all(bus.log.subjects.task(handle.ref))
        subscriptions = len(bus.link.client._listeners)
        for _ in range(50):
            await bus.log.objects.fetch(record.subject, record.data)
        assert await consumers(bus) == 0
        assert len(bus.link.client._listeners) == subscriptions
        assert (await api(nc, f"CONSUMER.NAMES.OBJ_ROOST_{namespace}"))["total"] == 0


async def test_what_a_replica_does_not_have_yet_is_read_from_the_leader(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with connected(nats_url, namespace) as bus:
        handle = await bus.submit(never, text(300 * KIB))
        (record,) = await bus.log.read_all(bus.log.subjects.task(handle.ref))

        async def lags(stream: str, query: dict[str, object]) -> list[object]:
            return []

        monkeypatch.setattr(bus.link.jetstream, "read", lags)
        found = await bus.log.objects.fetch(record.subject, record.data)
        assert found == f'"{text(300 * KIB)}"'.encode()


async def test_other_clients_read_it_as_an_object_store(nats_url: str, namespace: str) -> None:
    value = text(300 * KIB)
    async with connected(nats_url, namespace) as bus, stranger(nats_url) as nc:
        await bus.submit(never, value)
        (name,) = await bus.log.objects.names()
        store = await nc.jetstream().object_store(f"ROOST_{namespace}")
        assert [(one.name, one.size) for one in await store.list()] == [(name, 300 * KIB)]
        assert (await store.get(name)).data == f'"{value}"'.encode()


async def test_nothing_is_sent_of_what_is_too_large(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = roost.Topic("large.note", str)
    ask = roost.Endpoint("ask", str, str)
    plain = roost.Task("plain", str, str)
    async with connected(nats_url, namespace) as bus:
        await bus.log.ensure()
        sent = bus.link.client.stats["out_bytes"]
        for attempt in (
            bus.publish(note, "x" * INLINE_BYTES),
            bus.request(ask, "x" * INLINE_BYTES),
            bus.submit(plain, "x" * INLINE_BYTES),
            bus.submit(never, "x" * (8 * MIB)),
        ):
            with pytest.raises(TooLarge) as caught:
                await attempt
            assert caught.value.size == caught.value.limit + 2
            assert f"{caught.value.size} bytes, allowed are {caught.value.limit}" in str(caught.value)
        with pytest.raises(TooLarge, match=r"^Task 'plain': .* limits=Limits\(max_bytes=…\), up to 64 MiB"):
            await bus.submit(plain, "x" * INLINE_BYTES)
        monkeypatch.setattr(objects_module, "MOST_BYTES", MIB)
        with pytest.raises(TooLarge, match="allowed are 1048576"):
            await bus.submit(never, text(2 * MIB))
        assert bus.link.client.stats["out_bytes"] - sent < 10 * KIB
        assert await bus.log.objects.info() is None


async def test_a_full_store_of_objects_refuses_and_harms_no_small_payload(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(outcomes, "FULL_DELAY_S", 0.2)
    async with connected(nats_url, namespace, agent_of(double, twice)) as bus:
        (_, created) = await provision(bus.log, size=Size(object_bytes=MIB))
        assert (created.what, created.action) == (f"stream OBJ_ROOST_{namespace}", "created")
        await bus.submit(never, text(700 * KIB))
        for attempt in (
            bus.submit(never, text(300 * KIB)),
            bus.submit_many(never, [text(300 * KIB)]),
        ):
            with pytest.raises(StoreFull) as caught:
                await attempt
            assert caught.value.stream == f"OBJ_ROOST_{namespace}"
            assert caught.value.limit == MIB
        assert await (await bus.submit(double, "small")).result(timeout_s=SOON_S) == "smallsmall"
        events = Events(bus)
        waiting = await bus.submit(double, text(200 * KIB))
        handed_back = await events.until("task_handed_back")
        assert f"OBJ_ROOST_{namespace} is full" in handed_back[0].reason
        await provision(bus.log, size=Size(object_bytes=8 * MIB))
        assert await waiting.result(timeout_s=SOON_S) == text(200 * KIB) * 2


async def test_a_stream_that_is_configured_otherwise_is_refused(nats_url: str, namespace: str) -> None:
    async with connected(nats_url, namespace) as bus, stranger(nats_url) as nc:
        await nc.jetstream().add_stream(
            StreamConfig(name=f"OBJ_ROOST_{namespace}", subjects=[f"$O.ROOST_{namespace}.C.>"])
        )
        with pytest.raises(roost.errors.ConfigMismatch, match="allow_direct"):
            await bus.submit(never, text(300 * KIB))


async def test_outcomes_that_are_reported_are_whole(nats_url: str, namespace: str) -> None:
    told: asyncio.Queue[object] = asyncio.Queue()
    reporter = roost.Agent("teller")

    @reporter.reports(double)
    async def report(outcome: roost.Outcome[str], ctx: roost.Context) -> None:
        told.put_nowait(outcome)

    async with connected(nats_url, namespace, agent_of(double, twice), reporter) as bus:
        await bus.submit(double, text(300 * KIB))
        async with asyncio.timeout(SOON_S):
            outcome = await told.get()
        assert isinstance(outcome, roost.Done)
        assert outcome.value == text(300 * KIB) * 2
