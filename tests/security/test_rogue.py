"""A worker that was taken over: plain nats-py with its password, trying what it must not be able to do.

Everything is refused but what decision 016 says cannot be fenced, and that is shown too, so that nobody is surprised.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import team
from nats.aio.client import Client as PlainClient
from security_kit import (
    SHOP,
    SOON_S,
    ConfiguredServer,
    as_user,
    block,
    configured,
    plainly,
    provisioned,
    server_for,
    soon,
    users_of,
)

import roost
from roost.permissions import Rights, User, accounts_of, nats_config
from roost.tasks import Ref

AGENTS = (team.packer, team.keeper, team.planner, team.clerk)
STREAM = "ROOST_shop"
FORGED = b'{"status":"done","token":"x","attempts":[],"value":{"n":666}}'
ENDS = "shop.run.*.end.secret.*"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ConfiguredServer]:
    users = [*users_of(*AGENTS), *users_of(*AGENTS, roles=["caller", "observer", "admin"])]
    with server_for(tmp_path_factory.mktemp("server"), users) as running:
        asyncio.run(provisioned(running, [one.job for one in AGENTS]))
        yield running


WRITES = {
    "an outcome of another contract": ("shop.run.r.end.secret.t", FORGED),
    "a dead letter of another contract": ("shop.run.r.dead.secret.t", b"{}"),
    "a note on another contract": ("shop.run.r.note.secret.t.1", b"{}"),
    "the effect of another contract": ("shop.run.r.once.secret.t.e", b"1"),
    "a task": ("shop.run.r.task.secret.t", b'{"n": 1}'),
    "a schedule": ("shop.sched.cron.mine", b'{"n": 1}'),
    "a schedule of a task that begins later": ("shop.sched.at.pack.1.r.t", b""),
    "what only a schedule sends": ("shop.fired.pack.cron.mine", b'{"n": 1}'),
    "a wake of another contract": ("shop.run.secret::.task.secret.wake.1.r.t", b""),
    "all schedules removed": ("$JS.API.STREAM.PURGE.ROOST-SCHED_shop", b""),
    "a step": ("shop.run.r.step.s", b"{}"),
    "a takeover": ("shop.run.r.epoch", b"{}"),
    "a state": ("shop.run.r.state", b"{}"),
    "a signal": ("shop.run.r.signal.approve", b"{}"),
    "the log of another namespace": ("other.run.r.end.pack.t", FORGED),
    "a wildcard in a subject": ("shop.run.*.end.*.t", FORGED),
    "the live feed": ("shop.live.run.r.end.secret.t", b""),
    "a cancellation": ("shop.cancel.secret.r.t", b""),
    "a heartbeat of another agent": ("shop.beat.keeper.keeper-1", b"{}"),
    "a request to an endpoint": ("shop.endpoint.price", b"{}"),
    "a request to one instance": ("shop.at.keeper-1.price", b"{}"),
    "a question to all services": ("$SRV.INFO", b""),
    "another's inbox": ("_INBOX_caller.abc.1", FORGED),
    "an inbox without a name": ("_INBOX.abc.1", FORGED),
    "a topic that it only hears": ("branches.north.news", b"{}"),
    "an acknowledgement for another's consumer": (f"$JS.ACK.{STREAM}.task_secret.1.1.1.1.0", b"+ACK"),
    "and in the second form": (f"$JS.ACK._.h.{STREAM}.task_secret.1.1.1.1.0.x", b"+ACK"),
    "a pull from another's consumer": (f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.task_secret", b""),
    "a purge": (f"$JS.API.STREAM.PURGE.{STREAM}", b""),
    "a new stream": ("$JS.API.STREAM.CREATE.MINE", b'{"name":"MINE","subjects":["mine.>"]}'),
    "the log made anew": (f"$JS.API.STREAM.CREATE.{STREAM}", b"{}"),
    "the log deleted": (f"$JS.API.STREAM.DELETE.{STREAM}", b""),
    "the log changed": (f"$JS.API.STREAM.UPDATE.{STREAM}", b"{}"),
    "a record deleted": (f"$JS.API.STREAM.MSG.DELETE.{STREAM}", b'{"seq":1}'),
    "a copy of the log": (f"$JS.API.STREAM.SNAPSHOT.{STREAM}", b'{"deliver_subject":"_INBOX_packer.x"}'),
    "a consumer made": (f"$JS.API.CONSUMER.CREATE.{STREAM}.mine.shop.run.>", b"{}"),
    "a consumer made in the old way": (f"$JS.API.CONSUMER.DURABLE.CREATE.{STREAM}.mine", b"{}"),
    "its own consumer deleted": (f"$JS.API.CONSUMER.DELETE.{STREAM}.task_pack", b""),
    "its own consumer paused": (f"$JS.API.CONSUMER.PAUSE.{STREAM}.task_pack", b"{}"),
    "the account": ("$JS.API.INFO", b""),
    "the list of streams": ("$JS.API.STREAM.LIST", b""),
    "the server": ("$SYS.REQ.SERVER.PING", b""),
}
READS = {
    "another's inbox": "_INBOX_caller.>",
    "all inboxes": "_INBOX.>",
    "everything": ">",
    "everything of the namespace": "shop.>",
    "the live feed": "shop.live.>",
    "cancellations of others": "shop.cancel.secret.>",
    "another's endpoint": "shop.endpoint.other",
    "heartbeats": "shop.beat.>",
    "questions to another agent": "$SRV.INFO.keeper",
    "the server's events": "$SYS.>",
    "advisories": "$JS.EVENT.>",
}


@pytest.mark.parametrize("what", WRITES)
async def test_it_publishes_nothing_that_is_not_its_own(server: ConfiguredServer, what: str) -> None:
    subject, data = WRITES[what]
    async with plainly(server, "packer") as (rogue, refused):
        await rogue.publish(subject, data, reply="_INBOX_packer.answer")
        await rogue.flush()
        await rogue.flush()
        assert [subject.lower() in one.lower() for one in refused] == [True]


@pytest.mark.parametrize("what", READS)
async def test_it_listens_to_nobody_else(server: ConfiguredServer, what: str) -> None:
    async with plainly(server, "packer") as (rogue, refused):
        await rogue.subscribe(READS[what])
        await rogue.flush()
        await rogue.flush()
        assert [READS[what].lower() in one.lower() for one in refused] == [True]


SCHEDULES = {
    "its target": {"Nats-Schedule": "@every 1s", "Nats-Schedule-Target": "shop.run.r.end.secret.t"},
    "its source": {
        "Nats-Schedule": "@every 1s",
        "Nats-Schedule-Target": "shop.run.r.note.pack.t.1",
        "Nats-Schedule-Source": "shop.run.r.task.secret.t",
    },
    "a rollup": {"Nats-Rollup": "all"},
    "a rollup of its subject": {"Nats-Rollup": "sub"},
    "a time to live": {"Nats-TTL": "1s"},
}


@pytest.mark.parametrize("what", SCHEDULES)
async def test_headers_that_act_with_the_servers_rights_are_refused_by_the_log(
    server: ConfiguredServer, what: str
) -> None:
    async with plainly(server, "packer") as (rogue, _), as_user(server, "observer") as observer:
        before = await observer.log._stream_info()
        answer = await rogue.request("shop.run.r.note.pack.t.1", FORGED, headers=SCHEDULES[what])
        assert "error" in json.loads(answer.data), answer.data
        after = await observer.log._stream_info()
        assert after["state"]["messages"] == before["state"]["messages"]


ASKS: dict[str, Callable[[str], tuple[str, bytes]]] = {
    "a record by direct get": lambda own: (f"$JS.API.DIRECT.GET.{STREAM}.{own}", b""),
    "records by a batched direct get": lambda own: (
        f"$JS.API.DIRECT.GET.{STREAM}",
        json.dumps({"multi_last": [own]}).encode(),
    ),
    "a record from the leader": lambda own: (
        f"$JS.API.STREAM.MSG.GET.{STREAM}",
        json.dumps({"last_by_subj": own}).encode(),
    ),
    "the log": lambda own: (f"$JS.API.STREAM.INFO.{STREAM}", b""),
    "a task": lambda own: (f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.task_pack", b'{"batch":1,"no_wait":true}'),
    "itself": lambda own: ("$SYS.REQ.USER.INFO", b""),
    "an acknowledgement": lambda own: (own, FORGED),
}


async def forge(rogue: PlainClient, what: str, target: str) -> None:
    """Have the server answer on a subject of one's choice; what it answers is a record of one's own making."""
    own = "shop.run.mine.note.pack.t.1"
    await rogue.request(own, FORGED)
    subject, data = ASKS[what](own)
    await rogue.publish(subject, data, reply=target)
    await rogue.request(subject, data)  # answered after the former
    await rogue.request(own, FORGED)  # stored after whatever that has stored


@pytest.mark.parametrize("what", ASKS)
async def test_the_servers_own_answers_are_not_stored_as_somebodys_outcome(
    server: ConfiguredServer, what: str
) -> None:
    """Who asks chooses the reply subject, and no permission looks at it: the log must not hear it."""
    async with plainly(server, "packer") as (rogue, refused), as_user(server, "observer") as observer:
        await forge(rogue, what, f"shop.run.forged.end.secret.{len(what)}")
        await forge(rogue, what, f"$JS.API.STREAM.PURGE.{STREAM}")
        assert await observer.log.newest([ENDS]) == {}
        assert (await observer.log._stream_info())["state"]["first_seq"] == 1
        assert refused == []


async def test_in_one_account_with_the_log_it_could_forge_outcomes(tmp_path: Path) -> None:
    """Why there are two accounts. If this fails, the server has learned to refuse it, and one would do."""
    users = users_of(*AGENTS, roles=["worker", "coordinator", "reporter", "admin"])
    with configured(tmp_path, flattened(users)) as server:
        await provisioned(server, [one.job for one in AGENTS])
        async with plainly(server, "packer") as (rogue, refused), as_user(server, "admin") as admin:
            await forge(rogue, "a record by direct get", "shop.run.forged.end.secret.t")
            assert refused == []
            found = await admin.log.newest([ENDS])
            assert [record.data for record in found.values()] == [FORGED]


def flattened(users: list[User]) -> str:
    """The same users with the same permissions, all in the account that has the log."""
    accounts = accounts_of(
        SHOP, [User(name=u.name, does=u.does, rights=u.rights, of_the_log=True) for u in users]
    )
    lines = [
        one
        for one in nats_config(accounts).splitlines()
        if "{ service:" not in one and "{ stream:" not in one
    ]
    return "".join(f"{one.variable}: pw\n" for one in users) + "\n".join(lines) + "\n"


class Refused:
    """Waits for the first event of a kind."""

    def __init__(self, bus: roost.Bus, kind: str) -> None:
        self.first = asyncio.Event()
        bus.watch(lambda event: self.first.set() if event.kind == kind else None)


@pytest.mark.parametrize("what", [one for one in ASKS if "record" in one])
async def test_a_reporter_reads_nothing_but_what_it_reports(server: ConfiguredServer, what: str) -> None:
    subject, data = ASKS[what]("shop.run.r.task.secret.t")
    async with plainly(server, "clerk") as (rogue, refused):
        await rogue.publish(subject, data, reply="_INBOX_clerk.x")
        await rogue.flush()
        await rogue.flush()
        assert [subject.lower() in one.lower() for one in refused] == [True]


FOREIGN = b'{"text": "forged"}'


async def test_a_record_sent_to_a_topic_or_as_a_heartbeat_is_not_believed(server: ConfiguredServer) -> None:
    own = "shop.run.mine.note.pack.t.2"
    place = f"$JS.API.DIRECT.GET.{STREAM}.{own}"
    beat = b'{"state":"ready","version":"1.0.0","roost":"1","started":1.0,"interval_s":5}'
    async with as_user(server, "packer") as bus, as_user(server, "observer") as observer:
        async with bus.serving(team.packer, grace_s=0), observer.watch_agents() as watch:
            strays, forgeries = Refused(bus, "message_refused"), Refused(observer, "beat_refused")
            async with plainly(server, "packer") as (rogue, refused), as_user(server, "caller") as caller:
                await rogue.request(own, FOREIGN, headers={"Nats-Stream": "mine"})
                await rogue.publish(place, b"", reply="branches.north.news")
                await rogue.request(own, beat)
                await rogue.publish(place, b"", reply="shop.beat.keeper.keeper-1")
                await asyncio.wait_for(strays.first.wait(), SOON_S)
                await asyncio.wait_for(forgeries.first.wait(), SOON_S)
                await caller.publish(team.news.at(branch="north"), team.News(text="true"))
                assert await soon(team.heard) == "true"
                assert bus.counters["message_refused"] == 1
                assert observer.counters["beat_refused"] == 1
                assert [one.agent for one in watch.agents] == ["packer"]
                assert refused == []


async def test_what_cannot_be_fenced(server: ConfiguredServer) -> None:
    """It reads every record of the namespace, and writes tasks and outcomes of its own contract in every run."""
    async with as_user(server, "caller") as caller, plainly(server, "packer") as (rogue, refused):
        other = await caller.submit(team.secret, team.Order(n=41))
        own = await caller.submit(team.pack, team.Order(n=1))
        answer = await rogue.request(
            f"$JS.API.DIRECT.GET.{STREAM}.{caller.log.subjects.task(Ref.parse(other.id, 'secret'))}"
        )
        assert json.loads(answer.data)["n"] == 41
        await rogue.request(caller.log.subjects.end(Ref.parse(own.id, "pack")), FORGED)
        assert (await own.result(timeout_s=SOON_S)).n == 666
        stored = await rogue.request("shop.run.r.task.pack.mine", b'{"n": 1}')
        assert "error" not in json.loads(stored.data)
        assert refused == []


async def test_a_user_who_hears_itself_is_warned_of(tmp_path: Path) -> None:
    """With the right to answer it may publish anywhere: once, on the reply subject that it gives itself."""
    both = roost.Agent("both", calls=[team.news])
    both.handles(team.news)(team.hear)
    users = users_of(both)
    assert ["branches.*.news" in one for one in users[0].warnings] == [True]
    assert "# WARNING: both publishes on branches.*.news" in block(users)
    assert [one.warnings for one in users_of(*AGENTS)] == [[], [], [], []]
    with server_for(tmp_path, [*users, *users_of(roles=["admin"])]) as server:
        await provisioned(server, [])
        async with plainly(server, "both") as (rogue, refused), as_user(server, "admin") as admin:
            await rogue.subscribe("branches.north.news")
            await rogue.publish("branches.north.news", b"{}", reply="shop.run.r.end.secret.t")
            await rogue.flush()
            await rogue.request("$SYS.REQ.USER.INFO")
            await rogue.request("shop.run.r.end.secret.t", FORGED)
            assert refused == []
            assert len(await admin.log.newest([ENDS])) == 1


def test_rights_that_need_no_server() -> None:
    rights = Rights(publish={"a.*": ""}, subscribe={"a.b": ""})
    assert rights.loops == []
    assert Rights(publish={"a.*": ""}, subscribe={"a.b": ""}, answers=1).loops == ["a.*"]
