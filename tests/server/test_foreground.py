"""`roost server` in the foreground: a URL to read, an end on a signal, an exit code that is true."""

from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import pytest

FOREGROUND = """
import sys
from pathlib import Path
from roost.server import ServerOptions, foreground
store = Path(sys.argv[1]) if len(sys.argv) > 1 else None
sys.exit(foreground.run(ServerOptions(store_dir=store), out=sys.stdout))
"""


@contextmanager
def in_foreground(*arguments: str) -> Iterator[tuple[subprocess.Popen[bytes], IO[bytes]]]:
    surroundings = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    process = subprocess.Popen(
        [sys.executable, "-c", FOREGROUND, *arguments], stdout=subprocess.PIPE, env=surroundings
    )
    assert process.stdout
    with process, process.stdout as out:
        try:
            yield process, out
        finally:
            process.kill()


def port_in(line: bytes) -> int:
    found = re.match(rb"nats://127\.0\.0\.1:(\d+)", line)
    assert found, line
    return int(found[1])


def children_of(pid: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_prints_the_url_first_and_ends_with_zero_on_a_signal(number: signal.Signals) -> None:
    with in_foreground() as (process, out):
        line = out.readline()
        port = port_in(line)
        with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
            assert connection.recv(4) == b"INFO"
        process.send_signal(number)
        rest = out.read()
        assert rest.startswith(b"ready in ")
        assert rest.count(b"\n") == 1
        assert process.wait(10) == 0
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port), timeout=5).close()


def test_it_says_where_the_store_is_and_whether_it_stays(tmp_path: Path) -> None:
    with in_foreground() as (_, out):
        out.readline()
        assert b"(removed at the end)" in out.readline()
    with in_foreground(str(tmp_path)) as (_, out):
        out.readline()
        assert f"store {tmp_path} (kept)".encode() in out.readline()


def test_a_server_that_ends_by_itself_is_reported_with_its_log_and_exit_code_one() -> None:
    with in_foreground() as (process, out):
        out.readline()
        [guard] = children_of(process.pid)
        [server] = children_of(guard)
        os.kill(server, signal.SIGKILL)
        said = out.read().decode()
        assert process.wait(10) == 1
    assert "ended by SIGKILL" in said
    assert "Server is ready" in said


def test_a_killed_foreground_can_be_started_again_at_once_on_its_store(tmp_path: Path) -> None:
    with in_foreground(str(tmp_path)) as (process, out):
        out.readline()
        process.kill()
        with in_foreground(str(tmp_path)) as (_, again):
            assert port_in(again.readline())
