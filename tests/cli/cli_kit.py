"""What the tests of the command line share: `roost <arguments>` in a process of its own, begun without its imports."""

from __future__ import annotations

import atexit
import functools
import json
import socket
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path


@functools.cache
def _orders() -> socket.socket:
    """Where `cli_forks.py` listens; it ends when this process does."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, str(Path(__file__).with_name("cli_forks.py")), str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # no terminal, as the streams of its children
            pass_fds=[theirs.fileno()],
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def roost_command(
    *arguments: str, cwd: Path, env: Mapping[str, str], input: str | None = None
) -> subprocess.CompletedProcess[str]:
    """What `subprocess.run(["roost", *arguments])` gives; a command that takes longer than 60 s is killed."""
    wanted = {"arguments": arguments, "folder": str(cwd), "environment": dict(env)}
    answer, theirs = socket.socketpair()
    with (
        answer,
        tempfile.TemporaryFile("w+") as stdin,
        tempfile.TemporaryFile("w+") as stdout,
        tempfile.TemporaryFile("w+") as stderr,
    ):
        stdin.write(input or "")
        stdin.seek(0)
        with theirs:
            streams = [one.fileno() for one in (stdin, stdout, stderr)]
            socket.send_fds(_orders(), [b"+"], [theirs.fileno(), *streams])
        answer.sendall(json.dumps(wanted).encode() + b"\n")
        code = int(answer.makefile().readline())
        stdout.seek(0)
        stderr.seek(0)
        return subprocess.CompletedProcess(["roost", *arguments], code, stdout.read(), stderr.read())
