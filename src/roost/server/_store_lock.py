"""One server per store: a lock on the directory, held as long as a server or its guard may write there.

Two nats-servers on one JetStream directory corrupt it, and neither notices. The lock (`flock`) belongs to an
open file that guard and server inherit, so it ends with the last of them and never needs cleaning up.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

from roost._text import clean
from roost.errors import ServerUnavailable

__all__ = ["lock_store"]

_PAUSE_S = 0.02


def lock_store(store_dir: Path, *, wait_s: float) -> int:
    """Locks `store_dir` (created if missing) and gives the open file descriptor; closing it lets go.

    Waits up to `wait_s` seconds for a server that is just being stopped. Raises ServerUnavailable if another
    one keeps it, or if the directory cannot be used.
    """
    import fcntl  # not on every system; see LocalServer

    where = clean(str(store_dir), 500)
    try:
        store_dir.mkdir(parents=True, exist_ok=True)
        lock = os.open(store_dir / "roost-server.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as problem:
        raise ServerUnavailable(
            f"the store {where} cannot be used: {problem.strerror}. Nothing was started. Choose another folder "
            "(--store, store_dir) that this user may write to."
        ) from problem
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as taken:
            if time.monotonic() < deadline:
                time.sleep(_PAUSE_S)  # flock has no timeout of its own
                continue
            os.close(lock)
            raise ServerUnavailable(
                f"the store {where} is in use by another local server; two on one store would destroy it. Nothing "
                "was started. Stop the other one, connect to it (NATS_URL), or choose another folder (--store, "
                "store_dir)."
            ) from taken
        return lock
