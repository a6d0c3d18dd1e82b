"""The epoch: what a lost answer, a late write and another coordinator may do to a record."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest

import roost
from roost.errors import JetStreamError, RequestTimeout
from roost.runs.epoch import Ended, Fence, Fenced, take_over
from roost.runs.records import RunSubjects
from roost.tasks.batch import Write, create_once
from roost.tasks.records import Ref
from roost.transport import Message
from roost.transport.requests import Requests
from runs.support import Events, put, stranger

REF = Ref("wf:one", "wf", "wf:one")


def place(bus: roost.Bus) -> RunSubjects:
    return RunSubjects(bus.namespace, REF.run)


async def begun(bus: roost.Bus, by: str = "tester") -> Fence:
    await bus.log.ensure()
    return await take_over(bus.log, place(bus), REF, by=by)


async def count(bus: roost.Bus, subject: str) -> int:
    return len(await bus.log.read_all(subject))


Verdict = Callable[[str, int], str]
"""What becomes of the n-th message to a subject: ``pass``, ``answer lost``, ``late``, ``slow`` or ``not sent``."""


@pytest.fixture
def faults(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Lets messages to records be lost, or arrive late: `release` sends what is late."""
    original = Requests.ask
    seen: dict[str, int] = {}

    class Faults:
        verdict: Verdict = staticmethod(lambda subject, n: "pass")
        late: list[Any] = []  # noqa: RUF012 (one per test)
        slow_until = asyncio.Event()

        async def release(self) -> list[bytes]:
            return [(await one()).data for one in self.late]

    found = Faults()
    found.late = []
    found.slow_until = asyncio.Event()

    async def ask(
        self: Requests, subject: str, data: bytes = b"", head: bytes = b"", *, timeout_s: float
    ) -> Message:
        if subject.startswith("$"):
            return await original(self, subject, data, head, timeout_s=timeout_s)
        seen[subject] = seen.get(subject, 0) + 1
        verdict = found.verdict(subject, seen[subject])
        if verdict == "late":
            found.late.append(lambda: original(self, subject, data, head, timeout_s=5))
            raise RequestTimeout(subject, timeout_s)
        if verdict == "slow":
            await found.slow_until.wait()
        if verdict == "not sent":
            raise roost.NotConnected(subject)
        answer = await original(self, subject, data, head, timeout_s=timeout_s)
        if verdict == "answer lost":
            raise RequestTimeout(subject, timeout_s)
        return answer

    monkeypatch.setattr(Requests, "ask", ask)
    return found


async def test_a_takeover_refuses_every_later_write_of_the_one_before(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        first = await begun(bus, "first")
        await first.write(place(bus).step("a"), b"{}")
        second = await begun(bus, "second")
        assert (first.before, second.before) == (0, first.seq)
        with pytest.raises(Fenced):
            await first.write(place(bus).step("b"), b"{}")
        with pytest.raises(Fenced):
            await first.commit(
                [Write(place(bus).step("t"), b"{}", create_once(""))], place(bus).step("b"), b"{}"
            )
        with pytest.raises(Fenced):
            await first.check()
        with pytest.raises(Fenced):
            await first.settle(first.seq)
        await second.write(place(bus).step("b"), b"{}")
        assert await count(bus, place(bus).steps) == 2


async def test_two_takeovers_at_once_leave_one_coordinator(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        fences = await asyncio.gather(*(begun(bus, f"c{n}") for n in range(8)))
        writes = await asyncio.gather(
            *(fence.write(place(bus).step(f"s{n}"), b"{}") for n, fence in enumerate(fences)),
            return_exceptions=True,
        )
        assert sorted(type(one).__name__ for one in writes) == ["Fenced"] * 7 + ["int"]
        assert await count(bus, place(bus).steps) == 1


async def test_a_record_whose_answer_was_lost_is_stored_once(
    nats_url: str, namespace: str, faults: Any
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        fence = await begun(bus)
        before = fence.seq
        faults.verdict = lambda subject, n: "answer lost" if n == 1 and ".step." in subject else "pass"
        stored = await fence.write(place(bus).step("a"), b"{}")
        record = await bus.log.last(place(bus).step("a"), leader=True)
        assert record is not None
        assert stored == record.seq
        assert await count(bus, place(bus).step("a")) == 1
        assert fence.seq > before, "it took over from itself, to be certain"
        await fence.write(place(bus).step("b"), b"{}")


async def test_a_record_that_arrives_after_its_repetition_is_refused(
    nats_url: str, namespace: str, faults: Any
) -> None:
    """It was given up after five seconds, stood in a queue, and was stored beside its repetition."""
    async with roost.connect(nats_url, namespace=namespace) as bus:
        fence = await begun(bus)
        faults.verdict = lambda subject, n: "late" if n == 1 and ".step." in subject else "pass"
        await fence.write(place(bus).step("a"), b"{}")
        (answer,) = await faults.release()
        assert b"10071" in answer
        assert await count(bus, place(bus).step("a")) == 1
        await fence.write(place(bus).step("b"), b"{}")


async def test_writes_on_their_way_while_the_epoch_moves_are_stored_once_each(
    nats_url: str, namespace: str, faults: Any
) -> None:
    """One of many lost its answer; the others, under the old epoch, are not those of a stranger."""
    async with roost.connect(nats_url, namespace=namespace) as bus:
        fence = await begun(bus)
        fates = {
            f"s{n}": fate for n, fate in enumerate(["answer lost", "late", "not sent"] * 3 + ["pass"] * 20)
        }
        faults.verdict = lambda subject, n: fates.get(subject.rsplit(".", 1)[1], "pass") if n == 1 else "pass"
        tasks = [place(bus).step(name) for name in fates]
        writes = [asyncio.ensure_future(fence.write(subject, b"{}")) for subject in tasks]
        await writes[0]  # its answer was lost, so the epoch has moved
        faults.slow_until.set()
        await asyncio.gather(*writes)
        await faults.release()
        for subject in tasks:
            assert await count(bus, subject) == 1, subject


async def test_a_batch_that_arrives_after_its_repetition_is_refused_whole(
    nats_url: str, namespace: str, faults: Any
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        fence = await begun(bus)
        plan = place(bus).step("m:0")
        tasks = [bus.log.subjects.task(Ref(REF.run, "t", f"m:{n}")) for n in range(5)]
        faults.verdict = lambda subject, n: "late" if subject == plan and n == 1 else "pass"
        await fence.commit([Write(task, b"{}", create_once("")) for task in tasks], plan, b"{}")
        await faults.release()
        assert await count(bus, plan) == 1
        for task in tasks:
            assert await count(bus, task) == 1


async def test_an_epoch_whose_answer_was_lost_is_recognised(
    nats_url: str, namespace: str, faults: Any
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        fence = await begun(bus)
        epoch = place(bus).epoch
        faults.verdict = lambda subject, n: (
            "answer lost" if (subject == epoch and n == 2) or (subject.endswith(".a") and n == 1) else "pass"
        )
        await fence.write(place(bus).step("a"), b"{}")
        await fence.write(place(bus).step("b"), b"{}")
        tokens = {json.loads(record.data)["token"] for record in await bus.log.read_all(epoch)}
        assert len(tokens) == 1


async def test_a_refused_guard_of_another_record_is_told(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        fence = await begun(bus)
        task = bus.log.subjects.task(Ref(REF.run, "t", "m:0"))
        await bus.link.jetstream.publish(task, b"{}")
        with pytest.raises(JetStreamError) as caught:
            await fence.commit([Write(task, b"{}", create_once(""))], place(bus).step("m:0"), b"{}")
        assert caught.value.err_code == 10071
        assert await count(bus, place(bus).steps) == 0


async def test_a_run_with_an_outcome_is_not_taken_over(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        await begun(bus)
        await bus.link.jetstream.publish(bus.log.subjects.end(REF), b"{}")
        with pytest.raises(Ended):
            await begun(bus)
        assert await count(bus, place(bus).epoch) == 1


async def test_a_run_that_was_removed_is_not_written_to(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        fence = await begun(bus)
        await bus.link.jetstream.call(
            f"STREAM.PURGE.{bus.log.stream}", {"filter": f"{namespace}.run.{REF.run}.>"}
        )
        with pytest.raises(Fenced):
            await fence.write(place(bus).step("a"), b"{}")


async def test_executions_that_die_without_a_trace_are_counted(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        counts = [(await begun(bus)).record.get("deaths") for _ in range(4)]
        assert counts == [0, 1, 2, 3]
        for trace in (place(bus).step("a"), place(bus).state, bus.log.subjects.task(Ref(REF.run, "t", "a")),
                      bus.log.subjects.note(REF, 1)):  # fmt: skip
            fence = await begun(bus)
            await fence.write(trace, b"{}")
            assert (await begun(bus)).record.get("deaths") == 0, trace


async def test_an_epoch_that_is_no_epoch_does_not_stop_a_takeover(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as client:
        Events(bus)
        await begun(bus)
        for junk in (b"", b"[]", b"\xff", b'{"deaths": "many"}', b"[" * 5000):
            await put(client, place(bus).epoch, junk)
            await put(client, place(bus).state, junk)
            fence = await begun(bus)
            assert fence.state is None
            await fence.write(place(bus).step("a"), b"{}", once=False)
