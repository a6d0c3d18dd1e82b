"""Runs `roost` again and again in processes that need not import it: `python cli_forks.py <socket>`.

A fresh interpreter spends 0.6 s of a processor on imports before a command says its first word. Here one process
imports what `roost` imports and forks for each command: the child has its own streams, environment and folder,
enters where the console script does, and ends as an interpreter ends. It has no threads and no event loop before.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import socket
import sys

import roost.cli.app  # noqa: F401 - all that the entry point imports
from roost.cli.main import main

LIMIT_S = 60


def wait_for_command(orders: socket.socket) -> bool:
    """Returns True in a process that shall run its command, False in the first one when nobody gives orders."""
    while True:
        byte, fds, _, _ = socket.recv_fds(orders, 1, 4)
        if not byte:
            return False
        if not os.fork():
            orders.close()
            return begun(*fds)
        for fd in fds:
            os.close(fd)


def begun(answer: int, *streams: int) -> bool:
    """Returns in a child of this process only; this one tells how the child ended."""
    said = socket.socket(fileno=answer)
    wanted = json.loads(said.makefile().readline())
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    child = os.fork()
    if child:
        signal.signal(signal.SIGALRM, lambda number, frame: os.kill(child, signal.SIGKILL))
        signal.alarm(LIMIT_S)
        said.sendall(b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
        os._exit(0)
    said.close()
    for number, stream in enumerate(streams):
        os.dup2(stream, number)
        os.close(stream)
    os.chdir(wanted["folder"])
    os.environ.clear()
    os.environ.update(wanted["environment"])
    sys.argv = ["roost", *wanted["arguments"]]
    return True


if __name__ == "__main__":
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how those ended that wait for the commands
    gc.freeze()  # an interpreter that ends searches what it has: here all that was imported
    if wait_for_command(socket.socket(fileno=int(sys.argv[1]))):
        main()
