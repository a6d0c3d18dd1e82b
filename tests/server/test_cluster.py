"""Three servers as one: logs with three copies, a leader that dies, a user that dies."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import nats
import nats.errors
import pytest
from nats.js.api import AckPolicy
from pydantic import BaseModel
from test_user_dies import SAY, WAIT, ends, handle, parent_of, user

import roost
from roost.errors import ConfigError, JetStreamError, ServerUnavailable
from roost.server import LocalCluster, LocalServer, ServerOptions

ROOST = Path(sys.executable).with_name("roost")
HERE = Path(__file__).parent

USER = """
import json, sys
from roost.server import LocalCluster
cluster = LocalCluster().start()
facts = {f"n{n}": server.pid for n, server in enumerate(cluster.servers)}
"""


class Page(BaseModel):
    text: str


note = roost.Task("note", Page, Page)


async def submit(url: str, namespace: str, key: str) -> None:
    """A task that nobody does: its record is what the cluster has to keep."""
    async with roost.connect(url, namespace=namespace) as bus:
        await bus.submit(note, Page(text="x"), key=key)


async def stream(url: str, namespace: str) -> tuple[int, int, set[str]]:
    """Number of copies and messages of a log, and the servers that are up to date with it."""
    client = await nats.connect(url.split(","))
    for last in (False, False, True):  # a request may reach nobody in the moment when a leader takes over
        try:
            answer = await client.request(f"$JS.API.STREAM.INFO.ROOST_{namespace}", timeout=2)
            break
        except nats.errors.TimeoutError:
            if last:
                raise
    await client.close()
    info = json.loads(answer.data)
    cluster = info.get("cluster", {})
    current = {cluster.get("leader", "")} | {
        one["name"] for one in cluster.get("replicas", ()) if one["current"]
    }
    return info["config"]["num_replicas"], info["state"]["messages"], current


async def test_a_log_in_a_cluster_has_three_copies_at_once_and_a_leader_of_its_own() -> None:
    async with roost.local_cluster() as cluster:
        assert len(set(cluster.url.split(","))) == 3
        await submit(cluster.url, "new", "a")
        assert (await stream(cluster.url, "new"))[0] == 3
        client = await nats.connect(cluster.url.split(","))
        js = client.jetstream()
        for number in range(8):
            await js.add_consumer("ROOST_new", durable_name=f"c{number}", ack_policy=AckPolicy.EXPLICIT)
        info = await client.request("$JS.API.STREAM.INFO.ROOST_new", timeout=5)
        await client.close()
        leader = await asyncio.to_thread(cluster.leader_of, "ROOST_new")
        assert f"n{leader}" == json.loads(info.data)["cluster"]["leader"]


async def test_a_killed_leader_loses_nothing_and_comes_back_with_everything(
    own_cluster: LocalCluster,
) -> None:
    await submit(own_cluster.url, "work", "before")
    leader = own_cluster.leader_of("ROOST_work")
    own_cluster.kill(leader)
    assert leader not in own_cluster.running
    other = await asyncio.to_thread(own_cluster.leader_of, "ROOST_work")
    assert other != leader
    await submit(own_cluster.url, "work", "meanwhile")
    await asyncio.to_thread(own_cluster.start, leader)
    _, messages, current = await stream(own_cluster.url, "work")
    assert (messages, current) == (2, {"n0", "n1", "n2"})


def test_all_servers_killed_come_back_on_their_addresses(own_cluster: LocalCluster) -> None:
    asyncio.run(submit(own_cluster.url, "work", "kept"))
    before = own_cluster.urls
    for number in range(3):
        own_cluster.kill(number)
    assert own_cluster.running == ()
    own_cluster.start()
    assert own_cluster.urls == before
    assert asyncio.run(stream(own_cluster.url, "work"))[1] == 1


def test_without_a_majority_one_server_starts_and_leads_nothing(own_cluster: LocalCluster) -> None:
    for number in range(3):
        own_cluster.kill(number)
    own_cluster.start(2)
    assert own_cluster.running == (2,)
    with pytest.raises(ServerUnavailable, match=r"no server led the cluster within 0\.2 s; running: n2"):
        own_cluster.leader_of(timeout_s=0.2)


def test_a_frozen_server_stops_neither_work_nor_the_start_of_another(own_cluster: LocalCluster) -> None:
    asyncio.run(submit(own_cluster.url, "work", "before"))
    leader = own_cluster.leader_of("ROOST_work")
    frozen, killed = (leader + 1) % 3, (leader + 2) % 3
    own_cluster.pause(frozen)
    asyncio.run(submit(own_cluster.urls[leader], "work", "meanwhile"))
    own_cluster.kill(killed)
    own_cluster.start()
    assert own_cluster.running == (0, 1, 2)
    own_cluster.resume(frozen)


def test_a_cluster_keeps_its_store_and_knows_whose_it_is(tmp_path: Path) -> None:
    options = ServerOptions(store_dir=tmp_path / "kept", start_timeout_s=30)
    with LocalCluster(3, options) as cluster:
        asyncio.run(submit(cluster.url, "work", "kept"))
    with LocalCluster(3, options) as again:
        again.leader_of("ROOST_work", timeout_s=0.0)  # started is: there is nothing left to wait for
        assert asyncio.run(stream(again.url, "work"))[1] == 1
    (tmp_path / "kept" / "n4").mkdir()
    with pytest.raises(ServerUnavailable, match="is that of 5 servers, not 3"):
        LocalCluster(3, options).start()
    with LocalServer(ServerOptions(store_dir=tmp_path / "single")):
        pass
    with pytest.raises(ServerUnavailable, match="is that of a single server"):
        LocalCluster(3, ServerOptions(store_dir=tmp_path / "single")).start()


def test_a_cluster_that_cannot_start_says_why_and_leaves_nothing() -> None:
    cluster = LocalCluster(3, ServerOptions(extra_config="nonsense_key: 3"))
    with pytest.raises(ServerUnavailable, match='unknown field "nonsense_key"'):
        cluster.start()
    assert cluster.running == ()
    cluster.stop()
    with pytest.raises(ServerUnavailable, match="was stopped"):
        cluster.start()


def test_the_ports_follow_the_one_that_was_asked_for() -> None:
    with LocalServer() as other, pytest.raises(ServerUnavailable, match=f"port {other.port} on .* is in use"):
        LocalCluster(3, ServerOptions(port=other.port)).start()
    with LocalCluster() as cluster:
        free = cluster.servers[0].port
    assert not listens(free)
    if all(not listens(free + n) for n in range(3)):
        with LocalCluster(3, ServerOptions(port=free)) as cluster:
            assert [server.port for server in cluster.servers] == [free, free + 1, free + 2]


@pytest.mark.parametrize("servers", [0, 1, 2, 4, 6])
def test_only_three_or_five_servers_are_a_cluster(servers: int) -> None:
    with pytest.raises(ConfigError, match="a cluster has 3 or 5"):
        LocalCluster(servers)


def test_a_server_that_is_not_there_is_refused(own_cluster: LocalCluster) -> None:
    with pytest.raises(ConfigError, match="server 3: there are 0 to 2"):
        own_cluster.kill(3)
    with pytest.raises(ServerUnavailable, match=r"call start\(\) first"):
        assert LocalCluster().url


def test_a_stranger_cannot_join(own_cluster: LocalCluster) -> None:
    """Another cluster that was given a port of this one after it: without the password it stays alone."""
    route = own_cluster._members[0].route_port
    routes = f'routes: ["nats-route://127.0.0.1:{route}"]'
    lines = f'server_name: x\ncluster {{ name: roost, listen: "127.0.0.1:-1", {routes} }}'
    stranger = LocalServer(ServerOptions(extra_config=lines), proved=False)
    with stranger:
        assert own_cluster.servers[0].running
        while not any("Authentication" in line for line in own_cluster.servers[0].log_tail(50)):
            os.sched_yield()


@pytest.mark.skipif(not hasattr(os, "pidfd_open"), reason="the tests wait on Linux process handles")
def test_a_killed_user_leaves_none_of_three() -> None:
    with user(USER + SAY + WAIT) as it:
        servers = [it.number(f"n{n}") for n in range(3)]
        pids = [*servers, *map(parent_of, servers)]
        handles = [handle(pid) for pid in pids]
        opened = [one.__enter__() for one in handles]
        try:
            it.process.kill()
            assert [ends(one) for one in opened] == [True] * 6
        finally:
            for one in handles:
                one.__exit__(None, None, None)


def test_on_the_command_line_the_first_line_has_three_urls_and_a_killed_server_returns() -> None:
    with subprocess.Popen(
        [ROOST, "server", "--cluster", "3", "--port", "0"], stdout=subprocess.PIPE, text=True
    ) as process:
        out = process.stdout
        assert out is not None
        try:
            url = out.readline().strip()
            assert re.fullmatch(r"nats://127\.0\.0\.1:\d+(,nats://127\.0\.0\.1:\d+){2}", url)
            asyncio.run(submit(url, "work", "a"))
            said = [out.readline() for _ in range(5)]
            assert said[0].startswith("3 servers ready in ")
            assert said[4].startswith("profile dev: ")
            found = re.match(r"n1 is process (\d+), ", said[2])
            assert found
            os.kill(int(found[1]), signal.SIGKILL)
            assert out.readline() == "n1: the local server has ended by SIGKILL; it is started again\n"
            assert re.match(r"n1 is process \d+, ", out.readline())
            process.send_signal(signal.SIGTERM)
            assert out.read() == ""
            assert process.wait(10) == 0
        finally:
            process.kill()
    assert not any(listens(int(one.rsplit(":", 1)[1])) for one in url.split(","))


# --- how many copies --------------------------------------------------------------------------------


async def test_the_environment_says_how_many_copies(
    own_cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOST_REPLICAS", "1")
    await submit(own_cluster.url, "one", "a")
    assert (await stream(own_cluster.url, "one"))[0] == 1
    monkeypatch.setenv("ROOST_REPLICAS", "two")
    with pytest.raises(ConfigError, match="ROOST_REPLICAS is 'two'; it must be 1, 3 or 5"):
        await submit(own_cluster.url, "two", "a")
    monkeypatch.setenv("ROOST_REPLICAS", "5")
    with pytest.raises(
        JetStreamError, match=r"kept on 5 servers: start the missing ones, or set ROOST_REPLICAS=1"
    ):
        await submit(own_cluster.url, "five", "a")


async def test_one_server_keeps_one_copy(own_server: LocalServer) -> None:
    await submit(own_server.url, "one", "a")
    assert (await stream(own_server.url, "one"))[0] == 1


def test_provision_makes_three_copies_in_a_cluster_and_changes_their_number(
    own_cluster: LocalCluster,
) -> None:
    def provision(*arguments: str) -> None:
        subprocess.run(
            [ROOST, "provision", "--url", own_cluster.url, "--namespace", "p", *arguments], check=True
        )

    provision()
    assert asyncio.run(stream(own_cluster.url, "p"))[0] == 3
    provision("--replicas", "1")
    assert asyncio.run(stream(own_cluster.url, "p"))[0] == 1


def test_the_plugin_gives_three_servers_on_request(pytester: pytest.Pytester) -> None:
    pytester.makepyfile(
        """
import asyncio, json, nats, roost
from pydantic import BaseModel
from roost.server import LocalCluster

class Page(BaseModel):
    text: str

def test_three(nats_server, nats_url, namespace):
    async def work():
        async with roost.connect(nats_url, namespace=namespace) as bus:
            await bus.submit(roost.Task("note", Page, Page), Page(text="x"))
            return await bus.link.jetstream.call(f"STREAM.INFO.ROOST_{namespace}")
    assert isinstance(nats_server, LocalCluster) and nats_url.count(",") == 2
    assert asyncio.run(work())["config"]["num_replicas"] == 3
"""
    )
    pytester.runpytest_inprocess("--roost-cluster").assert_outcomes(passed=1)


def listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
