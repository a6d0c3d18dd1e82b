"""A disk that answers late: each sync of a running process is held up."""

from __future__ import annotations

import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from roost.testing.faults._unavailable import FaultUnavailable
from roost.testing.faults.processes import HasPid, pid_of

SYNCS = "fsync,fdatasync,sync_file_range"
WRITES = "write,pwrite64"


@contextmanager
def slow_disk(process: int | HasPid, *, sync_s: float = 0.05, write_s: float = 0.0) -> Iterator[None]:
    """For the length of the block each sync of the process takes `sync_s` seconds longer, each write `write_s`.

    It is done by `strace`, which slows the process down a little besides. Of a `LocalServer` give `server.pid`; without
    ``sync_always`` it syncs rarely, so `write_s` is what slows it. Raises FaultUnavailable without strace, or
    where one process may not trace another.
    """
    if shutil.which("strace") is None:
        raise FaultUnavailable("a slow disk needs the program strace")
    slowed = [(names, seconds) for names, seconds in ((SYNCS, sync_s), (WRITES, write_s)) if seconds > 0]
    command = ["strace", "-f", "-qq", "-o", "/dev/null"]
    command += ["-e", "trace=" + ",".join(names for names, _ in slowed)]
    for names, seconds in slowed:
        command += ["-e", f"inject={names}:delay_exit={int(seconds * 1e6)}"]
    tracer = subprocess.Popen(
        [*command, "-p", str(pid_of(process))], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )
    try:
        _await_attached(tracer, pid_of(process))
        yield
    finally:
        tracer.terminate()
        tracer.communicate(timeout=10)


def _await_attached(tracer: subprocess.Popen[str], pid: int) -> None:
    """Wait until every thread of the process is traced."""
    until = time.monotonic() + 5.0
    while time.monotonic() < until:
        if tracer.poll() is not None:
            said = tracer.stderr.read().strip() if tracer.stderr is not None else ""
            raise FaultUnavailable(f"strace cannot trace process {pid} here: {said[:300]}")
        threads = list(Path(f"/proc/{pid}/task").glob("*/status"))
        if threads and all(f"TracerPid:\t{tracer.pid}" in file.read_text() for file in threads):
            return
        time.sleep(0.01)
    raise FaultUnavailable(f"strace did not get hold of process {pid} within 5 s")
