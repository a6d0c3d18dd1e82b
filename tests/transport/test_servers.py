"""Which servers a client knows: told by INFO, and by a real cluster of two."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from socket import socket

from nats.aio.client import Client, Srv

from roost.server.find import find_server
from roost.settings import Settings
from roost.transport import open_client
from roost.transport.servers import merge

parse = Client._parse_server_uri


def names(servers: list[Srv]) -> list[str]:
    return [server.uri.netloc for server in servers]


def test_servers_of_a_cluster_are_added_with_the_user_of_the_url() -> None:
    current = Srv(parse("tls://a:secret@one.example:4222"))
    found = merge([current], current, ["one.example:4222", "10.0.0.2:4222", "two.example:4223"], parse)
    assert names(found) == [
        "a:secret@one.example:4222",
        "a:secret@10.0.0.2:4222",
        "a:secret@two.example:4223",
    ]
    assert [server.uri.scheme for server in found] == ["tls"] * 3
    assert [server.tls_name for server in found] == [None, "one.example", None]


def test_servers_that_have_left_are_forgotten_but_never_those_that_were_given() -> None:
    given, left = Srv(parse("nats://one:4222")), Srv(parse("nats://two:4222"), discovered=True)
    current = Srv(parse("nats://three:4222"), discovered=True)
    assert names(merge([given, left, current], current, ["four:4222"], parse)) == [
        "one:4222",
        "three:4222",
        "four:4222",
    ]


def test_info_without_or_with_unreadable_addresses_changes_nothing() -> None:
    current = Srv(parse("nats://one:4222"))
    for urls in (None, [], "x", 5, [":::", "", None, "host:port", "[::1"]):
        assert names(merge([current], current, urls, parse)) == ["one:4222"]


@contextmanager
def cluster_of_two() -> Iterator[tuple[str, subprocess.Popen[bytes], str]]:
    """Two servers with a password; the URL and process of the first, the address of the second."""
    ports = []
    probes = [socket() for _ in range(3)]
    for probe in probes:
        probe.bind(("127.0.0.1", 0))
        ports.append(probe.getsockname()[1])
    for probe in probes:
        probe.close()
    first, second, route = ports
    common = [
        str(find_server()),
        "-a",
        "127.0.0.1",
        "--user",
        "a",
        "--pass",
        "secret",
        "--cluster_name",
        "two",
    ]
    arguments = [
        ["-p", str(first), "--cluster", f"nats://127.0.0.1:{route}"],
        ["-p", str(second), "--cluster", "nats://127.0.0.1:-1", "--routes", f"nats://127.0.0.1:{route}"],
    ]
    processes = []
    try:
        for own in arguments:
            process = subprocess.Popen([*common, *own], stderr=subprocess.PIPE)
            processes.append(process)
            assert process.stderr is not None
            awaited = b"Server is ready" if own is arguments[0] else b"Route connection created"
            while awaited not in process.stderr.readline():
                pass
        yield f"nats://a:secret@127.0.0.1:{first}", processes[0], f"127.0.0.1:{second}"
    finally:
        for process in processes:
            process.kill()
            process.wait()
            if process.stderr is not None:
                process.stderr.close()


async def test_client_moves_to_a_server_that_it_was_only_told_of() -> None:
    """nats-py knows no password for that one: the attempt is refused, for ever."""
    with cluster_of_two() as (url, process, second):
        events: list[tuple[str, str]] = []
        client = await open_client(Settings(servers=(url,)), lambda *event: events.append(event))
        try:
            async with asyncio.timeout(10):
                while second not in str(client.servers):
                    await (
                        client.flush()
                    )  # the server tells of the other one some time after its route is there
                back = asyncio.Event()
                client.on_reconnect.append(back.set)
                process.kill()
                await back.wait()
            assert client.connected_url is not None
            assert client.connected_url.netloc == f"a:secret@{second}"
            assert "auth_failed" not in dict(events)
        finally:
            await client.close()
