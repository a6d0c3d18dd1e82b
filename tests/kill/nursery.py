"""Begins workers and submitters by fork: `python -m kill.nursery`, orders on stdin, news on stdout.

A fresh interpreter spends half a second of a processor on imports, so that a test that kills dozens of processes
would mostly watch them begin. Here one process imports everything and forks; it has no threads and no event loop,
so its children begin clean. It signals only children that it has not reaped, and takes them all with it when
its own stdin ends.

Orders are JSON lines: `{"do": "begin", "what": "worker", "log": path, "arguments": [...]}` and
`{"do": "signal", "pid": n, "number": n}`. News are lines: `began <pid>`, `ready <pid>`, `ended <pid> <exit code>`.
"""

from __future__ import annotations

import asyncio
import json
import os
import select
import signal
import sys
import traceback
from collections.abc import Callable
from typing import Any

from kill import submitter, worker

MAINS: dict[str, Callable[..., Any]] = {"worker": worker.main, "submitter": submitter.main}


def tell(*words: object) -> None:
    os.write(1, (" ".join(map(str, words)) + "\n").encode())


def begin(what: str, log: str, arguments: list[str]) -> int:
    """The process id of a child that runs one of MAINS; never returns in the child."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    try:
        news = os.dup(1)
        file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(file, 1)
        os.dup2(file, 2)
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        ready = f"ready {os.getpid()}\n".encode()
        asyncio.run(MAINS[what](*arguments, ready=lambda: os.write(news, ready)))
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def reap(children: set[int]) -> None:
    """Tell of every child that has ended."""
    while children:
        pid, status = os.waitpid(-1, os.WNOHANG)
        if not pid:
            return
        children.discard(pid)
        tell("ended", pid, os.waitstatus_to_exitcode(status))


def obey(order: Any, children: set[int]) -> None:
    if order["do"] == "begin":
        pid = begin(order["what"], order["log"], order["arguments"])
        children.add(pid)
        tell("began", pid)
    elif order["pid"] in children:
        os.kill(order["pid"], order["number"])


def main() -> None:
    woken, wakes = os.pipe()
    os.set_blocking(wakes, False)
    signal.set_wakeup_fd(wakes, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda number, frame: None)
    children: set[int] = set()
    orders = b""
    while True:
        readable, _, _ = select.select([0, woken], [], [])
        if woken in readable:
            os.read(woken, 4096)
            reap(children)
        if 0 in readable:
            data = os.read(0, 65536)
            if not data:
                break
            *lines, orders = (orders + data).split(b"\n")
            for line in lines:
                obey(json.loads(line), children)
    for pid in children:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    main()
