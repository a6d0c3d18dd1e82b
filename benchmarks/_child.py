"""One process of a measurement: ``python -m benchmarks._child <side> <near|far> <function> <url> <plan as JSON>``.

A far one (subscriber, responder, worker) says ``ready`` and serves until its standard input ends. A near one
measures and writes what it measured as one line of JSON. Both add the processor time they used.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import resource
import sys
from typing import Any

from benchmarks._work import Plan, Sample

MODULES = {
    "publish": "core",
    "subscriber": "core",
    "request": "core",
    "responder": "core",
    "submit": "tasks",
    "fan_out": "tasks",
    "fan_out_atomic": "tasks",
    "worker": "tasks",
}


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


async def serve(function: Any, url: str, plan: Plan) -> dict[str, Any]:
    async with function(url, plan):
        gc.collect()
        begun = cpu_s()
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.read)
        return {"cpu_s": cpu_s() - begun}


async def measure(function: Any, url: str, plan: Plan) -> dict[str, Any]:
    gc.collect()
    begun = cpu_s()
    sample: Sample = await function(url, plan)
    return {
        "seconds": sample.seconds,
        "count": sample.count,
        "cpu_s": cpu_s() - begun,
        **percentiles(sample.each_s),
    }


def percentiles(each_s: tuple[float, ...]) -> dict[str, float]:
    """p50, p95 and p99 in milliseconds."""
    if not each_s:
        return {}
    ordered = sorted(each_s)
    last = len(ordered) - 1
    return {f"p{share}_ms": ordered[round(last * share / 100)] * 1000 for share in (50, 95, 99)}


def main() -> None:
    side, place, name, url, plan = sys.argv[1:]
    module = importlib.import_module(f"benchmarks.{side}_{MODULES[name]}")
    run = serve if place == "far" else measure
    print(json.dumps(asyncio.run(run(getattr(module, name), url, Plan(**json.loads(plan))))), flush=True)


if __name__ == "__main__":
    main()
