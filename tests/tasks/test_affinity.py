"""Tasks with an order key: one at a time per key and in order, whoever dies. Several workers, real processes."""

from __future__ import annotations

import asyncio
import signal
from collections import Counter, defaultdict
from itertools import pairwise

import pytest

import roost
from roost.agent import Agent
from roost.server import LocalServer
from roost.tasks.order import Queue
from roost.tasks.records import Ref
from tasks.order_process import Turn, reply, session_of
from tasks.support import SOON_S, Child, Events, api, children, put, records, stranger, until


class Witness:
    """A handler that writes down what ran, and fails the test if two of one key ran at once."""

    def __init__(self) -> None:
        self.ran: dict[str, list[int]] = defaultdict(list)
        self.by: Counter[str] = Counter()
        self.busy: set[str] = set()
        self.overlaps: list[str] = []
        self.held: dict[tuple[str, int], asyncio.Event] = {}
        self.reached: dict[tuple[str, int], asyncio.Event] = defaultdict(asyncio.Event)
        self.failures: dict[tuple[str, int], list[Exception]] = {}

    def hold(self, session: str, n: int) -> asyncio.Event:
        """The task waits until this is set."""
        return self.held.setdefault((session, n), asyncio.Event())

    async def __call__(self, turn: Turn) -> int:
        who = (turn.session, turn.n)
        if turn.session in self.busy:
            self.overlaps.append(f"{turn.session} {turn.n}")
        self.busy.add(turn.session)
        try:
            self.ran[turn.session].append(turn.n)
            self.reached[who].set()
            if who in self.held:
                await self.held[who].wait()
            await asyncio.sleep(0)
            if self.failures.get(who):
                raise self.failures[who].pop(0)
            return turn.n
        finally:
            self.busy.discard(turn.session)

    def agent(self, *, concurrency: int = 32) -> Agent[None]:
        agent = Agent("witness")

        @agent.handles(reply, concurrency=concurrency)
        async def _(turn: Turn, ctx: roost.Context) -> int:
            self.by[ctx.instance] += 1
            return await self(turn)

        return agent


def turns(session: str, count: int, *, start: int = 0) -> list[Turn]:
    return [Turn(session=session, n=n) for n in range(start, start + count)]


async def results(handles: list[roost.Handle[int]], *, within_s: float = SOON_S) -> list[int]:
    return list(await asyncio.gather(*(handle.result(timeout_s=within_s) for handle in handles)))


@pytest.mark.slow_limit(180)
async def test_three_hundred_keys_of_ten_tasks_each_over_two_instances(nats_url: str, namespace: str) -> None:
    witness = Witness()
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        roost.connect(nats_url, namespace=namespace) as other,
        bus.serving(witness.agent()),
        other.serving(witness.agent()),
    ):
        values = [Turn(session=f"session {k}", n=n) for n in range(10) for k in range(300)]
        handles = await bus.submit_many(reply, values)
        assert await results(handles, within_s=150) == [value.n for value in values]
    assert len(witness.by) == 2
    assert all(count > 300 for count in witness.by.values()), "both have worked"
    assert len(witness.ran) == 300
    assert all(ran == list(range(10)) for ran in witness.ran.values())
    assert not witness.overlaps


async def test_what_is_submitted_one_after_the_other_runs_in_that_order(
    nats_url: str, namespace: str
) -> None:
    witness = Witness()
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        roost.connect(nats_url, namespace=namespace) as other,
        bus.serving(witness.agent()),
        other.serving(witness.agent()),
    ):
        submitters = [bus, other]
        handles = [await submitters[n % 2].submit(reply, turn) for n, turn in enumerate(turns("s", 60))]
        await results(handles)
    assert witness.ran["s"] == list(range(60))
    assert not witness.overlaps


async def test_a_queue_that_ran_empty_goes_on_with_what_is_submitted_later(
    nats_url: str, namespace: str
) -> None:
    witness = Witness()
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(witness.agent()):
        for turn in turns("s", 5):
            await (await bus.submit(reply, turn)).result(timeout_s=SOON_S)
    assert witness.ran["s"] == list(range(5))


async def places(bus: roost.Bus, count: int) -> list[Ref]:
    """Whose places are in the queue of the key `s`, as soon as there are so many."""
    pattern = Queue(bus.log.subjects, "reply", "s").places
    async with asyncio.timeout(SOON_S):
        while len(found := await bus.log.read_all(pattern)) < count:
            pass
    parts = [record.subject.split(".")[-3:] for record in found]
    return [Ref(run, name, id) for name, run, id in parts]


async def test_a_batch_has_the_places_of_its_tasks_in_it(nats_url: str, namespace: str) -> None:
    """Workers may get its tasks in any order."""
    async with roost.connect(nats_url, namespace=namespace) as bus:
        handles = await bus.submit_many(reply, turns("s", 600))
        assert await places(bus, 600) == [handle.ref for handle in handles]


async def test_a_fan_out_has_the_places_of_its_tasks_in_it(nats_url: str, namespace: str) -> None:
    plan = roost.Workflow("plan", Turn, int, ack_wait_s=1)

    async def fan_out(turn: Turn, run: roost.Run[None]) -> int:
        async with run.map(reply, turns("s", 300), key=lambda turn: str(turn.n)) as outcomes:
            return len([outcome async for outcome in outcomes])

    agent = Agent("planner")
    agent.handles(plan)(fan_out)
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        await bus.start(plan, Turn(session="", n=0))
        assert [ref.id for ref in await places(bus, 300)] == [f"reply:{n}" for n in range(300)]


async def test_tasks_whose_key_is_none_have_no_order_and_cost_nothing(nats_url: str, namespace: str) -> None:
    witness = Witness()
    first = witness.hold("", 0)
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(witness.agent()):
        handles = [await bus.submit(reply, turn) for turn in turns("", 5)]
        await results(handles[1:])
        first.set()
        await handles[0].result(timeout_s=SOON_S)
        assert len(await bus.log.subjects_matching(f"{namespace}.run.>")) == 10
        assert bus.counters["lined_up"] == 0


async def test_a_killed_worker_s_keys_go_on_where_they_were(nats_url: str, namespace: str) -> None:
    """SIGKILL in mid-task: the task runs again, and only then what follows it."""
    async with roost.connect(nats_url, namespace=namespace) as bus, children() as start:
        first = await start("60000", nats_url, namespace, module="order_process")
        await first.says("ready")
        handles = await bus.submit_many(reply, [*turns("a", 3), *turns("b", 3)])
        begun = {await first.says("started"), await first.says("started")}
        assert begun == {"started a 0 1", "started b 0 1"}
        second = await start("1", nats_url, namespace, module="order_process")
        await second.says("ready")
        first.signal(signal.SIGKILL)
        await results(handles)
        assert not any(line.startswith("started a 1") for line in first.said)
        lines = await said(second, "ended", 6)
    for key in "ab":
        told = [line.split()[:3] for line in lines if line.split()[1] == key]
        once = [
            one for one, before in zip(told, [None, *told], strict=False) if one != before
        ]  # a start may repeat
        assert once == [[what, key, str(n)] for n in range(3) for what in ("started", "ended")]


async def said(child: Child, beginning: str, count: int) -> list[str]:
    """What a worker has run until it has said so many lines that begin so."""
    while sum(line.startswith(beginning) for line in child.said) < count:
        await child.says(beginning)
    return [line for line in child.said if line.startswith(("started", "ended"))]


async def test_order_holds_while_workers_die_one_after_the_other(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, children() as start:
        handles = await bus.submit_many(
            reply, [Turn(session=f"s{k}", n=n) for n in range(8) for k in range(5)]
        )
        for _ in range(3):
            doomed = await start("30", nats_url, namespace, module="order_process")
            for _ in range(4):
                await doomed.says("started")
            doomed.signal(signal.SIGKILL)
        for _ in range(2):
            await start("30", nats_url, namespace, module="order_process")
        await results(handles)
        outcomes = [await handle.outcome(timeout_s=SOON_S) for handle in handles]
    ends: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for handle, outcome in zip(handles, outcomes, strict=True):
        assert isinstance(outcome, roost.Done), handle
        last = outcome.history[-1]
        assert last.ended_s is not None
        ends[f"s{handles.index(handle) % 5}"].append((last.started_s, last.ended_s))
    for times in ends.values():
        assert len(times) == 8
        for before, after in pairwise(times):
            assert before[1] <= after[0] + 0.02  # clocks of two processes


async def test_a_task_in_backoff_holds_its_key_and_no_other(nats_url: str, namespace: str) -> None:
    witness = Witness()
    witness.failures["s", 0] = [ValueError("once"), roost.RetryLater(after_s=0.3)]
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(witness.agent()):
        handles = await bus.submit_many(reply, [*turns("s", 3), *turns("t", 3)])
        await results(handles[3:])
        assert witness.ran["s"] in ([0], [0, 0])
        await results(handles[:3])
    assert witness.ran == {"s": [0, 0, 0, 1, 2], "t": [0, 1, 2]}


async def test_a_dead_task_lets_the_next_one_run_and_its_replay_goes_to_the_end(
    nats_url: str, namespace: str
) -> None:
    witness = Witness()
    witness.failures["s", 0] = [roost.Reject("no")]
    last = witness.hold("s", 2)
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(witness.agent()):
        handles = [await bus.submit(reply, turn) for turn in turns("s", 3)]
        assert isinstance(await handles[0].outcome(timeout_s=SOON_S), roost.Dead)
        await witness.reached["s", 2].wait()
        [letter] = await bus.dead_letters(reply)
        again = await bus.replay(reply, letter)
        more = await bus.submit(reply, Turn(session="s", n=3))
        await until(lambda: bus.counters["lined_up"] == 5)
        assert witness.ran["s"] == [0, 1, 2]
        last.set()
        assert await results([again, more]) == [0, 3]
    assert witness.ran["s"] == [0, 1, 2, 0, 3]
    assert not witness.overlaps


async def test_cancelling_passes_the_turn_on(nats_url: str, namespace: str) -> None:
    """Cancelled are the task that runs, and one that waits."""
    witness = Witness()
    witness.hold("s", 0)
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(witness.agent()):
        handles = await bus.submit_many(reply, turns("s", 5))
        await witness.reached["s", 0].wait()
        assert await handles[2].cancel("not wanted")
        assert await handles[0].cancel("not wanted")
        assert await results([handles[1], handles[3], handles[4]]) == [1, 3, 4]
    assert witness.ran["s"] == [0, 1, 3, 4]
    assert not witness.overlaps


async def test_a_key_whose_tasks_were_all_cancelled_before_a_worker_came_is_not_stuck(
    nats_url: str, namespace: str
) -> None:
    witness = Witness()
    async with roost.connect(nats_url, namespace=namespace) as bus:
        handles = await bus.submit_many(reply, turns("s", 6))
        for handle in handles[:5]:
            await handle.cancel()
        async with bus.serving(witness.agent()):
            assert await handles[5].result(timeout_s=SOON_S) == 5
    assert witness.ran["s"] == [5]


async def test_a_long_queue_of_one_key_does_not_hold_up_others(nats_url: str, namespace: str) -> None:
    witness = Witness()
    first = witness.hold("long", 0)
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(witness.agent(concurrency=4)):
        await bus.submit_many(reply, turns("long", 1000))
        await witness.reached["long", 0].wait()
        others = await bus.submit_many(reply, [Turn(session=f"s{k}", n=0) for k in range(20)])
        await results(others)
        assert witness.ran["long"] == [0]
        first.set()
        async with stranger(nats_url) as nc:
            info = await api(nc, f"CONSUMER.INFO.ROOST_{namespace}.task_reply")
        assert info["num_ack_pending"] < 10, "tasks that wait for their turn hold no delivery"


async def test_a_crash_of_the_server_loses_no_turn(own_server: LocalServer) -> None:
    witness = Witness()
    async with roost.connect(own_server.url) as bus, bus.serving(witness.agent()):
        events = Events(bus)
        handles = await bus.submit_many(
            reply, [Turn(session=f"s{k}", n=n) for n in range(30) for k in range(10)]
        )
        for crash in range(1, 4):
            await witness.reached["s0", crash * 5].wait()
            await asyncio.to_thread(own_server.kill)
            await asyncio.to_thread(own_server.restart)
            await events.until("reconnected", crash)
        await results(handles, within_s=40)
    for ran in witness.ran.values():
        assert list(dict.fromkeys(ran)) == list(range(30)), "in order, but for what ran twice"


async def test_a_deleted_consumer_begins_anew_and_nothing_runs_again(nats_url: str, namespace: str) -> None:
    witness = Witness()
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(witness.agent()):
            await results(await bus.submit_many(reply, turns("s", 10)))
        async with stranger(nats_url) as nc:
            await api(nc, f"CONSUMER.DELETE.ROOST_{namespace}.task_reply")
        async with bus.serving(witness.agent()):
            more = await bus.submit_many(reply, turns("s", 3, start=10))
            await results(more)
    assert witness.ran["s"] == list(range(13))


async def test_workers_complete_what_a_submitter_of_any_language_began(nats_url: str, namespace: str) -> None:
    """The header alone is enough, also if the submitter died before it took its place in the queue."""
    witness = Witness()
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as nc:
        await bus.log.ensure()
        for n in range(3):
            ref = Ref(f"id{n}", "reply", f"id{n}")
            head = {"Roost-Order": "s", "Nats-Expected-Last-Subject-Sequence": "0"}
            data = Turn(session="s", n=n).model_dump_json().encode()
            answer = await put(nc, bus.log.subjects.task(ref), data, head)
            assert "error" not in answer
        async with bus.serving(witness.agent(concurrency=1)):
            await results([bus.handle(reply, f"id{n}") for n in range(3)])
    assert sorted(witness.ran["s"]) == [0, 1, 2]
    assert not witness.overlaps


async def test_a_turn_that_a_stranger_wrote_runs_nothing_that_is_not_in_that_queue(
    nats_url: str, namespace: str
) -> None:
    witness = Witness()
    first = witness.hold("s", 0)
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(witness.agent()):
        events = Events(bus)
        handles = await bus.submit_many(reply, turns("s", 2))
        await witness.reached["s", 0].wait()
        async with stranger(nats_url) as nc:
            forged = Queue(bus.log.subjects, "reply", "other").turn(1, handles[1].ref)
            await put(nc, forged, b"")
        await events.until("foreign_record")
        assert witness.ran["s"] == [0]
        first.set()
        await results(handles)
    assert witness.ran["s"] == [0, 1]


async def test_records_that_strangers_put_into_a_queue_do_not_stop_it(nats_url: str, namespace: str) -> None:
    """They once stopped all that came after them, for ever."""
    queue = [
        "queue.reply.x.x",  # the place of a task that is not there
        "task.reply.9999999999999.x.x",  # the turn of a place that is not there yet
        "task.reply.99999999999999999999.x.x",
        "task.reply.x.x.x",
        "task.reply.1.x.x",  # of one that was over long ago
        "queue.reply.x.\u202e",
    ]
    witness = Witness()
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(witness.agent()):
        await results(await bus.submit_many(reply, turns("s", 3)))
        async with stranger(nats_url) as nc:
            for n, forged in enumerate(queue):
                await put(nc, f"{namespace}.run.reply::s.{forged}", b"")
                more = await bus.submit_many(reply, turns("s", 2, start=3 + 2 * n))
                assert await results(more, within_s=10) == [3 + 2 * n, 4 + 2 * n], forged
    assert witness.ran["s"] == list(range(15))
    assert not witness.overlaps


async def test_the_late_worker_that_was_paused_changes_nothing(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, children() as start:
        handles = await bus.submit_many(reply, turns("s", 3))
        first = await start("300", nats_url, namespace, module="order_process")
        await first.says("started s 0 1")
        first.signal(signal.SIGSTOP)
        await start("1", nats_url, namespace, module="order_process")
        await results(handles)
        first.signal(signal.SIGCONT)
        await first.says("ended s 0")
        later = await bus.submit(reply, Turn(session="s", n=3))
        assert await later.result(timeout_s=SOON_S) == 3
        assert len(await records(bus, "end")) == 4


async def test_the_same_submission_twice_has_one_place(nats_url: str, namespace: str) -> None:
    witness = Witness()
    async with roost.connect(nats_url, namespace=namespace) as bus:
        for _ in range(2):
            await bus.submit(reply, Turn(session="s", n=0), key="k")
            await bus.submit_many(reply, turns("s", 2, start=1), keys=["l", "m"])
        places = await bus.log.read_all(Queue(bus.log.subjects, "reply", "s").places)
        assert len(places) == 3
        async with bus.serving(witness.agent()):
            handles = [
                await bus.submit(reply, Turn(session="s", n=n), key=key) for n, key in enumerate("klm")
            ]
            await results(handles)
    assert witness.ran["s"] == [0, 1, 2]


async def test_a_run_s_tasks_keep_the_order_of_their_keys(nats_url: str, namespace: str) -> None:
    """`run.map` and `run.call` need no word of it: the contract has it."""
    witness = Witness()
    plan = roost.Workflow("plan", Turn, int, ack_wait_s=1)
    agent = witness.agent()

    @agent.handles(plan)
    async def _(turn: Turn, run: roost.Run[None]) -> int:
        values = [Turn(session=f"s{k}", n=n) for n in range(5) for k in range(3)]
        async with run.map(reply, values) as outcomes:
            async for outcome in outcomes:
                assert isinstance(outcome, roost.Done)
        return await run.call(reply, Turn(session="s0", n=5), name="last")

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        assert await (await bus.start(plan, Turn(session="", n=0))).result(timeout_s=SOON_S) == 5
    assert witness.ran == {"s0": [0, 1, 2, 3, 4, 5], "s1": list(range(5)), "s2": list(range(5))}
    assert not witness.overlaps


async def test_an_order_key_that_is_no_text_is_refused_before_anything_is_stored(
    nats_url: str, namespace: str
) -> None:
    wrong = roost.Task("wrong", Turn, int, order_key=lambda turn: turn.n)  # type: ignore[arg-type, return-value]
    empty = roost.Task("empty", Turn, int, order_key=lambda turn: "")
    with pytest.raises(roost.ConfigError, match="order_key"):
        roost.Task("text", Turn, int, order_key="session")  # type: ignore[call-overload]
    async with roost.connect(nats_url, namespace=namespace) as bus:
        with pytest.raises(roost.ConfigError, match="order_key returned 7"):
            await bus.submit(wrong, Turn(session="s", n=7))
        with pytest.raises(roost.UnsafeToken):
            await bus.submit(empty, Turn(session="s", n=7))
    assert session_of(Turn(session="", n=1)) is None
