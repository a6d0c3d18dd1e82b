"""A local server: ready at once, useful, and gone without a trace."""

from __future__ import annotations

import os
import re
import socket
import statistics
import urllib.request
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path

import nats
import pytest

from roost.errors import ServerUnavailable
from roost.server import LocalServer, ServerOptions
from roost.server import local as implementation
from roost.server._probe import prove_ready
from roost.server._store_lock import lock_store

FAKE = """#!/bin/sh
if [ "$1" = --version ]; then echo 'nats-server: v2.15.1'; exit 0; fi
"""


def fake_server(folder: Path, *lines: str) -> Path:
    path = folder / "fake-server"
    path.write_text(FAKE + "\n".join(lines) + "\n")
    path.chmod(0o755)
    return path


def is_gone(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False


def test_a_server_is_ready_well_under_a_second(capsys: pytest.CaptureFixture[str]) -> None:
    seconds = []
    for _ in range(5):
        with LocalServer() as server:
            seconds.append(server.ready_s)
    with capsys.disabled():
        print(f" [ready in {statistics.median(seconds) * 1000:.0f} ms, median of 5] ", end="")
    assert statistics.median(seconds) < 1


async def test_jetstream_works_with_a_plain_client(own_server: LocalServer) -> None:
    client = await nats.connect(own_server.url)
    streams = client.jetstream()
    await streams.add_stream(name="S", subjects=["s.>"])
    assert (await streams.publish("s.1", b"one")).seq == 1
    assert (await streams.get_msg("S", 1)).data == b"one"
    await client.close()


def test_stop_leaves_no_process_and_no_file() -> None:
    server = LocalServer().start()
    pid, store = server.pid, server.store_dir
    assert (store / "jetstream").is_dir()
    server.stop()
    assert is_gone(pid)
    assert not store.parent.exists()
    assert not server.running


def test_stopping_twice_is_fine_and_a_stopped_server_does_not_start_again() -> None:
    server = LocalServer().start()
    server.stop()
    server.stop()
    with pytest.raises(ServerUnavailable, match="make another"):
        server.start()


def test_a_server_that_never_started_can_be_stopped() -> None:
    LocalServer().stop()


def test_a_frozen_server_can_be_stopped_without_waiting_for_the_grace() -> None:
    server = LocalServer(ServerOptions(stop_grace_s=600)).start()
    pid = server.pid
    server.pause()
    server.stop()
    assert is_gone(pid)


def test_ten_servers_at_once_have_ten_ports() -> None:
    with ExitStack() as stack, ThreadPoolExecutor(max_workers=10) as threads:
        servers = list(threads.map(lambda _: stack.enter_context(LocalServer()), range(10)))
        assert len({server.port for server in servers}) == 10
        for server in servers:
            with socket.create_connection(("127.0.0.1", server.port), timeout=5) as connection:
                assert connection.recv(4) == b"INFO"


def test_it_listens_on_loopback_only(own_server: LocalServer) -> None:
    listening = [
        line.split()[1]
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        if line.split()[3] == "0A" and line.split()[1].endswith(f":{own_server.port:04X}")
    ]
    assert listening == [f"0100007F:{own_server.port:04X}"]


def test_it_can_listen_on_the_loopback_of_ipv6() -> None:
    with LocalServer(ServerOptions(host="::1")) as server:
        assert server.url == f"nats://[::1]:{server.port}"
        with socket.create_connection(("::1", server.port), timeout=5) as connection:
            assert connection.recv(4) == b"INFO"


async def test_a_store_of_ones_own_outlives_the_server(tmp_path: Path) -> None:
    options = ServerOptions(store_dir=tmp_path / 'a "strange" \\ name')
    with LocalServer(options) as server:
        client = await nats.connect(server.url)
        await client.jetstream().add_stream(name="S", subjects=["s.>"])
        await client.jetstream().publish("s.1", b"kept")
        await client.close()
    with LocalServer(options) as server:
        client = await nats.connect(server.url)
        assert (await client.jetstream().get_msg("S", 1)).data == b"kept"
        await client.close()


def test_two_servers_never_share_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(implementation, "_PORT_PATIENCE_S", 0.1)
    options = ServerOptions(store_dir=tmp_path)
    with LocalServer(options) as first:
        with pytest.raises(ServerUnavailable, match="in use by another local server"):
            LocalServer(options).start()
        assert first.running
    with LocalServer(options) as second:
        assert second.running


def test_a_store_that_is_just_being_left_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    held = lock_store(tmp_path, wait_s=0)
    monkeypatch.setattr("time.sleep", lambda _: os.close(held))
    os.close(lock_store(tmp_path, wait_s=30))


def test_a_store_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    in_the_way = tmp_path / "file"
    in_the_way.touch()
    with pytest.raises(ServerUnavailable, match="file/store cannot be used: Not a directory"):
        LocalServer(ServerOptions(store_dir=in_the_way / "store")).start()


def test_a_server_that_ends_at_its_start_says_why() -> None:
    server = LocalServer(ServerOptions(extra_config="nonsense_key: 3"))
    with pytest.raises(ServerUnavailable, match=r'(?s)exit code 1.*unknown field "nonsense_key"'):
        server.start()
    assert not server.running
    assert server.log_tail() == []


def test_a_port_in_use_is_named(own_server: LocalServer) -> None:
    with pytest.raises(ServerUnavailable, match=f"port {own_server.port} on 127.0.0.1 is in use"):
        LocalServer(ServerOptions(port=own_server.port)).start()


def test_a_server_that_never_gets_ready_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    note = tmp_path / "pid"
    fake = fake_server(tmp_path, f"echo $$ > {note}", "echo thinking >&2", "exec sleep 600")
    monkeypatch.setenv("ROOST_NATS_SERVER", str(fake))
    with pytest.raises(ServerUnavailable, match=r"(?s)not ready within 1 s .*thinking"):
        LocalServer(ServerOptions(start_timeout_s=1)).start()
    assert is_gone(int(note.read_text()))


def test_a_server_that_ignores_sigterm_is_killed_after_the_grace(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / "pid"
    fake = fake_server(
        tmp_path, f"echo $$ > {note}", "trap '' TERM", "while :; do read line; done < /dev/zero"
    )
    monkeypatch.setenv("ROOST_NATS_SERVER", str(fake))
    with pytest.raises(ServerUnavailable, match="not ready"):
        LocalServer(ServerOptions(start_timeout_s=1, stop_grace_s=0.2)).start()
    assert is_gone(int(note.read_text()))


@pytest.mark.parametrize(
    ("greeting", "complaint"),
    [
        (b"HTTP/1.1 400 Bad Request\r\n", "its greeting was b'HTTP"),
        (b'INFO {"version":"2.15.1"}\r\n', "does not offer JetStream"),
        (b"INFO {\"jetstream\":true}\r\n-ERR 'Permissions Violation'\r\n", "Permissions Violation"),
        (b'INFO {"jetstream":true}\r\n', "it closed the connection"),
    ],
)
def test_what_listens_without_doing_the_work_is_not_called_ready(greeting: bytes, complaint: str) -> None:
    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.sendall(greeting)
            connection.shutdown(socket.SHUT_WR)
            while connection.recv(4096):
                continue

    with socket.create_server(("127.0.0.1", 0)) as listener, ThreadPoolExecutor(1) as thread:
        answering = thread.submit(answer)
        with pytest.raises(ConnectionError, match=complaint):
            prove_ready("127.0.0.1", listener.getsockname()[1], timeout_s=5)
        answering.result()


def test_a_server_is_not_ready_before_it_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"nats://127.0.0.1:{silent.getsockname()[1]}"
        note = f"""while [ "$1" != --ports_file_dir ]; do shift; done; echo '{{"nats":["{url}"]}}' > "$2/x.ports\""""
        monkeypatch.setenv("ROOST_NATS_SERVER", str(fake_server(tmp_path, note, "exec sleep 600")))
        with pytest.raises(ServerUnavailable, match=r"not ready within .* s .timed out"):
            LocalServer(ServerOptions(start_timeout_s=0.5)).start()


async def test_a_server_with_passwords_starts_too() -> None:
    with LocalServer(ServerOptions(extra_config="authorization { user: u, password: p }")) as server:
        client = await nats.connect(server.url, user="u", password="p")
        await client.jetstream().account_info()
        await client.close()


def test_the_options_reach_the_server() -> None:
    options = ServerOptions(max_payload=2048, sync_always=True, extra_config="http: 127.0.0.1:-1")
    with LocalServer(options) as server:
        log = "\n".join(server.log_tail(100))
        monitor = re.search(r"http monitor on (127\.0\.0\.1:\d+)", log)
        assert monitor
        with urllib.request.urlopen(f"http://{monitor[1]}/varz", timeout=5) as answer:
            varz = answer.read().decode()
    assert '"max_payload": 2048' in varz
    assert '"sync_always": true' in varz


def test_the_future_format_of_ack_subjects_is_off_unless_asked_for(own_server: LocalServer) -> None:
    assert any("js_ack_fc_v2 (disabled)" in line for line in own_server.log_tail(100))
    with LocalServer(ServerOptions(extra_config="feature_flags { js_ack_fc_v2: true }")) as other:
        assert any("js_ack_fc_v2 (opt-in)" in line for line in other.log_tail(100))


def test_what_is_asked_of_a_server_that_does_not_run_is_refused() -> None:
    server = LocalServer()
    for ask in (
        lambda: server.url,
        lambda: server.pid,
        lambda: server.store_dir,
        server.kill,
        server.restart,
    ):
        with pytest.raises(ServerUnavailable, match=r"call start\(\) first"):
            ask()
