"""Three copies of a log: what one replica does not show may be there, and not every server hears of a new log at once.

A replica that lags behind is made here of a bus whose direct gets leave out the newest records, for longer than any
real one would.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest

import roost
from roost.contracts import Retry
from roost.errors import JetStreamError, NoResponders, RequestTimeout
from roost.server import LocalCluster
from roost.tasks.dead import find_dead, list_dead
from roost.tasks.log import Log
from roost.tasks.reading import find_task, read_history
from roost.transport import Message, pull
from roost.transport.jetstream import NO_LEADER, STREAM_NOT_FOUND
from tasks.support import SOON_S, Events, Number, agent_of, plus_one

double = roost.Task("double", Number, Number, retry=Retry(attempts=3, base_s=0.001, cap_s=0.002))
ROUNDS = 6


def lags(bus: roost.Bus, monkeypatch: pytest.MonkeyPatch, hidden: Callable[[str], bool]) -> None:
    """From now on no direct get of this bus shows a record whose subject is `hidden`."""
    monkeypatch.setattr(Log, "replicated", True)  # as it is where this happens
    jetstream = bus.link.jetstream

    def shown(message: Message) -> bool:
        return not hidden(Log.record_of(message).subject)

    def of_one(get: Callable[..., Any]) -> Callable[..., Any]:
        async def late(*arguments: Any, **options: Any) -> Message | None:
            message: Message | None = await get(*arguments, **options)
            return message if message is not None and shown(message) else None

        return late

    read = jetstream.read

    async def late_read(*arguments: Any, **options: Any) -> list[Message]:
        return [message for message in await read(*arguments, **options) if shown(message)]

    monkeypatch.setattr(jetstream, "last", of_one(jetstream.last))
    monkeypatch.setattr(jetstream, "next", of_one(jetstream.next))
    monkeypatch.setattr(jetstream, "read", late_read)


async def test_attempts_are_counted_that_a_replica_does_not_show(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A task comes back within a millisecond of its note; it would have been tried more often than it may."""
    ran: list[int] = []

    async def failing(value: Number, ctx: roost.Context) -> Number:
        ran.append(ctx.attempt)
        raise ValueError("no")

    async with roost.connect(nats_url, namespace=namespace) as bus:
        lags(bus, monkeypatch, lambda subject: ".note." in subject)
        async with bus.serving(agent_of(double, failing), grace_s=0.1):
            outcome = await (await bus.submit(double, Number(n=1))).outcome(timeout_s=SOON_S)
    assert isinstance(outcome, roost.Dead)
    assert ran == [1, 2, 3]
    assert [attempt.number for attempt in outcome.history] == [1, 2, 3]


async def test_what_an_operator_asks_for_is_found_although_a_replica_lacks_it(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def refuse(value: Number) -> Number:
        raise roost.Reject("no")

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of(double, refuse)):
            handle = await bus.submit(double, Number(n=7), key="k")
            await handle.outcome(timeout_s=SOON_S)
        lags(bus, monkeypatch, lambda subject: True)
        assert [letter.reason for letter in await list_dead(bus.log)] == ["no"]
        assert (await find_dead(bus.log, handle.ref)).input == b'{"n":7}'
        assert await find_task(bus.log, f"{handle.ref.run}/double/{handle.ref.id}") == handle.ref
        history = await read_history(bus.log, handle.ref)
        assert history is not None
        assert history.status == "dead"
        assert len(await bus.log.read_all(f"{namespace}.run.>")) == 3


async def test_a_stream_of_chunks_is_whole_although_a_replica_lacks_its_end(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def telling(value: Number, ctx: roost.Context) -> Number:
        for n in range(5):
            await ctx.emit(Number(n=n))
        return value

    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of(double, telling)):
            handle = await bus.submit(double, Number(n=7))
            await handle.outcome(timeout_s=SOON_S)
        lags(bus, monkeypatch, lambda subject: ".chunk." in subject)
        async with asyncio.timeout(SOON_S):
            assert [chunk.value.n async for chunk in handle.chunks(Number)] == [0, 1, 2, 3, 4]


async def test_a_log_that_is_just_being_made_is_waited_for(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the servers of a cluster say of it then, one after the other; each was seen."""
    nobody_leads = JetStreamError(code=503, err_code=NO_LEADER, description="no leader")
    unknown = JetStreamError(code=404, err_code=STREAM_NOT_FOUND, description="stream not found")
    said = [nobody_leads, RequestTimeout("the log", 0.5), unknown, unknown, nobody_leads]
    async with roost.connect(nats_url, namespace=namespace) as bus:
        ask = bus.link.requests.ask

        async def early(subject: str, *arguments: Any, **options: Any) -> Message:
            if ".STREAM.INFO." in subject and said:
                raise said.pop(0)
            if ".DIRECT.GET." in subject and unheard:
                raise unheard.pop()
            return await ask(subject, *arguments, **options)

        unheard: list[NoResponders] = []
        monkeypatch.setattr(bus.link.requests, "ask", early)
        await bus.log.ensure()
        assert said == []
        unheard = [NoResponders("a replica")]
        assert await bus.log.last(f"{namespace}.run.none.epoch") is None
        assert unheard == []


async def test_three_who_begin_at_once_on_three_servers_find_one_log(
    own_cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each makes log and consumer if need be, submits and works; nobody is told that something is missing."""
    monkeypatch.setattr(
        pull, "UNHEARD_S", 5.0
    )  # on a busy machine servers tell each other later than in half a second
    for number in range(ROUNDS):
        trouble: Counter[str] = Counter()

        async def take_part(url: str, key: str, round: int = number, trouble: Counter[str] = trouble) -> int:
            async with roost.connect(url, namespace=f"at-once-{round}") as bus:
                events = Events(bus)
                async with bus.serving(agent_of(double, plus_one)):
                    handle = await bus.submit(double, Number(n=1), key=key)
                    found = (await handle.result(timeout_s=SOON_S)).n
                trouble.update(event.kind for event in events.seen if event.kind != "closed")
            return found

        asked = [take_part(url, f"{n}") for n, url in enumerate(own_cluster.urls)]
        assert await asyncio.gather(*asked) == [2, 2, 2]
        assert not trouble, f"round {number}"
