"""Ended runs go whole, open ones stay whole; who is late, dead or behind at that time does no harm."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import pytest

import roost
from roost.runs import fork
from roost.tasks.retention import Retention
from roost.upkeep import Prune
from roost.upkeep.ledger import PHASES
from runs.support import Number as Whole
from runs.support import Report, below, double, go, plan
from runs.support import agent_of as agents
from tasks.order_process import Turn, reply
from tasks.support import SOON_S, Events, Number, agent_of, api, provision, put, records, stranger
from tasks.teller_process import counted
from upkeep.support import HOUR_S, MINUTE_S, later, of_open_runs, prune, stored

add = roost.Task("add", Number, Number, retry=roost.Retry(attempts=2, base_s=0.01), ack_wait_s=1)
never = roost.Task("never", Number, Number)
"""Nobody does these."""


async def plus(value: Number) -> Number:
    if value.n < 0:
        raise roost.Reject("negative")
    return Number(n=value.n + 1)


async def test_ended_runs_go_whole_and_of_open_ones_nothing(nats_url: str, namespace: str) -> None:
    async def fan_out(value: Whole, run: roost.Run) -> Report:
        child = await run.call(below, value, name="child")
        async with run.map(double, [Whole(n=n) for n in range(5)], key=lambda one: str(one.n)) as outcomes:
            found = [one.value.n async for one in outcomes if isinstance(one, roost.Done)]
        await run.wait_for(go)
        return Report(numbers=[child.n, *sorted(found)])

    async def deeper(value: Whole, run: roost.Run) -> Whole:
        return await run.call(double, value)

    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        stranger(nats_url) as nc,
        bus.serving(agents((plan, fan_out), (below, deeper)), agent_of(add, plus)),
    ):
        waiting, over = [await bus.start(plan, Whole(n=n), key=str(n)) for n in (1, 2)]
        await bus.signal(over.id, go, Whole(n=1))
        await over.result(timeout_s=SOON_S)
        for handle in await bus.submit_many(add, [Number(n=n) for n in range(20)]):
            await handle.result(timeout_s=SOON_S)
        await bus.submit_many(never, [Number(n=n) for n in range(3)])
        while len(await bus.log.subjects_matching(f"{namespace}.run.{waiting.id}.end.>")) < 6:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        before = await stored(nc, namespace)
        assert (await prune(bus, dry_run=True)).runs == 22
        assert await stored(nc, namespace) == before
        assert (await prune(bus, later_s=30)).runs == 0  # not yet
        pruned = await prune(bus)
        assert pruned.runs == 22  # the tasks, the run and the one below it
        left = await stored(nc, namespace)
        ends = {s.split(".")[2] for s, _ in before.values() if ".end.below.child" in s}
        assert len(ends) == 2
        # The run that waits, the one below it that has ended, and what nobody does: each record of them.
        open = of_open_runs(before)
        of_child = {seq: one for seq, one in left.items() if one[0].split(".")[2].startswith("below:")}
        assert len(of_child) == 4  # its epoch, a task with its outcome, a state: as at the other
        assert left == open | of_child
        await bus.signal(waiting.id, go, Whole(n=1))
        assert (await waiting.result(timeout_s=SOON_S)).numbers == [2, 0, 2, 4, 6, 8]
        await prune(bus)
        assert {one[0].split(".")[4] for one in (await stored(nc, namespace)).values()} == {"never"}


async def test_a_key_submitted_again_is_a_new_task(nats_url: str, namespace: str) -> None:
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        bus.serving(agent_of(add, plus)),
    ):
        first = await bus.submit(add, Number(n=1), key="k")
        assert (await first.result(timeout_s=SOON_S)).n == 2
        assert (await prune(bus)).runs == 1
        again = await bus.submit(add, Number(n=5), key="k")
        assert again.created
        assert (await again.result(timeout_s=SOON_S)).n == 6


async def test_dead_letters_stay_longer_until_they_are_replayed(nats_url: str, namespace: str) -> None:
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        bus.serving(agent_of(add, plus)),
    ):
        kept, replayed = await bus.submit_many(add, [Number(n=-1), Number(n=-2)])
        for handle in (kept, replayed):
            assert isinstance(await handle.outcome(timeout_s=SOON_S), roost.Dead)
        while len(await bus.dead_letters()) < 2:  # noqa: ASYNC110 (the index follows the outcome)
            await asyncio.sleep(0.01)
        assert (await prune(bus)).runs == 0  # nothing is said of dead letters: they stay for ever
        assert (await prune(bus, dead_s=2 * HOUR_S)).runs == 0
        fixed = await bus.replay(add, replayed.id, Number(n=1))
        await fixed.result(timeout_s=SOON_S)
        assert (await prune(bus, dead_s=2 * HOUR_S)).runs == 1
        assert [letter.id for letter in await bus.dead_letters()] == [kept.ref.id]
        pruned = await prune(bus, dead_s=HOUR_S / 2)
        assert (pruned.runs, pruned.letters) == (1, 1)
        assert await records(bus) == []


async def test_a_letter_replayed_just_now_is_open_whatever_its_age(nats_url: str, namespace: str) -> None:
    """The replay is younger than what is read: only the leader's newest record of the run tells of it."""
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as nc:
        async with bus.serving(agent_of(add, plus)):
            dead = await bus.submit(add, Number(n=-1))
            await dead.outcome(timeout_s=SOON_S)
            while not await bus.dead_letters():  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        await bus.log.ensure()
        await asyncio.sleep(1.1)
        await bus.replay(add, dead.id, Number(n=1))
        before = await stored(nc, namespace)
        pruned = await prune(bus, later_s=0, ended_s=1, dead_s=1)
        assert pruned.runs == 0
        assert await stored(nc, namespace) == before == of_open_runs(before)


class Mortal(Prune):
    """Dies behind one phase of its first removal."""

    left = 0

    async def _delete_all(self, seqs: Sequence[int]) -> None:
        await super()._delete_all(seqs)
        self.left -= 1
        if not self.left:
            raise RuntimeError("dead")


@pytest.mark.parametrize("phase", PHASES[:-1])
async def test_what_a_death_leaves_over_is_removed_and_nobody_takes_it_for_a_run(
    nats_url: str, namespace: str, phase: int
) -> None:
    async def one_call(value: Whole, run: roost.Run) -> Report:
        return Report(numbers=[(await run.call(double, value)).n])

    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as nc:
        async with bus.serving(agents((plan, one_call))):
            run = await bus.start(plan, Whole(n=1), key="a")
            await run.result(timeout_s=SOON_S)
            task = await bus.submit(double, Whole(n=1), key="t")
            await task.result(timeout_s=SOON_S)
            mortal = Mortal(later(bus), retention=Retention(ended_s=MINUTE_S))
            mortal.left = phase + 1
            with pytest.raises(RuntimeError, match="dead"):
                await mortal.run_once()
            assert await stored(nc, namespace) != {}
            # While anything is left that a new run of the key would meet, there is no new one.
            again = await bus.start(plan, Whole(n=1), key="a")
            assert not again.created
            assert (await again.result(timeout_s=SOON_S)).numbers == [2]
        assert of_open_runs(await stored(nc, namespace)) == {}
        await prune(bus)
        assert await stored(nc, namespace) == {}


async def test_records_that_come_late_are_swept_but_not_at_once(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as nc:
        await bus.log.ensure()
        for kind, k in (("note", "1"), ("chunk", "1"), ("once", "mail")):
            await put(nc, f"{namespace}.run.gone.{kind}.add.gone.{k}", b"{}")
        await put(nc, f"{namespace}.run.gone.signal.go", b"{}")
        assert (await prune(bus, later_s=100, ended_s=10)).runs == 0  # perhaps a fork that is being written
        assert (await prune(bus, later_s=130, ended_s=10)).records == 4
        assert await stored(nc, namespace) == {}


async def test_places_and_turns_of_an_order_key_go_with_their_tasks(nats_url: str, namespace: str) -> None:
    gate = asyncio.Event()

    async def handle(turn: Turn) -> int:
        if turn.n == 3:
            await gate.wait()
        return turn.n

    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        stranger(nats_url) as nc,
        bus.serving(agent_of(reply, handle)),
    ):
        handles = [await bus.submit(reply, Turn(session="s", n=n)) for n in range(6)]
        for one in handles[:3]:
            await one.result(timeout_s=SOON_S)
        while len(await bus.log.subjects_matching(bus.log.subjects.all_turns)) < 4:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
        before = await stored(nc, namespace)
        assert (await prune(bus)).runs == 3
        if (
            bus.log.replicated
        ):  # a replica that lagged behind may have hidden the newest turn: the next pass sees it
            await prune(bus)
        assert await stored(nc, namespace) == of_open_runs(before)
        gate.set()
        assert [await one.result(timeout_s=SOON_S) for one in handles[3:]] == [3, 4, 5]
        assert (await prune(bus)).runs == 3
        assert await stored(nc, namespace) == {}
        assert await (await bus.submit(reply, Turn(session="s", n=7))).result(timeout_s=SOON_S) == 7


async def test_a_turn_that_was_not_handed_on_stays(nats_url: str, namespace: str) -> None:
    """Its worker died between outcome and acknowledgement: the turn's redelivery is all that moves the queue."""
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as nc:
        await bus.log.ensure()
        run, queue = f"{namespace}.run", f"{namespace}.run.reply::s"
        await put(nc, f"{run}.a.task.reply.a", b"{}")
        await put(nc, f"{queue}.queue.reply.a.a", b"")
        await put(nc, f"{queue}.task.reply.2.a.a", b"")
        await put(nc, f"{run}.a.end.reply.a", b'{"status":"done"}')
        await put(nc, f"{run}.b.task.reply.b", b"{}")
        await put(nc, f"{queue}.queue.reply.b.b", b"")
        assert (await prune(bus)).runs == 0
        await put(nc, f"{queue}.task.reply.6.b.b", b"")
        assert (await prune(bus)).records == 4


async def test_a_reporter_keeps_what_it_has_not_read_for_as_long_again(nats_url: str, namespace: str) -> None:
    reporter = roost.Agent("ledger")
    gate = asyncio.Event()

    @reporter.reports(counted)
    async def report(outcome: roost.Outcome[Number], ctx: roost.Context) -> None:
        await gate.wait()

    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        bus.serving(agent_of(counted, plus), agent_of(add, plus)),
    ):
        events = Events(bus)
        async with bus.serving(reporter):
            others = await bus.submit(add, Number(n=1))
            unread = await bus.submit_many(counted, [Number(n=n) for n in range(3)])
            for one in (others, *unread):
                await one.result(timeout_s=SOON_S)
            assert (await prune(bus, ended_s=HOUR_S * 0.75)).runs == 1  # nobody reports `add`
            gate.set()
            while bus.counters["reported:counted"] < 3:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await bus.link.client.flush()
            assert (await prune(bus, ended_s=HOUR_S * 0.75)).runs == 3
        lost = await bus.submit(counted, Number(n=9))
        await lost.result(timeout_s=SOON_S)
        assert (await prune(bus, ended_s=HOUR_S * 0.75)).runs == 0
        pruned = await prune(bus, ended_s=HOUR_S * 0.25)
        assert (pruned.runs, pruned.unreported) == (1, 1)
        (event,) = events.of("outcomes_unreported")
        assert "report_ledger_counted" in event.reason


async def test_a_log_that_lets_nothing_be_deleted_is_told_of_once(nats_url: str, namespace: str) -> None:
    async with stranger(nats_url) as nc:
        await provision(nc, namespace, deny_delete=True)
        async with roost.connect(nats_url, namespace=namespace) as bus:
            events = Events(bus)
            await bus.log.ensure()  # nothing else is wrong with it
            duty = Prune(later(bus), retention=Retention(ended_s=1))
            await duty.run_once()
            await duty.run_once()
            (event,) = events.of("prune_refused")
            assert "deny_delete" in event.reason


async def test_the_retention_stands_in_the_log_and_changes_while_it_is_used(
    nats_url: str, namespace: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as nc:
        async with bus.serving(agent_of(add, plus)):
            await (await bus.submit(add, Number(n=1))).result(timeout_s=SOON_S)
        duty = Prune(later(bus))
        await duty.run_once()
        assert duty.total.runs == 0  # kept for ever unless somebody says otherwise
        config = (await api(nc, f"STREAM.INFO.{bus.log.stream}"))["config"]
        config["metadata"] = {"roost.retention_s": "60"}
        assert "error" not in await api(nc, f"STREAM.UPDATE.{bus.log.stream}", config)
        await duty.run_once()
        assert duty.total.runs == 1
        config["metadata"] = {"roost.retention_s": "soon"}
        await api(nc, f"STREAM.UPDATE.{bus.log.stream}", config)
        with pytest.raises(roost.ConfigError, match="soon"):
            await duty.run_once()


async def test_a_stream_made_anew_is_read_anew(nats_url: str, namespace: str) -> None:
    """Its records have the numbers of others."""
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as nc:
        await bus.log.ensure()
        log = later(bus)
        duty = Prune(log, retention=Retention(ended_s=MINUTE_S))
        await put(nc, f"{namespace}.run.old.task.add.old", b"{}")
        await duty.run_once()
        await api(nc, f"STREAM.DELETE.{bus.log.stream}")
        await provision(nc, namespace)
        await put(nc, f"{namespace}.run.new.task.add.new", b"{}")
        await put(nc, f"{namespace}.run.old.end.add.old", json.dumps({"status": "done"}).encode())
        await duty.run_once()
        (left,) = (await stored(nc, namespace)).values()
        assert left[0] == f"{namespace}.run.new.task.add.new"


async def test_a_run_that_is_removed_while_it_is_read_is_not_forked(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def one_call(value: Whole, run: roost.Run) -> Report:
        return Report(numbers=[(await run.call(double, value)).n])

    read = fork._before

    async def read_late(*arguments: Any) -> Any:
        kept = await read(*arguments)
        await prune(bus)
        return kept

    monkeypatch.setattr(fork, "_before", read_late)
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        stranger(nats_url) as nc,
        bus.serving(agents((plan, one_call))),
    ):
        handle = await bus.start(plan, Whole(n=1))
        await handle.result(timeout_s=SOON_S)
        with pytest.raises(roost.ConfigError, match="was removed while it was read"):
            await fork.fork_run(bus.log, handle.id, before="double")
        assert await stored(nc, namespace) == {}
