"""Medians, ratios, and how they are printed. Pure, but for asking which versions are here."""

from __future__ import annotations

import os
import platform
import subprocess
from dataclasses import asdict, dataclass
from importlib.metadata import version
from statistics import median
from typing import Any

from benchmarks._run import SIDES, Case, Figures, Side
from roost.server import find_server


@dataclass(frozen=True, slots=True)
class Result:
    """All runs of one case, as pairs that followed each other."""

    case: Case
    pairs: list[dict[Side, Figures]]

    def middle(self, side: Side, name: str) -> float:
        """The median of one figure over the runs of one side."""
        return float(median(getattr(pair[side], name) for pair in self.pairs))

    @property
    def ratio(self) -> float:
        """Above 1 Roost is better, whether a rate or a latency is compared."""
        compared = "rate" if self.case.compare == "rate" else "p50_ms"
        return _ratio(self.middle("floor", compared), self.middle("roost", compared), compared)

    @property
    def ratios(self) -> list[float]:
        """The same of each pair."""
        compared = "rate" if self.case.compare == "rate" else "p50_ms"
        return [
            _ratio(getattr(pair["floor"], compared), getattr(pair["roost"], compared), compared)
            for pair in self.pairs
        ]

    @property
    def work_ratio(self) -> float:
        """The same of the processor time of all three processes together."""
        floor, roost = (min(pair[side].work_us for pair in self.pairs) for side in SIDES)
        return floor / roost


def _ratio(floor: float, roost: float, compared: str) -> float:
    return roost / floor if compared == "rate" else floor / roost


def machine() -> dict[str, Any]:
    """Versions, machine and load."""
    server = subprocess.run([find_server(), "--version"], capture_output=True, text=True, check=False)
    return {
        "roost": version("roost"),
        "nats-py": version("nats-py"),
        "pydantic": version("pydantic"),
        "nats-server": server.stdout.strip().rpartition(" ")[2].removeprefix("v"),
        "python": platform.python_version(),
        "system": f"{platform.system()} {platform.machine()}",
        "processors": os.cpu_count(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def as_json(results: list[Result], about: dict[str, Any]) -> dict[str, Any]:
    """Everything that was measured."""
    return {
        "about": about,
        "cases": [
            {
                "name": result.case.name,
                "compared": result.case.compare,
                "ratio": round(result.ratio, 3),
                "ratios": [round(one, 3) for one in result.ratios],
                "work_ratio": round(result.work_ratio, 3),
                "runs": [{side: asdict(pair[side]) for side in SIDES} for pair in result.pairs],
            }
            for result in results
        ],
    }


def table(results: list[Result], about: dict[str, Any], *, runs: int, least: float) -> str:
    """For people: medians of both sides, and their ratio."""
    versions = ", ".join(f"{name} {about[name]}" for name in ("roost", "nats-py", "pydantic", "nats-server"))
    lines = [
        f"{versions}, Python {about['python']}, {about['system']}, {about['processors']} processors",
        f"load average {about['load_before']} before, {about['load_after']} after; "
        + (
            f"median of {runs} alternating runs"
            if runs > 1
            else "one run of each: too few to conclude anything"
        ),
        "ratio above 1: Roost is better; work: the same of processor time, all three processes, least of the runs;",
        "others: the most that other programs took of the machine in any of the runs",
        "",
        f"{'case':24}{'compared':10}{'floor':>12}{'Roost':>12}{'ratio':>7}  " + _SPREAD,
    ]
    for result in results:
        lines.append(_row(result, least))
    lines += ["", f"{'milliseconds':24}{'':10}{'p50':>8}{'p95':>8}{'p99':>8}   " + _WORK]
    for result in results:
        lines += [_details(result, side) for side in SIDES]
    return "\n".join(lines)


_SPREAD = f"{'of each pair':20}{'work':>5}{'others':>8}"
_WORK = f"{'us of processor: near':>22}{'far':>7}{'server':>8}"


def _row(result: Result, least: float) -> str:
    if result.case.compare == "rate":
        compared = "per second"
        floor, roost = (f"{result.middle(side, 'rate'):,.0f}" for side in SIDES)
    else:
        compared = "p50, ms"
        floor, roost = (f"{result.middle(side, 'p50_ms'):.3f}" for side in SIDES)
    each = " ".join(f"{one:.2f}" for one in sorted(result.ratios))
    mark = f"  below {least:g}" if result.ratio < least else ""
    return (
        f"{result.case.name:24}{compared:10}{floor:>12}{roost:>12}{result.ratio:>7.2f}  {each:20}"
        f"{result.work_ratio:>5.2f}{_others(result):>8}{mark}"
    )


def _others(result: Result) -> str:
    shares = [pair[side].others for pair in result.pairs for side in SIDES]
    known = [share for share in shares if share is not None]
    return f"{max(known):.0%}" if known else "?"


def _details(result: Result, side: Side) -> str:
    timed = result.pairs[0][side].p50_ms is not None
    shares = "".join(
        f"{result.middle(side, name):>8.2f}" if timed else f"{'':>8}"
        for name in ("p50_ms", "p95_ms", "p99_ms")
    )
    near, far, server = (result.middle(side, name) for name in ("near_us", "far_us", "server_us"))
    return f"{result.case.name:24}{side:10}{shares}   {near:>22.0f}{far:>7.0f}{server:>8.0f}"
