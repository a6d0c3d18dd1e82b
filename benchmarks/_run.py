"""One measurement: a fresh server with an empty store, the far process, then the near one."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Literal

from benchmarks._machine import Others, cpu_s
from benchmarks._work import Plan
from roost.server import LocalServer

ROOT = Path(__file__).parent.parent
TIMEOUT_S = 120.0
"""Seconds that one process may take for what it does; a lost message shows as this."""
GRACE_S = 5.0

Side = Literal["floor", "roost"]
SIDES: tuple[Side, ...] = ("floor", "roost")


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What is measured, by which functions of both sides, and which figure is compared."""

    name: str
    near: str
    far: str
    plan: Plan
    quick: Plan
    compare: Literal["rate", "p50"]
    per_operation: int = 1  # messages or tasks in one timed operation


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One run of one side. Processor times are microseconds for each message or task, warm-up included."""

    rate: float  # messages or tasks a second
    p50_ms: float | None
    p95_ms: float | None
    p99_ms: float | None
    near_us: float
    far_us: float
    server_us: float
    others: float | None  # part of all processors that other programs took meanwhile

    @property
    def work_us(self) -> float:
        """Processor time of all three processes."""
        return self.near_us + self.far_us + self.server_us


def run(case: Case, side: Side, *, quick: bool) -> Figures:
    """Raises RuntimeError when one of the processes fails, with what it wrote."""
    plan = case.quick if quick else case.plan
    what = f"{case.name}, {side}: the process of {{}}"
    others = Others()
    with LocalServer() as server:
        far = _start(side, "far", case.far, server.url, plan)
        try:
            _line(far, what.format(case.far))
            before = cpu_s(server.pid)
            near = _start(side, "near", case.near, server.url, plan)
            try:
                measured = json.loads(_line(near, what.format(case.near)))
            finally:
                _end(near)
            served_s = cpu_s(server.pid) - before
            if far.stdin is not None:
                far.stdin.close()
            served = json.loads(_line(far, what.format(case.far)))
        finally:
            _end(far)
    total = (plan.count + plan.warm_up) * case.per_operation
    return Figures(
        rate=measured["count"] * case.per_operation / measured["seconds"],
        p50_ms=measured.get("p50_ms"),
        p95_ms=measured.get("p95_ms"),
        p99_ms=measured.get("p99_ms"),
        near_us=measured["cpu_s"] / total * 1e6,
        far_us=served["cpu_s"] / total * 1e6,
        server_us=served_s / total * 1e6,
        others=others.share(),
    )


def _start(side: str, place: str, function: str, url: str, plan: Plan) -> subprocess.Popen[str]:
    command = [
        sys.executable,
        "-m",
        "benchmarks._child",
        side,
        place,
        function,
        url,
        json.dumps(asdict(plan)),
    ]
    return subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


def _line(process: subprocess.Popen[str], what: str) -> str:
    """The next line that a process writes. Raises RuntimeError when it ends, or takes too long, without one."""
    if process.stdout is None:
        raise RuntimeError(f"{what} has no output")
    patience = threading.Timer(TIMEOUT_S, process.kill)
    patience.start()
    try:
        line = process.stdout.readline().strip()
    finally:
        patience.cancel()
    if not line:
        raise RuntimeError(f"{what} ended, or said nothing for {TIMEOUT_S:g} s; what it wrote stands above")
    return line


def _end(process: subprocess.Popen[str]) -> None:
    """A process that has said all it had to say ends by itself; any other one is killed."""
    try:
        process.wait(GRACE_S)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for stream in (process.stdin, process.stdout):
        if stream is not None:
            stream.close()
