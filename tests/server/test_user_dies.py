"""However the user of a server ends, the server ends too."""

from __future__ import annotations

import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

from roost.errors import ServerUnavailable
from roost.server import LocalServer, ServerOptions, _process

pytestmark = pytest.mark.skipif(
    not hasattr(os, "pidfd_open"), reason="the tests wait on Linux process handles"
)

USER = """
import json, os, sys
from roost.server import LocalServer
server = LocalServer().start()
facts = {"server": server.pid, "port": server.port, "store": str(server.store_dir)}
"""
SAY = "print(json.dumps(facts), flush=True)\n"
WAIT = "sys.stdin.read()\n"

# Becomes the parent of every orphan below it (PR_SET_CHILD_SUBREAPER, <linux/prctl.h>), kills the user after
# some milliseconds, and ends when nothing that descends from the user is left.
UNDERTAKER = """
import ctypes, os, select, subprocess, sys
ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
user = subprocess.Popen([sys.executable, "-c", sys.argv[1]], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
user.stdout.readline()
select.select([], [], [], float(sys.argv[2]))
user.kill()
while True:
    try:
        os.wait()
    except ChildProcessError:
        break
"""

# What a server is on a system that has no parent-death signal.
WITHOUT_PARENT_DEATH_SIGNAL = """
import ctypes, os, signal, sys
if "--version" in sys.argv:
    sys.exit(print("nats-server: v2.15.1"))
ctypes.CDLL(None).prctl(1, 0, 0, 0, 0)
with open({note!r}, "w") as note:
    note.write(str(os.getpid()))
signal.pause()
"""


@dataclass(frozen=True)
class User:
    process: subprocess.Popen[bytes]
    lines: IO[bytes]
    facts: dict[str, str | int]

    def number(self, name: str) -> int:
        return int(self.facts[name])


@contextmanager
def user(code: str) -> Iterator[User]:
    """A process that uses a local server and has said its numbers; whatever is left of it is killed."""
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdin
    assert process.stdout
    with process, process.stdout as lines:
        facts = json.loads(lines.readline())
        try:
            yield User(process, lines, facts)
        finally:
            process.kill()


@contextmanager
def handle(pid: int) -> Iterator[int]:
    """A descriptor that becomes readable when the process ends; at the end the process is killed if it has not."""
    descriptor = os.pidfd_open(pid)
    try:
        yield descriptor
    finally:
        if not ends(descriptor, 0):
            signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        os.close(descriptor)


def ends(descriptor: int, timeout_s: float = 10) -> bool:
    return bool(select.select([descriptor], [], [], timeout_s)[0])


def parent_of(pid: int) -> int:
    """The guard is the parent of its server."""
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("PPid:")[1].split()[0])


def greets(port: int) -> bool:
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        return connection.recv(4) == b"INFO"


def test_a_killed_user_leaves_no_process_and_no_file() -> None:
    with user(USER + SAY + WAIT) as it:
        guard = parent_of(it.number("server"))
        with handle(it.number("server")) as server_end, handle(guard) as guard_end:
            it.process.kill()
            assert ends(server_end)
            assert ends(guard_end)
    assert not Path(str(it.facts["store"])).parent.exists()


def test_a_user_that_just_exits_leaves_no_process_and_no_file() -> None:
    with user(USER + SAY + WAIT) as it:
        guard = parent_of(it.number("server"))
        with handle(guard) as guard_end:
            assert it.process.stdin
            it.process.stdin.close()
            assert ends(guard_end)
    assert not Path(str(it.facts["store"])).parent.exists()


def test_user_and_guard_killed_at_once_leave_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # nobody is left to remove the directory
    with user(USER + SAY + WAIT) as it:
        guard = parent_of(it.number("server"))
        with handle(it.number("server")) as server_end:
            os.kill(guard, signal.SIGKILL)
            it.process.kill()
            assert ends(server_end)


def test_a_frozen_server_of_a_killed_user_ends_too() -> None:
    with user(USER + "server.pause()\n" + SAY + WAIT) as it, handle(it.number("server")) as server_end:
        it.process.kill()
        assert ends(server_end)


def test_a_forked_child_that_outlives_the_user_does_not_keep_the_server() -> None:
    forked = "facts['child'] = os.fork()\nif facts['child'] == 0: sys.stdin.read()\n"
    with user(USER + forked + SAY + WAIT) as it:
        with handle(it.number("child")) as child_end, handle(it.number("server")) as server_end:
            it.process.kill()
            assert ends(server_end)
            assert not ends(child_end, 0)


def test_a_forked_child_that_ends_does_not_take_the_server_with_it() -> None:
    forked = "if os.fork() == 0:\n    server.stop(); sys.exit()\nos.wait()\n"
    with user(USER + forked + SAY + WAIT) as it:
        assert greets(it.number("port"))


def test_a_user_killed_before_its_server_is_ready_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note, fake = tmp_path / "note", tmp_path / "fake"
    os.mkfifo(note)
    answer = "if [ \"$1\" = --version ]; then echo 'nats-server: v2.15.1'; exit 0; fi"
    fake.write_text(f"#!/bin/sh\n{answer}\necho $$ > {note}\nexec sleep 600\n")
    fake.chmod(0o755)
    monkeypatch.setenv("ROOST_NATS_SERVER", str(fake))
    with user("facts = {}\nimport json\n" + SAY + USER) as it:
        with handle(int(note.read_text())) as server_end:  # reading waits until the server writes
            it.process.kill()
            assert ends(server_end)


@pytest.mark.slow_limit(120)
def test_a_user_killed_at_any_moment_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    chance = random.Random(seed)
    slow_to_kill = USER.replace("LocalServer()", "LocalServer(ServerOptions(stop_grace_s=60))")
    code = "from roost.server import ServerOptions\nprint(flush=True)\n" + slow_to_kill + WAIT
    for _ in range(10):
        after_s = chance.uniform(0, 0.06)  # a start takes about 0.04
        subprocess.run([sys.executable, "-c", UNDERTAKER, code, str(after_s)], timeout=30, check=True)
    stores = list(tmp_path.glob("roost-server-*/store"))
    assert stores == [], f"seed {seed}"


def test_a_lost_guard_takes_the_server_along_and_is_reported() -> None:
    server = LocalServer().start()
    with handle(server.pid) as server_end:
        os.kill(parent_of(server.pid), signal.SIGKILL)
        assert ends(server_end)
    readable, _, _ = select.select([server], [], [], 10)
    assert readable
    assert not server.running
    store = server.store_dir
    server.stop()
    assert not store.parent.exists()


def test_a_frozen_guard_does_not_keep_the_server_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_process, "_ANSWER_S", 0.2)
    server = LocalServer(ServerOptions(stop_grace_s=0.1)).start()
    with handle(server.pid) as server_end, handle(parent_of(server.pid)) as guard_end:
        os.kill(parent_of(server.pid), signal.SIGSTOP)
        server.stop()
        assert ends(server_end)
        assert ends(guard_end)


def test_a_server_that_outlives_a_lost_guard_is_killed_by_its_user(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note, fake = tmp_path / "note", tmp_path / "fake"
    os.mkfifo(note)
    fake.write_text(f"#!{sys.executable}\n" + WITHOUT_PARENT_DEATH_SIGNAL.format(note=str(note)))
    fake.chmod(0o755)
    monkeypatch.setenv("ROOST_NATS_SERVER", str(fake))
    monkeypatch.setattr(_process, "_ANSWER_S", 0.2)
    with ThreadPoolExecutor(1) as thread:
        server = LocalServer(ServerOptions(start_timeout_s=2, stop_grace_s=0.1))
        starting = thread.submit(server.start)
        pid = int(note.read_text())
        with handle(pid) as server_end:
            os.kill(parent_of(pid), signal.SIGKILL)
            assert isinstance(starting.exception(), ServerUnavailable)
            assert ends(server_end)


def test_ctrl_c_in_the_terminal_leaves_the_server_to_its_user() -> None:
    patient = "import signal\nsignal.signal(signal.SIGINT, lambda *_: print('heard', flush=True))\n"
    with user(USER + patient + SAY + WAIT) as it:
        os.killpg(it.process.pid, signal.SIGINT)
        assert it.lines.readline() == b"heard\n"
        server = it.number("server")
        assert os.getpgid(server) != it.process.pid
        assert os.getsid(server) != it.process.pid
        assert greets(it.number("port"))


def test_a_guard_that_is_asked_to_end_stays_with_its_user(own_server: LocalServer) -> None:
    guard = parent_of(own_server.pid)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        os.kill(guard, number)
    own_server.restart()
    assert parent_of(own_server.pid) == guard
