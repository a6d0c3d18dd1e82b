"""Reporters: every outcome at least once, in the order of the log, whatever dies."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest

import roost
from roost.server import LocalServer
from roost.tasks import Ref, provision, reporter
from roost.tasks.records import Subjects
from roost.tasks.reporter import ACK_WAIT_S
from tasks.support import SOON_S, Child, Events, Number, agent_of, api, children, put, stranger
from tasks.teller_process import REPORTER, counted

audit = roost.Workflow("audit", Number, Number)
survey = roost.Workflow("survey", Number, Number)
Outcome = roost.Outcome[Number]


async def same(value: Number) -> Number:
    if value.n < 0:
        raise roost.Reject("negative")
    return value


class Ledger:
    """A reporter that keeps what it is told, in order."""

    def __init__(self, of: Any = None, name: str = REPORTER) -> None:
        self.seen: list[Any] = []
        self.contexts: list[roost.Context] = []
        self.outcomes: list[Outcome] = []
        self._changed = asyncio.Event()
        self.agent = roost.Agent(name)
        self.agent.reports(counted, of=of)(self.report)

    async def report(self, outcome: Outcome, ctx: roost.Context) -> None:
        await self.handle(outcome, ctx)
        self.contexts.append(ctx)
        self.outcomes.append(outcome)
        self.seen.append(outcome.value.n if isinstance(outcome, roost.Done) else type(outcome).__name__)
        self._changed.set()

    async def handle(self, outcome: Outcome, ctx: roost.Context) -> None:
        """Before it is kept."""

    async def until(self, count: int) -> list[Any]:
        async with asyncio.timeout(SOON_S):
            while len(self.seen) < count:
                self._changed.clear()
                await self._changed.wait()
        return self.seen


async def ended(bus: roost.Bus, numbers: list[int]) -> list[roost.Handle[Number]]:
    """These tasks, done one after the other."""
    handles = []
    async with bus.serving(agent_of(counted, same)):
        for n in numbers:
            handles.append(await bus.submit(counted, Number(n=n)))
            await handles[-1].outcome(timeout_s=SOON_S)
    return handles


async def consumer(bus: roost.Bus, name: str) -> dict[str, Any]:
    info: dict[str, Any] = await bus.link.jetstream.call(f"CONSUMER.INFO.ROOST_{bus.namespace}.{name}")
    return info


async def test_outcomes_of_every_kind_come_in_the_order_of_the_log_from_the_first_on(
    nats_url: str, namespace: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        handles = await ended(bus, [1, -2, 3])
        handles.append(await bus.submit(counted, Number(n=4), key="four"))
        await handles[-1].cancel("not wanted")
        await ended(bus, [5])
        ledger = Ledger()
        async with bus.serving(ledger.agent):
            assert await ledger.until(5) == [1, "Dead", 3, "Cancelled", 5]
            assert [ctx.parameters["id"] for ctx in ledger.contexts[:4]] == [h.ref.id for h in handles]
            assert ledger.outcomes[3].key == "four"
            assert len({ctx.idempotency_key for ctx in ledger.contexts}) == 5
            await ended(bus, [6])
            assert (await ledger.until(6))[-1] == 6


async def test_the_key_of_a_report_is_not_the_one_that_the_handler_used(
    nats_url: str, namespace: str
) -> None:
    """Bug: it was, so an outside world took the reporter's effect for the handler's, and left it out."""
    used: list[str] = []

    async def handler(value: Number, ctx: roost.Context) -> Number:
        used.append(ctx.idempotency_key)
        return value

    first, second = Ledger(), Ledger(name="other")
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of(counted, handler), first.agent, second.agent):
            await bus.submit(counted, Number(n=1))
            await first.until(1)
            await second.until(1)
    used += [ledger.contexts[0].idempotency_key for ledger in (first, second)]
    assert len(set(used)) == 3


async def test_another_instance_goes_on_where_the_last_one_stopped(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        await ended(bus, [1, 2])
        first, second = Ledger(), Ledger()
        async with bus.serving(first.agent):
            await first.until(2)
        await ended(bus, [3])
        async with bus.serving(second.agent):
            assert await second.until(1) == [3]


async def test_the_outcome_in_hand_of_a_killed_reporter_comes_again_and_then_the_others(
    nats_url: str, namespace: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, children() as start:
        await ended(bus, list(range(1, 6)))
        first = await start("hangs-at-3", nats_url, namespace, module="teller_process")
        await first.says("begun 3 1")
        first.signal(signal.SIGKILL)
        second = await start("reports", nats_url, namespace, module="teller_process")
        await second.says("reported 5")
    assert reports(first) == ["reported 1 1", "reported 2 1"]
    assert reports(second) == ["reported 3 2", "reported 4 1", "reported 5 1"]


def reports(child: Child) -> list[str]:
    return [line for line in child.said if line.startswith("reported")]


async def test_no_outcome_is_left_out_or_out_of_order_when_the_server_is_killed(
    own_server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Some may come again: a crash forgets the last acknowledgements."""
    monkeypatch.setattr(reporter, "ACK_WAIT_S", 2.0)  # for what was on its way when the server died
    ledger = Ledger()
    async with roost.connect(own_server.url) as bus:
        events = Events(bus)
        await ended(bus, list(range(200)))
        async with bus.serving(ledger.agent):
            for crash in (1, 2, 3):
                await ledger.until(40 * crash)
                await asyncio.to_thread(own_server.kill)
                await asyncio.to_thread(own_server.restart)
                await events.until("reconnected", crash)
            while 199 not in ledger.seen:
                await ledger.until(len(ledger.seen) + 1)
    firsts = list(dict.fromkeys(ledger.seen))
    assert firsts == list(range(200))
    print(f"{len(ledger.seen) - 200} came again")


async def test_what_was_reported_while_the_server_was_away_is_not_reported_again(
    own_server: LocalServer,
) -> None:
    """Bug: its acknowledgement was lost, so it came again, an ack wait later, and the others waited for that."""
    begun, down = asyncio.Event(), asyncio.Event()

    async def wait(outcome: Outcome, ctx: roost.Context) -> None:
        begun.set()
        await down.wait()

    ledger = Ledger()
    ledger.handle = wait  # type: ignore[method-assign]
    async with roost.connect(own_server.url) as bus:
        events = Events(bus)
        await ended(bus, [1, 2])
        async with bus.serving(ledger.agent):
            await begun.wait()
            await asyncio.to_thread(own_server.kill)
            await events.until("connection_lost")
            down.set()
            await ledger.until(1)
            await asyncio.to_thread(own_server.restart)
            async with asyncio.timeout(ACK_WAIT_S / 2):
                assert await ledger.until(2) == [1, 2]


async def test_a_handler_that_fails_gets_the_same_outcome_again_before_any_other(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(reporter, "BACKOFF", roost.Retry(base_s=0.01, cap_s=0.02))
    tried: list[tuple[int, int]] = []

    async def fail(outcome: Outcome, ctx: roost.Context) -> None:
        assert isinstance(outcome, roost.Done)
        tried.append((outcome.value.n, ctx.attempt))
        if outcome.value.n == 2 and ctx.attempt < 4:
            raise [ValueError("no"), SystemExit(1), roost.RetryLater(after_s=0.01)][ctx.attempt - 1]

    ledger = Ledger()
    ledger.handle = fail  # type: ignore[method-assign]
    async with roost.connect(nats_url, namespace=namespace) as bus:
        await ended(bus, [1, 2, 3])
        async with bus.serving(ledger.agent):
            assert await ledger.until(3) == [1, 2, 3]
        assert bus.counters["report_failed"] == 3
    assert tried == [(1, 1), (2, 1), (2, 2), (2, 3), (2, 4), (3, 1)]


async def test_a_handler_that_cancels_itself_is_tried_again_after_a_backoff_and_not_at_once(
    nats_url: str, namespace: str
) -> None:
    """Bug: it was taken for a stop, and the outcome came again in the same instant, for ever."""

    async def cancelled(outcome: Outcome, ctx: roost.Context) -> None:
        if ctx.attempt == 1:
            raise asyncio.CancelledError

    ledger = Ledger()
    ledger.handle = cancelled  # type: ignore[method-assign]
    async with roost.connect(nats_url, namespace=namespace) as bus:
        events = Events(bus)
        await ended(bus, [1])
        async with bus.serving(ledger.agent):
            await ledger.until(1)
        assert "nobody cancelled it" in events.of("report_failed")[0].reason
    assert ledger.contexts[0].attempt == 2


async def test_what_a_handler_rejects_is_passed_over_and_told_of(nats_url: str, namespace: str) -> None:
    async def reject(outcome: Outcome, ctx: roost.Context) -> None:
        if isinstance(outcome, roost.Dead):
            raise roost.Reject("of no interest")

    ledger = Ledger()
    ledger.handle = reject  # type: ignore[method-assign]
    async with roost.connect(nats_url, namespace=namespace) as bus:
        events = Events(bus)
        await ended(bus, [1, -2, 3])
        async with bus.serving(ledger.agent):
            assert await ledger.until(2) == [1, 3]
        assert [event.reason for event in events.of("report_passed_over")] == ["of no interest"]
        assert bus.counters["reported:counted"] == 2


async def test_what_is_no_outcome_of_the_contract_is_passed_over_and_told_of(
    nats_url: str, namespace: str
) -> None:
    """A stranger's records, and a value of another model, would block the others for ever."""
    subjects = Subjects(namespace)
    async with stranger(nats_url) as nc, roost.connect(nats_url, namespace=namespace) as bus:
        events = Events(bus)
        await ended(bus, [1])
        for n, data in enumerate([b"", b"{", b'{"status":"done","token":"","attempts":[],"value":"x"}']):
            await put(nc, subjects.end(Ref(f"r{n}", "counted", f"r{n}")), data)
        await put(nc, f"{namespace}.run.r.end.counted.a.b", b"deeper than any")
        await ended(bus, [2])
        ledger = Ledger()
        async with bus.serving(ledger.agent):
            assert await ledger.until(2) == [1, 2]
        assert len(events.of("outcome_unreadable")) == 3
        assert len(events.of("outcome_refused")) == 1


async def test_two_instances_share_the_outcomes_and_neither_runs_beside_the_other(
    nats_url: str, namespace: str
) -> None:
    order: list[int] = []
    complete = asyncio.Event()
    at_work = 0

    async def overlap(outcome: Outcome, ctx: roost.Context) -> None:
        nonlocal at_work
        at_work += 1
        assert at_work == 1
        await asyncio.sleep(0)
        assert isinstance(outcome, roost.Done)
        order.append(outcome.value.n)
        at_work -= 1
        if len(order) == 60:
            complete.set()

    ledgers = [Ledger(), Ledger()]
    for ledger in ledgers:
        ledger.handle = overlap  # type: ignore[method-assign]
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with roost.connect(nats_url, namespace=namespace) as other:
            await ended(bus, list(range(60)))
            async with bus.serving(ledgers[0].agent), other.serving(ledgers[1].agent):
                async with asyncio.timeout(SOON_S):
                    await complete.wait()
            assert not bus.counters["report_failed"]
            assert not other.counters["report_failed"]
    assert order == list(range(60))
    assert all(ledger.seen for ledger in ledgers)


@asynccontextmanager
async def two_workflows(bus: roost.Bus) -> AsyncIterator[None]:
    """`audit` and `survey` each call `counted` with their number; `survey` below an `audit` of 100 as well."""
    agent = agent_of(counted, same)

    async def work(value: Number, run: roost.Run[None]) -> Number:
        if value.n == 100:
            return await run.call(survey, Number(n=101))
        return await run.call(counted, value)

    for workflow in (audit, survey):
        agent.handles(workflow)(work)
    async with bus.serving(agent):
        yield


async def test_a_reporter_of_a_workflow_gets_what_ends_in_its_runs_and_nothing_else(
    nats_url: str, namespace: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, two_workflows(bus):
        ledger = Ledger(of=audit)
        for workflow, n, key in ((audit, 1, "k"), (survey, 2, "k"), (audit, 3, None), (audit, 100, None)):
            handle = await bus.start(workflow, Number(n=n), key=key)
            await handle.result(timeout_s=SOON_S)
        await bus.submit(counted, Number(n=4), key="audit:4")
        await (await bus.start(audit, Number(n=5))).result(timeout_s=SOON_S)
        async with bus.serving(ledger.agent):
            assert await ledger.until(3) == [1, 3, 5]
            assert ledger.contexts[0].parameters["run"] == "audit:k"


async def test_a_reporter_of_a_run_gets_what_ends_in_it_and_the_server_sends_it_nothing_else(
    nats_url: str, namespace: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, two_workflows(bus):
        handles = [await bus.start(audit, Number(n=n), key=f"k{n}") for n in (1, 2)]
        for handle in handles:
            await handle.result(timeout_s=SOON_S)
        ledger = Ledger(of=handles[1].id)
        async with bus.serving(ledger.agent):
            assert await ledger.until(1) == [2]
            what = provision.Reported(agent=REPORTER, name="counted", run=handles[1].id)
            info = await consumer(bus, what.durable)
            assert info["delivered"]["consumer_seq"] == 1
            assert info["config"]["inactive_threshold"] == provision.RUN_REPORT_S * 10**9


async def test_the_consumer_of_a_run_goes_when_its_reporters_have_been_gone_for_long(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bug: it stayed on the server for ever. What is lost is its place, not an outcome."""
    monkeypatch.setattr(provision, "RUN_REPORT_S", 1)
    async with stranger(nats_url) as nc, roost.connect(nats_url, namespace=namespace) as bus:
        handle = (await ended(bus, [1]))[0]
        gone = await nc.subscribe(f"$JS.EVENT.ADVISORY.CONSUMER.DELETED.ROOST_{namespace}.*")
        for _ in range(2):
            ledger = Ledger(of=handle.id)
            async with bus.serving(ledger.agent):
                assert await ledger.until(1) == [1]
            await gone.next_msg(timeout=SOON_S)


async def test_a_reporter_whose_consumer_was_deleted_begins_anew(nats_url: str, namespace: str) -> None:
    """Bug: it said so, and then did nothing for ever."""
    ledger = Ledger()
    async with stranger(nats_url) as nc, roost.connect(nats_url, namespace=namespace) as bus:
        await ended(bus, [1, 2])
        async with bus.serving(ledger.agent):
            await ledger.until(2)
            await api(nc, f"CONSUMER.DELETE.ROOST_{namespace}.report_{REPORTER}_counted")
            assert await ledger.until(4) == [1, 2, 1, 2]


async def test_two_reporters_whose_names_run_together_do_not_share_one_place(
    nats_url: str, namespace: str
) -> None:
    """Each would get what the other has not had."""
    first = Ledger(of=roost.Workflow("w_counted_of_v", Number, Number), name="a")
    second = Ledger(of=roost.Workflow("v", Number, Number), name="a_counted_of_w")
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(first.agent):
        with pytest.raises(roost.ConfigMismatch, match="description"):
            async with bus.serving(second.agent):
                pass


async def test_a_handler_that_will_not_end_does_not_keep_its_process(nats_url: str, namespace: str) -> None:
    """Bug: stopping waited for it, for ever."""
    begun, release = asyncio.Event(), asyncio.Event()

    async def stubborn(outcome: Outcome, ctx: roost.Context) -> None:
        begun.set()
        while not release.is_set():
            try:
                await release.wait()
            except asyncio.CancelledError:
                continue

    ledger = Ledger()
    ledger.handle = stubborn  # type: ignore[method-assign]
    async with roost.connect(nats_url, namespace=namespace) as bus:
        await ended(bus, [1])
        async with asyncio.timeout(SOON_S):
            async with bus.serving(ledger.agent, grace_s=0):
                await begun.wait()
        release.set()
        await ledger.until(1)


async def test_what_a_stopped_reporter_had_in_hand_comes_to_the_next_one_at_once(
    nats_url: str, namespace: str
) -> None:
    begun = asyncio.Event()

    async def hang(outcome: Outcome, ctx: roost.Context) -> None:
        begun.set()
        await asyncio.get_running_loop().create_future()

    first, second = Ledger(), Ledger()
    first.handle = hang  # type: ignore[method-assign]
    async with roost.connect(nats_url, namespace=namespace) as bus:
        await ended(bus, [1, 2])
        async with bus.serving(first.agent, grace_s=0):
            await begun.wait()
        async with bus.serving(second.agent):
            async with asyncio.timeout(ACK_WAIT_S / 2):
                assert await second.until(2) == [1, 2]


async def test_the_outcomes_of_workflows_are_reported_too(nats_url: str, namespace: str) -> None:
    ends: asyncio.Queue[Outcome] = asyncio.Queue()
    agent = roost.Agent("auditors")

    @agent.reports(audit)
    async def heard(outcome: Outcome, ctx: roost.Context) -> None:
        ends.put_nowait(outcome)

    async with roost.connect(nats_url, namespace=namespace) as bus, two_workflows(bus):
        async with bus.serving(agent):
            await bus.start(audit, Number(n=1))
            outcome = await asyncio.wait_for(ends.get(), SOON_S)
    assert isinstance(outcome, roost.Done)
    assert outcome.value == Number(n=1)


@pytest.mark.parametrize("of", ["", "a b", "*", "run/counted/x", 7, counted])
def test_what_is_neither_a_workflow_nor_a_run_cannot_be_followed(of: Any) -> None:
    """Bug: a reporter of it said nothing, and heard nothing."""
    with pytest.raises(roost.ConfigError):
        roost.Agent("a").reports(counted, of=of)


def test_the_same_cannot_be_reported_twice_by_one_agent() -> None:
    """Bug: the second use of one decorator was not looked at, and the two would have shared the outcomes."""
    agent = roost.Agent("a")
    register: Callable[[Callable[[Outcome, roost.Context], Awaitable[None]]], Any] = agent.reports(counted)
    register(Ledger().report)
    with pytest.raises(roost.ConfigError, match="already"):
        register(Ledger().report)
    agent.reports(counted, of=audit)(Ledger().report)
    with pytest.raises(roost.ConfigError, match="already"):
        agent.reports(counted, of=roost.Workflow("audit", Number, str))(Ledger().report)
