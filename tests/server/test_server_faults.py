"""A server that is killed, frozen and brought back, as tests of everything else need it."""

from __future__ import annotations

import os
import select
import signal
import socket

import nats
import pytest

from roost.errors import ServerUnavailable
from roost.server import LocalServer
from roost.server._process import PortTaken, ServerProcess


async def test_a_killed_server_comes_back_on_its_port_with_its_messages(own_server: LocalServer) -> None:
    client = await nats.connect(own_server.url)
    streams = client.jetstream()
    await streams.add_stream(name="S", subjects=["s.>"])
    for number in range(100):
        await streams.publish("s.x", b"%d" % number)
    await client.close()
    url, pid = own_server.url, own_server.pid

    own_server.kill()
    assert not own_server.running
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", own_server.port), timeout=5).close()
    own_server.restart()

    assert own_server.url == url
    assert own_server.pid != pid
    client = await nats.connect(url)
    assert (await client.jetstream().stream_info("S")).state.messages == 100
    await client.close()


def test_a_server_can_be_killed_and_restarted_many_times(own_server: LocalServer) -> None:
    pids = {own_server.pid}
    for _ in range(10):
        own_server.kill()
        own_server.restart()
        pids.add(own_server.pid)
    assert len(pids) == 11


def test_a_running_or_frozen_server_can_be_restarted(own_server: LocalServer) -> None:
    first = own_server.pid
    own_server.restart()
    second = own_server.pid
    own_server.pause()
    own_server.restart()
    assert len({first, second, own_server.pid}) == 3


def test_a_restart_waits_for_a_port_that_somebody_holds_in_passing(
    own_server: LocalServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    own_server.kill()
    holder = socket.create_server(("127.0.0.1", own_server.port))
    launch, refused = ServerProcess.launch, []

    def observed(self: ServerProcess, port: int) -> int:
        try:
            return launch(self, port)
        except PortTaken as problem:
            refused.append(problem)
            holder.close()
            raise

    monkeypatch.setattr(ServerProcess, "launch", observed)
    own_server.restart()
    assert len(refused) == 1
    assert own_server.running


def test_a_frozen_server_keeps_its_connections_and_answers_when_it_goes_on(own_server: LocalServer) -> None:
    with socket.create_connection(("127.0.0.1", own_server.port), timeout=10) as connection:
        received = connection.makefile("rb")
        assert received.readline().startswith(b"INFO")
        connection.sendall(b'CONNECT {"verbose":false}\r\nPING\r\n')
        assert received.readline() == b"PONG\r\n"
        own_server.pause()
        assert own_server.running
        connection.sendall(b"PING\r\n")
        readable, _, _ = select.select([connection], [], [], 0.2)
        assert not readable
        own_server.resume()
        assert received.readline() == b"PONG\r\n"
        received.close()


def test_pausing_and_resuming_twice_is_fine(own_server: LocalServer) -> None:
    for fault in (own_server.pause, own_server.pause, own_server.resume, own_server.resume):
        fault()
    assert own_server.running


def test_a_frozen_server_can_be_killed(own_server: LocalServer) -> None:
    own_server.pause()
    own_server.kill()
    assert not own_server.running


def test_a_server_killed_by_somebody_else_is_noticed_and_said(own_server: LocalServer) -> None:
    os.kill(own_server.pid, signal.SIGKILL)
    readable, _, _ = select.select([own_server], [], [], 10)
    assert readable
    problem = own_server.ended()
    assert problem is not None
    assert "ended by SIGKILL" in str(problem)
    assert "Server is ready" in str(problem)
    with pytest.raises(ServerUnavailable, match="is not running by SIGKILL"):
        own_server.pause()
    own_server.restart()
    assert own_server.ended() is None
