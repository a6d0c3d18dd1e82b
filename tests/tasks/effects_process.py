"""A worker whose handler has an effect on a SQLite file, for tests that kill it.

`python -m tasks.effects_process MODE URL NAMESPACE FILE`. It prints `ready`, and what it has just done.
"""

from __future__ import annotations

import asyncio
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import roost
from tasks.support import Number, agent_of
from tasks.worker_process import tell

charged = roost.Task("charged", Number, int, retry=roost.Retry(attempts=20, base_s=0.01), ack_wait_s=0.5)
CONCURRENCY = 4


class Sink:
    """What an outside world keeps: a row for each key, and a line for each call."""

    def __init__(self, file: Path) -> None:
        self._file = file
        with closing(self._open()) as db, db:
            db.execute("create table if not exists charges (key text unique, n int)")
            db.execute("create table if not exists calls (key text)")

    def _open(self) -> sqlite3.Connection:
        return sqlite3.connect(self._file, timeout=20)

    def charge(self, key: str, n: int) -> int:
        """The row of this key: the one there is, or a new one."""
        with closing(self._open()) as db, db:
            db.execute("insert into calls values (?)", (key,))
            db.execute("insert or ignore into charges values (?, ?)", (key, n))
            row: int = db.execute("select rowid from charges where key = ?", (key,)).fetchone()[0]
        return row

    def rows(self) -> dict[str, int]:
        with closing(self._open()) as db:
            return dict(db.execute("select key, rowid from charges"))

    def calls(self) -> list[str]:
        with closing(self._open()) as db:
            return [key for (key,) in db.execute("select key from calls order by rowid")]


async def serve(mode: str, url: str, namespace: str, file: str) -> None:
    sink = Sink(Path(file))

    async def charge(key: str, n: int) -> int:
        row = await asyncio.to_thread(sink.charge, key, n)
        tell("charged", key)
        if mode == "hangs-before-the-record":
            await asyncio.get_running_loop().create_future()
        return row

    async def handler(value: Number, ctx: roost.Context) -> int:
        row = await ctx.once("charge", charge, ctx.idempotency_key, value.n)
        tell("recorded", row)
        if mode == "hangs-after-the-record":
            await asyncio.get_running_loop().create_future()
        return row

    async with roost.connect(url, namespace=namespace) as bus:
        async with bus.serving(agent_of(charged, handler, concurrency=CONCURRENCY)):
            tell("ready")
            await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:5]))
