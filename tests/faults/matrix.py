"""Runs the fault matrix, row by row, and keeps the results as data: `python -m faults.matrix [ROW ...]`.

Each row runs on one server and on three, under load, and the log is recounted by a checker that knows nothing of
Roost. The results are kept in `docs/reliability.json`, those of one commit together; `faults.table` makes the page
of them.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from faults import rows_between as rows_between
from faults import table
from faults.partition import PartedCluster
from faults.rows import ROWS, Row
from faults.scene import RESULTS, Found, Scene, Server
from roost.server import LocalCluster, LocalServer, ServerOptions
from roost.server.find import find_server
from roost.testing.faults import Disk, FaultUnavailable

HERE = Path(__file__).resolve().parent
LIMIT_S = 180.0
"""For one row."""


async def run(row: Row, servers: int, seed: int) -> Found:
    """One row on so many servers. Raises FaultUnavailable where this machine cannot make the fault."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="roost-faults-")))
        disk = stack.enter_context(Disk(row.disk_mb)) if row.disk_mb else None
        options = ServerOptions(
            store_dir=(disk.path if disk else folder) / "store",
            sync_always=row.sync_always,
            extra_config=row.config,
            start_timeout_s=30.0,
        )
        cluster = PartedCluster if row.parted else LocalCluster
        server: Server = LocalServer(options) if servers == 1 else cluster(3, options)
        stack.enter_context(server)
        scene = Scene(server, folder, seed, workers=row.workers, rate=row.rate, disk=disk)
        async with asyncio.timeout(LIMIT_S), scene:
            return await row.run(scene) or await scene.end()


def judged(row: Row, servers: int, seed: int) -> dict[str, Any]:
    """The result of one row, as it is kept."""
    began = time.monotonic()
    kept: dict[str, Any] = {"row": row.name, "servers": servers, "seed": seed}
    kept |= {
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "server": server_version(),
    }
    try:
        kept |= asdict(asyncio.run(run(row, servers, seed)))
        kept["held"] = not kept["broken"]
    except FaultUnavailable as error:
        kept["not_run"] = str(error)
    except Exception as error:
        kept |= {"held": False, "broken": {"the row itself": [f"{type(error).__name__}: {error}"]}}
    return kept | {"duration_s": round(time.monotonic() - began, 1)}


def commit() -> str:
    """What was tested, with a + if the code was changed since."""

    def git(*words: str) -> str:
        done = subprocess.run(["git", *words], cwd=HERE, capture_output=True, text=True, check=False)
        return done.stdout.strip()

    return git("rev-parse", "--short=10", "HEAD") + ("+" if git("status", "--porcelain", "../../src") else "")


def server_version() -> str:
    """Of the nats-server that the rows run."""
    said = subprocess.run([find_server(), "--version"], capture_output=True, text=True, check=True).stdout
    return said.split("v")[-1].strip()


def keep(result: dict[str, Any]) -> None:
    """Beside the results of the same row with the same commit; those of others are dropped."""
    there = json.loads(RESULTS.read_text()) if RESULTS.exists() else []

    def stale(one: dict[str, Any]) -> bool:
        same = (one["row"], one["servers"]) == (result["row"], result["servers"])
        return same and (one["commit"] != result["commit"] or "not_run" in one)

    order = {row.name: number for number, row in enumerate(ROWS)}
    there = [one for one in there if not stale(one) and one["row"] in order]
    there = sorted([*there, result], key=lambda one: (order[one["row"]], one["servers"]))
    RESULTS.write_text(json.dumps(there, indent=1) + "\n")


def main() -> int:
    parser = argparse.ArgumentParser(prog="faults.matrix")
    parser.add_argument("rows", nargs="*", metavar="ROW", help="default: all")
    parser.add_argument("--servers", type=int, choices=(1, 3), help="default: both")
    parser.add_argument("--seed", type=int, default=None)
    chosen = parser.parse_args()
    seed = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(2**32)
    unknown = set(chosen.rows) - {row.name for row in ROWS}
    if unknown:
        parser.error(
            f"no such row: {', '.join(sorted(unknown))}; there are {', '.join(r.name for r in ROWS)}"
        )
    todo = [
        (row, servers)
        for row in ROWS
        for servers in row.servers
        if (not chosen.rows or row.name in chosen.rows) and chosen.servers in (None, servers)
    ]
    logging.getLogger("roost").setLevel(logging.CRITICAL)  # what befalls them is in their own logs
    print(f"{len(todo)} rows, seed {seed} (repeat with --seed {seed}), load {os.getloadavg()[0]:.1f}")
    wrong = 0
    for number, (row, servers) in enumerate(todo, 1):
        print(f"[{number}/{len(todo)}] {row.name} on {servers}: {row.fault}", flush=True)
        result = judged(row, servers, seed)
        keep(result)
        if "not_run" in result:
            print(f"    not run: {result['not_run']}")
            continue
        fine = result["held"] or row.no_promise
        wrong += not fine
        print(
            f"    {'held' if result['held'] else 'no promise' if row.no_promise else 'BROKEN'}  "
            f"{result['duration_s']} s  {result.get('tasks')} tasks, {result.get('lost')} lost, "
            f"{result.get('doubled')} doubled, {result.get('longest_unavailable_s')} s without a submission, "
            f"{result.get('longest_still_s')} s without an outcome"
        )
        for what, which in result["broken"].items():
            print(f"    {what}: {which}")
        for words in result.get("said", ()):
            print(f"    said: {words}")
    table.main()
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
