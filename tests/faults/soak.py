"""Half an hour of random faults at 500 tasks a second, pruning on, in a log of 1 GiB: `python -m faults.soak`.

The faults are those of the kill test. Ended runs are pruned a minute after their end, so the log cannot be recounted
at the end: an auditor that knows nothing of Roost reads each record as it is stored, in its own process's plain
client, and goes on behind the last one that it has read when the server was away. The result is kept in
`docs/soak.json`.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from array import array
from collections import Counter
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nats.errors import Error as NatsError
from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

from faults.matrix import commit
from faults.scene import RESULTS as MATRIX
from kill.killer import Arena
from kill.processes import Child, Nursery
from kill.run_checker import Reader
from kill.test_kill import all_ended
from roost.server import LocalServer

NAMESPACE = "kill"
RESULTS = MATRIX.with_name("soak.json")
MAX_BYTES = 2**30
RETENTION_S, DEAD_RETENTION_S = 60, 120
UPKEEP_S = (10.0, 40.0)
"""How long a life of the process that prunes lasts."""
LEAST_RATE = 0.9
"""Of the rate that was asked for: the submitter catches up after an outage."""


class SoakArena(Arena):
    """As that of the kill test, with a file for each life of the submitter."""

    lives = 0
    most_bytes = 0
    most_messages = 0

    _upkeep: Child | None = None

    async def start(self) -> None:
        self._keepers.append(asyncio.create_task(self._keep_upkeep(), name="keep-upkeep"))
        await super().start()

    async def stop(self) -> None:
        self._stopping = True
        if self._upkeep is not None and self._upkeep.alive:
            self._nursery.signal(self._upkeep, signal.SIGTERM)
        await super().stop()

    async def _keep_upkeep(self) -> None:
        """Workers die before it is their turn, so a process does what `roost upkeep` does; it is killed as well."""
        log = self._folder / "upkeep.log"
        while not self._stopping:
            child = self._upkeep = await self._nursery.begin("upkeep", log, self.server.url, self._namespace)
            await asyncio.wait([child.ended], timeout=self._chance.uniform(*UPKEEP_S))
            if not self._stopping:
                self._kill(child)
            self._ended("upkeep", "upkeep", child, await child.ended)

    async def _keep_submitter(self) -> None:
        (self._folder / "next.txt").write_text("0")
        while not self._stopping:
            self.lives += 1
            where = (self.server.url, self._namespace, self._folder, self.lives)
            log = self._folder / "submitter.log"
            child: Child = await self._nursery.begin(
                "submitter", log, *where, self._seed, self._rate, self.began_s
            )
            self._submitter = child
            code = await child.ended
            self._ended("submitter", "submitter", child, code)
            if code != -signal.SIGKILL:
                return

    def lines(self) -> Counter[str]:
        """How often each word stands in all files."""
        return Counter(
            line.partition(" ")[0]
            for path in self._folder.glob("ids-*.txt")
            for line in path.read_text().splitlines()
        )

    def accepted(self) -> set[str]:
        return {
            line[3:]
            for path in self._folder.glob("ids-*.txt")
            for line in path.read_text().splitlines()
            if line.startswith("ok ")
        }


class Auditor:
    """Counts the tasks and the outcomes of each number, as they are stored."""

    def __init__(self, url: str) -> None:
        self._url = url
        self.tasks: Counter[str] = Counter()
        self.ends: Counter[str] = Counter()
        self.statuses: Counter[str] = Counter()
        self.last_seq = 0
        self.longest_lag_s = 0.0
        self.moments = array("d")
        """When outcomes were stored, by the server's clock."""

    async def run(self, told: asyncio.Event) -> None:
        """Until told to stop and everything stored is read."""
        while True:
            with suppress(NatsError, OSError, asyncio.TimeoutError):
                if await self._read(told):
                    return
            await asyncio.sleep(0.2)  # the server is away: part of the faults

    async def _read(self, told: asyncio.Event) -> bool:
        client = Reader()
        await client.connect([self._url], allow_reconnect=False, connect_timeout=2)
        try:
            js = client.jetstream()
            config = ConsumerConfig(
                ack_policy=AckPolicy.NONE,
                deliver_policy=DeliverPolicy.BY_START_SEQUENCE,
                opt_start_seq=self.last_seq + 1,
                inactive_threshold=30,
                mem_storage=True,
            )
            reading = await js.pull_subscribe(
                f"{NAMESPACE}.run.>", stream=f"ROOST_{NAMESPACE}", config=config
            )
            while True:
                over = told.is_set()
                try:
                    messages = await reading.fetch(1000, timeout=1)
                except TimeoutError:
                    if over:
                        return True
                    continue
                for message in messages:
                    self._note(message)
        finally:
            await client.close()

    def _note(self, message: Any) -> None:
        about = message.metadata
        if about.sequence.stream <= self.last_seq:
            return
        self.last_seq = about.sequence.stream
        stored_s = about.timestamp.timestamp()
        self.longest_lag_s = max(self.longest_lag_s, time.time() - stored_s)
        _, kind, *rest = message.subject.split(".")[2:]
        if kind == "task":
            self.tasks[rest[1]] += 1
        elif kind == "end":
            self.ends[rest[1]] += 1
            self.statuses[json.loads(message.data)["status"]] += 1
            self.moments.append(stored_s)


def judged(arena: SoakArena, auditor: Auditor) -> dict[str, list[str]]:
    accepted = arena.accepted()
    faults = {
        "accepted but not stored": [id for id in accepted if not auditor.tasks[id]],
        "accepted without outcome": [id for id in accepted if not auditor.ends[id]],
        "several outcomes": [id for id, count in auditor.ends.items() if count > auditor.tasks[id]],
        "stored without outcome": [id for id, count in auditor.tasks.items() if auditor.ends[id] < count],
    }
    if auditor.longest_lag_s > RETENTION_S:
        faults["the auditor was too late to see everything"] = [f"{auditor.longest_lag_s:.1f} s"]
    return {name: [f"{len(ids)} of them", *sorted(ids)[:5]] for name, ids in faults.items() if ids}


async def soak(seconds: float, rate: float, seed: int, folder: Path) -> dict[str, Any]:
    with LocalServer() as server:
        provision(server.url)
        async with Nursery("faults.soak_cast") as nursery:
            arena = SoakArena(nursery, server, NAMESPACE, folder, seed, rate)
            auditor, told = Auditor(server.url), asyncio.Event()
            auditing = asyncio.create_task(auditor.run(told))
            fullest = asyncio.create_task(watch(server, auditor, arena))
            try:
                await arena.start()
                await arena.rage(seconds)
                took_s = await arena.stop_submitting()
                await all_ended(server.url, arena, time.time())
            finally:
                await arena.stop()
                told.set()
            await auditing
            fullest.cancel()
            with suppress(asyncio.CancelledError):
                await fullest
    words = arena.lines()
    faults = judged(arena, auditor) | ({"processes that ended": arena.crashes} if arena.crashes else {})
    return {
        "seed": seed,
        "commit": commit(),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "load_before": os.getloadavg()[0],
        "seconds": round(took_s, 1),
        "wanted_rate": rate,
        "rate": round(words["ok"] / took_s, 1),
        "accepted": words["ok"],
        "stored": sum(auditor.tasks.values()),
        "stored again after it was pruned": sum(count > 1 for count in auditor.tasks.values()),
        **auditor.statuses,
        "faults": dict(Counter(fault.kind for fault in arena.faults)),
        "deaths": dict(arena.deaths),
        "most_bytes": arena.most_bytes,
        "most_messages": arena.most_messages,
        "auditors_longest_lag_s": round(auditor.longest_lag_s, 1),
        "longest_without_an_outcome_s": longest_s(auditor.moments),
        "broken": faults,
    }


def longest_s(moments: array[float]) -> float:
    ordered = sorted(moments)
    gaps = (later - earlier for earlier, later in itertools.pairwise(ordered))
    return round(max(gaps, default=0.0), 2)


def provision(url: str) -> None:
    """As an administrator does."""
    command = [sys.executable, "-m", "roost", "provision", "--url", url, "--namespace", NAMESPACE]
    command += ["--max-bytes", str(MAX_BYTES), "--retention", f"{RETENTION_S}s"]
    subprocess.run([*command, "--dead-retention", f"{DEAD_RETENTION_S}s"], check=True, capture_output=True)


async def watch(server: LocalServer, auditor: Auditor, arena: SoakArena) -> None:
    """How large the log grows, and a line of progress every ten seconds."""
    began = time.monotonic()
    while True:
        await asyncio.sleep(10)
        client = Reader()
        with suppress(NatsError, OSError, asyncio.TimeoutError):
            await client.connect([server.url], allow_reconnect=False, connect_timeout=2)
            state = (await client.jetstream().stream_info(f"ROOST_{NAMESPACE}")).state
            arena.most_bytes = max(arena.most_bytes, state.bytes)
            arena.most_messages = max(arena.most_messages, state.messages)
            done = sum(auditor.statuses.values())
            print(
                f"{time.monotonic() - began:6.0f} s  {done:8,} outcomes  {state.messages:9,} records  "
                f"{state.bytes / 2**20:6.1f} MiB  {len(arena.faults)} faults",
                flush=True,
            )
        with suppress(Exception):
            await client.close()


def main() -> int:
    parser = argparse.ArgumentParser(prog="faults.soak")
    parser.add_argument("--minutes", type=float, default=30.0)
    parser.add_argument("--rate", type=float, default=500.0)
    parser.add_argument("--seed", type=int, default=None)
    chosen = parser.parse_args()
    logging.getLogger("nats").setLevel(logging.CRITICAL)  # that the server is away is part of it
    seed = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(2**32)
    print(f"{chosen.minutes:g} minutes at {chosen.rate:g} tasks/s, seed {seed} (repeat with --seed {seed})")
    folder = Path(tempfile.mkdtemp(prefix="roost-soak-"))
    result = asyncio.run(soak(60 * chosen.minutes, chosen.rate, seed, folder))
    if result["broken"]:
        print(f"the logs of the processes are in {folder}")
    else:
        shutil.rmtree(folder)
    print(json.dumps(result, indent=1))
    if chosen.minutes >= 30:
        RESULTS.write_text(json.dumps(result, indent=1) + "\n")
    fast = result["rate"] >= LEAST_RATE * chosen.rate
    if not fast:
        print(
            f"only {result['rate']} tasks/s were accepted: this machine is too slow, or too busy, for this rate"
        )
    return 0 if fast and not result["broken"] else 1


if __name__ == "__main__":
    sys.exit(main())
