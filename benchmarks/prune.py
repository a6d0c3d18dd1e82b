"""What pruning costs: `python -m benchmarks.prune [--rate 500] [--seconds 20]`.

Tasks are stored and ended at a steady rate with the writes that Roost makes of them, first without and then with a
process beside it that prunes (`roost upkeep`, retention 5 s). How long those writes take says whether anybody is
stalled; between the two it is measured how fast a backlog goes. Server, load and pruner share the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import statistics
import sys
import time
from asyncio.subprocess import DEVNULL, Process

import roost
from benchmarks._machine import Others, cpu_s
from roost.tasks.administer import Size, provision
from roost.tasks.batch import create_once, guarded
from roost.tasks.records import Ref
from roost.transport.headers import block

GIB = 1024**3
RETENTION_S = 5.0
STEP_S = 0.01
INPUT = b'{"path":"docs/page-1.md","text":"' + b"x" * 150 + b'"}'
END = b'{"status":"done","token":"0123456789ab.1","attempts":[{"k":1,"by":"worker","at":1.0,"s":0.1}],"value":{"n":1}}'


class Load:
    """Tasks at a steady rate; `each_s` is how long every write took."""

    def __init__(self, bus: roost.Bus, rate: float) -> None:
        self.each_s: list[float] = []
        self.late_s = 0.0
        self._bus = bus
        self._rate = rate

    async def run(self, seconds: float) -> None:
        self.each_s = []
        begun, count = time.perf_counter(), 0
        async with asyncio.TaskGroup() as group:
            while (now := time.perf_counter() - begun) < seconds:
                while count < now * self._rate:
                    group.create_task(self._one())
                    count += 1
                await asyncio.sleep(STEP_S)
        self.late_s = time.perf_counter() - begun - seconds

    async def _one(self) -> None:
        subjects, id = self._bus.log.subjects, secrets.token_hex(11)
        ref = Ref(id, "digest", id)
        over = ("Nats-Expected-Last-Subject-Sequence-Subject", subjects.guard(ref))
        seq = await self._timed(subjects.task(ref), INPUT, block(*create_once(""), over))
        await self._timed(subjects.end(ref), END, block(*guarded(subjects.guard(ref), seq)))

    async def _timed(self, subject: str, data: bytes, head: bytes) -> int:
        begun = time.perf_counter()
        seq = await self._bus.link.jetstream.publish(subject, data, head)
        self.each_s.append(time.perf_counter() - begun)
        return seq

    def __str__(self) -> str:
        cuts = statistics.quantiles(self.each_s, n=1000)
        return (
            f"{len(self.each_s):>8,} writes: p50 {cuts[499] * 1e3:.2f} ms, p99 {cuts[989] * 1e3:.2f} ms, p99.9 "
            f"{cuts[998] * 1e3:.1f} ms, longest {max(self.each_s) * 1e3:.1f} ms"
        )


async def keeper(url: str, namespace: str) -> Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "roost", "upkeep", "--url", url, "--namespace", namespace), stderr=DEVNULL
    )


async def state(bus: roost.Bus) -> tuple[int, int]:
    """Records and bytes in the log."""
    info = await bus.link.jetstream.call(f"STREAM.INFO.{bus.log.stream}")
    return int(info["state"]["messages"]), int(info["state"]["bytes"])


async def below(bus: roost.Bus, records: int) -> None:
    """Wait until there are fewer."""
    while (await state(bus))[0] >= records:  # noqa: ASYNC110
        await asyncio.sleep(0.005)


async def main(rate: float, seconds: float) -> None:
    others = Others()
    async with roost.local_server() as url, roost.connect(url, namespace="bench") as bus:
        await bus.log.ensure()
        await provision(bus.log, size=Size(max_bytes=GIB))
        await bus.log.ensure_consumer(roost.Task("digest", dict, dict))
        load = Load(bus, rate)
        await load.run(seconds)
        print(f"without  {load}")
        await asyncio.sleep(RETENTION_S)
        before, _ = await state(bus)
        await provision(bus.log, size=Size(retention_s=RETENTION_S))
        process = await keeper(url, "bench")
        await below(bus, before)
        begun = time.perf_counter()
        await below(bus, 1)
        took_s = time.perf_counter() - begun
        print(f"backlog  {before / 2 / took_s:,.0f} runs/s, {before / took_s:,.0f} records/s removed")
        used_s = cpu_s(process.pid)
        await load.run(seconds)
        used_s = cpu_s(process.pid) - used_s
        print(f"with     {load}")
        messages, used = await state(bus)
        print(f"         {messages:,} records in {used / 1e6:.1f} MB are left, of {2 * rate * seconds:,.0f}")
        process.terminate()
        await process.wait()
        print(f"         the pruner used {used_s / seconds:.0%} of a processor")
    share = others.share()
    if share is not None:
        print(f"         others took {share:.0%} of this machine meanwhile")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=500)
    parser.add_argument("--seconds", type=float, default=20)
    options = parser.parse_args()
    asyncio.run(main(options.rate, options.seconds))
