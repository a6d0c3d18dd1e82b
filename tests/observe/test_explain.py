"""`bus.explain` says what a real message would do, and does nothing of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import nats
import pytest
from nats.aio.client import Client as Plain
from pydantic import BaseModel
from typer.testing import CliRunner

import roost
from roost import Bus, ConfigError, Disconnected, Explanation, PermissionDenied, RequestTimeout, Topic
from roost.cli.app import app
from roost.observe._hops import Walk, read_hop
from roost.server import LocalCluster, LocalServer
from roost.server.options import ServerOptions

PATIENCE_S = 10.0


class Note(BaseModel):
    text: str = ""


class Others:
    """Other clients, and all that reaches any of them."""

    def __init__(self, stack: AsyncExitStack) -> None:
        self.got: list[tuple[str, str]] = []
        self.news = asyncio.Event()
        self._stack = stack

    async def client(self, url: str, name: str | None, **options: Any) -> Plain:
        client = await nats.connect(url.split(",")[0], name=name, **options)
        self._stack.push_async_callback(client.close)
        return client

    async def listen(self, client: Plain, who: str, pattern: str, queue: str = "") -> None:
        async def heard(message: Any) -> None:
            self.got.append((who, message.subject))
            self.news.set()

        await client.subscribe(pattern, queue=queue, cb=heard)
        await client.flush()


@asynccontextmanager
async def others() -> AsyncIterator[Others]:
    async with AsyncExitStack() as stack:
        yield Others(stack)


async def until(bus: Bus, subject: str, seen: Callable[[Explanation], bool]) -> Explanation:
    """Servers of a cluster tell each other of subscriptions a moment later."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            if seen(found := await bus.explain(subject)):
                return found
            await asyncio.sleep(0.01)


async def test_it_names_what_a_message_then_reaches(nats_url: str, namespace: str) -> None:
    here = f"{namespace}-x"
    async with roost.connect(nats_url, namespace=namespace) as bus, others() as crowd:
        ann = await crowd.client(nats_url, "ann")
        nameless = await crowd.client(nats_url, None)
        await crowd.listen(ann, "ann *", f"{here}.*.status")
        await crowd.listen(ann, "ann >", f"{here}.>")
        await crowd.listen(nameless, "nameless", f"{here}.w1.status")
        found = await until(bus, f"{here}.w1.status", lambda one: len(one.receivers) == 3)
        rows = [(one.client, one.pattern, one.queue, one.service) for one in found.receivers]
        assert rows[:2] == [("ann", f"{here}.*.status", "", ""), ("ann", f"{here}.>", "", "")]
        client, pattern, *_ = rows[2]
        assert (client, pattern) == (f"client {found.receivers[2].client_id}", f"{here}.w1.status")
        assert (found.streams, found.notes, found.complete) == ((), (), True)
        other = await bus.explain(f"{here}.boss.command")
        assert [one.pattern for one in other.receivers] == [f"{here}.>"]
        assert (await bus.explain("nobody.listens")).receivers == ()
        assert crowd.got == []

        await ann.publish(f"{here}.w1.status")  # and now really: what comes first is what was sent first
        async with asyncio.timeout(PATIENCE_S):
            while len(crowd.got) < 3:
                crowd.news.clear()
                await crowd.news.wait()
        assert sorted(crowd.got) == [(who, f"{here}.w1.status") for who in ("ann *", "ann >", "nameless")]


async def test_nothing_is_stored_and_no_order_to_the_server_is_done(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        jetstream = bus.link.jetstream
        stream = f"EXPLAIN_{namespace}"
        body = {"name": stream, "subjects": [f"{namespace}-s.>"], "storage": "memory"}
        waiting = {"name": stream + "_W", "subjects": [f"{namespace}-w.>"], "retention": "interest"}
        await jetstream.call(f"STREAM.CREATE.{stream}", body)
        await jetstream.call(f"STREAM.CREATE.{stream}_W", waiting | {"storage": "memory"})
        try:
            found = await until(bus, f"{namespace}-s.1", lambda one: bool(one.streams))
            assert (found.streams, found.receivers) == ((stream,), ())
            unwanted = await until(bus, f"{namespace}-w.1", lambda one: bool(one.notes))
            assert unwanted.streams == ()
            assert f"{stream}_W: no consumer is interested" in str(unwanted)
            deletion = await bus.explain(f"$JS.API.STREAM.DELETE.{stream}")
            assert [(one.kind, one.account) for one in deletion.exports] == [("service", "$SYS")]
            assert "go on to account $SYS" in str(deletion)
            assert (await jetstream.call(f"STREAM.INFO.{stream}"))["state"]["messages"] == 0
        finally:
            await jetstream.call(f"STREAM.DELETE.{stream}")
            await jetstream.call(f"STREAM.DELETE.{stream}_W")


async def test_all_members_of_a_queue_group_are_found(nats_url: str, namespace: str) -> None:
    here = f"{namespace}-q.1"
    async with roost.connect(nats_url, namespace=namespace) as bus, others() as crowd:
        names = {f"w{number}" for number in range(9)}
        for name in names:
            member = await crowd.client(nats_url, name)
            await crowd.listen(member, name, here if name < "w5" else f"{namespace}-q.*", "workers")
        await crowd.listen(member, "watcher", f"{namespace}-q.>")
        found = await until(bus, here, lambda one: len(one.receivers) >= 10)
        assert {one.client for one in found.receivers if one.queue == "workers"} == names
        assert [one.pattern for one in found.receivers if not one.queue] == [f"{namespace}-q.>"]
        assert "workers (one of 9)" in str(found)
        assert found.complete
        assert len(crowd.got) == 0


async def test_members_that_may_be_missing_are_said(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roost.observe.explain.MOST", 20)
    async with roost.connect(nats_url, namespace=namespace) as bus, others() as crowd:
        await crowd.listen(await crowd.client(nats_url, "a"), "a", f"{namespace}-q.1", "workers")
        found = await until(bus, f"{namespace}-q.1", lambda one: bool(one.receivers))
        assert not found.complete
        assert "may not be all" in str(found)


async def test_an_address_of_a_topic_and_how_it_shows_itself(nats_url: str, namespace: str) -> None:
    topic = Topic("plant.{site}." + namespace, Note)
    async with roost.connect(nats_url, namespace=namespace) as bus, others() as crowd:
        await crowd.listen(await crowd.client(nats_url, "<b>ann</b>"), "ann", topic.template.wildcard)
        found = await until(bus, topic.at(site="north").subject, lambda one: bool(one.receivers))
        assert (await bus.explain(topic.at(site="north"))) == found
        with pytest.raises(ConfigError, match="site is missing"):
            await bus.explain(topic)
        shown = found._repr_mimebundle_()
        assert shown["text/plain"] == str(found)
        assert "<td" in shown["text/html"]
        assert "&lt;b&gt;ann" in shown["text/html"]
        assert "<b>ann" not in shown["text/html"]


@pytest.mark.parametrize("subject", ["a.*", "a.>", ">", "", "a..b", ".a", "a.", "a b", "a\nb", 5, None])
async def test_what_is_no_subject_of_a_message_is_refused(nats_url: str, subject: Any) -> None:
    async with roost.connect(nats_url) as bus:
        with pytest.raises(ConfigError, match="subject"):
            await bus.explain(subject)


@pytest.mark.parametrize("version", ["2.10.29", "1.4.1", "", "unknown"])
async def test_a_server_that_would_deliver_it_is_sent_nothing(nats_url: str, version: str) -> None:
    async with roost.connect(nats_url) as bus:
        client = bus.link.client
        client._server_info = client._server_info | {"version": version}
        sent = client.stats["out_msgs"]
        with pytest.raises(ConfigError, match=r"needs 2\.11 or later.*Nothing was sent"):
            await bus.explain("some.subject")
        assert client.stats["out_msgs"] == sent


async def test_a_server_that_says_nothing_in_time(own_server: LocalServer) -> None:
    async with roost.connect(own_server.url) as bus:
        with pytest.raises(ConfigError, match="timeout_s"):
            await bus.explain("a.b", timeout_s=0)
        own_server.pause()
        with pytest.raises(RequestTimeout):
            await bus.explain("a.b", timeout_s=0.05)
        asking = asyncio.create_task(bus.explain("a.b", timeout_s=30))
        await asyncio.sleep(0)
        own_server.kill()
        with pytest.raises(Disconnected):
            await asking


ACCOUNTS = """
no_auth_user: ann
accounts {
  A { users: [ {user: ann, password: pw},
               {user: few, password: pw, permissions: {publish: ["x.>", "_INBOX.>"]}},
               {user: no_inbox, password: pw, permissions: {publish: ["x.>"]}},
               {user: reader, password: pw, permissions: {subscribe: {allow: ["x.>"], deny: ["x.secret"]}}} ]
      imports: [ {service: {account: B, subject: "open.service"}}, {service: {account: B, subject: "other.service"}} ]
      exports: [ {stream: "news.>"} ]
      mappings: { "old.name": "x.new" } }
  B { jetstream: enabled
      users: [ {user: bob, password: pw} ]
      exports: [ {service: "open.service", allow_trace: true}, {service: "other.service"} ]
      imports: [ {stream: {account: A, subject: "news.>"}, allow_trace: true} ] }
}
"""


async def test_permissions_mappings_and_other_accounts() -> None:
    with LocalServer(ServerOptions(extra_config=ACCOUNTS), proved=False) as server:
        async with others() as crowd, roost.connect(server.url) as bus:
            bob = await crowd.client(server.url, "bob", user="bob", password="pw")
            for pattern in ("open.service", "other.service"):
                await crowd.listen(bob, "bob", pattern, "workers")
            await crowd.listen(bob, "bob", "news.*")
            reader = await crowd.client(server.url, "reader", user="reader", password="pw")
            await crowd.listen(reader, "reader", "x.>")

            served = await bus.explain("open.service")
            [receiver] = served.receivers
            assert (receiver.client, receiver.account, receiver.service) == ("bob", "B", "open.service")
            assert served.account == "A"
            hidden = await bus.explain("other.service")
            assert (hidden.receivers, [one.account for one in hidden.exports]) == ((), ["B"])
            assert "nobody in this account" in str(hidden)
            [listed] = (await bus.explain("news.today")).receivers
            assert (listed.client, listed.account, listed.service) == ("bob", "B", "")

            mapped = await bus.explain("old.name")
            assert (mapped.mapped_to, [one.client for one in mapped.receivers]) == ("x.new", ["reader"])
            secret = await bus.explain("x.secret")
            assert secret.receivers == ()
            assert "reader on x.>: Not delivered because subscription denies" in str(secret)

            await crowd.listen(reader, "reader", "x.*", "crew")
            assert [one.queue for one in (await bus.explain("x.open")).receivers] == ["", "crew"]
            assert (await bus.explain("x.secret")).receivers == ()

            for user, subject, denied in (
                ("few", "y.1", "y.1"),
                ("no_inbox", "x.1", "_INBOX"),
            ):
                async with roost.connect(
                    server.url, credentials=roost.Credentials(user=user, password="pw")
                ) as poor:
                    with pytest.raises(PermissionDenied) as caught:
                        await poor.explain(subject)
                    assert caught.value.action == "publish"
                    assert caught.value.subject.startswith(denied)
            assert crowd.got == []


async def test_in_a_cluster_every_server_reports(own_cluster: LocalCluster) -> None:
    urls = own_cluster.url.split(",")
    async with others() as crowd, roost.connect(urls[0]) as bus:
        for number, url in enumerate(urls):
            client = await crowd.client(url, f"c{number}")
            await crowd.listen(client, f"c{number}", "x.1")
            await crowd.listen(client, f"c{number}", "x.*", "workers")
        found = await until(bus, "x.1", lambda one: len(one.receivers) == 6)
        assert [one.client for one in found.receivers if not one.queue] == ["c0", "c1", "c2"]
        assert [one.client for one in found.receivers if one.queue] == ["c0", "c1", "c2"]
        assert (len(set(found.servers)), found.complete) == (3, True)
        assert crowd.got == []


def report(*events: dict[str, Any], hops: int = 0, hop: str = "", server: str = "n0") -> bytes:
    header = {"Nats-Trace-Dest": ["x"]} | ({"Nats-Trace-Hop": [hop]} if hop else {})
    coming = {"type": "in", "kind": 0, "acc": "$G", "subj": "x"}
    body = {
        "server": {"name": server, "id": server},
        "request": {"header": header},
        "events": [coming, *events],
    }
    return json.dumps(body | ({"hops": hops} if hops else {})).encode()


def test_reports_may_come_in_any_order() -> None:
    far = report({"type": "eg", "kind": 0, "cid": 7, "name": "far", "sub": "x"}, hop="1.1", server="n2")
    middle = report({"type": "eg", "kind": 4, "cid": 3, "hop": "1.1"}, hops=1, hop="1", server="n1")
    first = report({"type": "eg", "kind": 1, "cid": 2, "hop": "1"}, hops=1)
    walk = Walk()
    for data in (far, middle, first):
        assert not walk.complete
        hop = read_hop(data)
        assert hop is not None
        walk.add(hop)
    assert walk.complete
    found = Explanation.of("x", [walk])
    assert found.servers[0] == "n0"
    assert [(one.client, one.server) for one in found.receivers] == [("far", "n2")]


def test_an_old_server_on_the_way_and_a_missing_report_are_said() -> None:
    old = {"type": "eg", "kind": 1, "cid": 2, "name": "n1", "error": "Not delivered because remote is old"}
    walk = Walk()
    hop = read_hop(report(old, hops=1))
    assert hop is not None
    walk.add(hop)
    found = Explanation.of("x", [walk])
    assert found.notes == ("n1: Not delivered because remote is old.",)
    assert not found.complete


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"{}", b'{"events": []}', b'{"events": [5]}', b'{"events": [{"type": "eg"}]}']
)
def test_what_is_no_report_is_passed_over(data: bytes) -> None:
    assert read_hop(data) is None


def test_a_report_of_strange_values_raises_nothing() -> None:
    events = b'[{"type": "in", "acc": 5}, {"type": "eg", "kind": "x"}]'
    data = b'{"server": 5, "request": [], "hops": "x", "events": ' + events + b"}"
    hop = read_hop(data)
    assert hop is not None
    assert (hop.server, hop.onward, hop.account) == ("", 0, "")


def test_the_command(nats_url: str) -> None:
    said = CliRunner().invoke(app, ["explain", "nobody.here", "--url", nats_url])
    assert said.exit_code == 0
    assert "would be delivered to nobody" in said.stdout
    told = CliRunner().invoke(app, ["explain", "nobody.here", "--json", "--url", nats_url])
    assert json.loads(told.stdout)["receivers"] == []
    wrong = CliRunner().invoke(app, ["explain", "a.*", "--url", nats_url])
    assert wrong.exit_code == 2
