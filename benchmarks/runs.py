"""A long run: is a coordinator's memory flat, and how soon does the next one go on? ``make bench-runs``.

A workflow maps over a generator of so many items. It runs undisturbed; then twice its coordinator is killed at
half time, once with another one standing by and once with one that is only started then. Each report is
checked, and the log for one record and one outcome of each task. Ends with code 1 when a limit is missed.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from benchmarks._report import machine
from benchmarks._runs_child import ACK_WAIT_S, TENTHS, Job
from benchmarks._runs_measure import NAMES, Measured, Name, measure

COUNT = 100_000
QUICK = 10_000
LEAST = 4_000
AHEAD = 1_000
GROWTH_MB = 2.0
"""What memory may grow by from one tenth of a run to the next, after the first; and by twice that in all."""
RESUMED_S = 3.0
"""Seconds from the kill of a coordinator to what the next one commits, be it only started then."""
DISTURBED = 0.15
"""Part of the machine that other programs may take during a run."""


def growth_mb(rss_mb: dict[int, float]) -> tuple[float, float]:
    """The most that memory grew by in a tenth after the first, and what it grew by from the first to the last."""
    known = [rss_mb[tenth] for tenth in sorted(rss_mb)]
    steps = [after - before for before, after in pairwise(known)]
    return max(steps, default=0.0), known[-1] - known[0]


def missed(measured: Measured, growth: float, resumed_s: float) -> list[str]:
    """Which limits a run has missed, in words."""
    found = []
    step, whole = growth_mb(measured.rss_mb)
    if step > growth:
        found.append(f"memory grew by {step:.1f} MB in a tenth, {growth:g} allowed")
    if whole > 2 * growth:
        found.append(f"memory grew by {whole:.1f} MB in all, {2 * growth:g} allowed")
    resumption = measured.resumption
    if resumption is not None and resumption.commit_s > resumed_s:
        found.append(f"it went on after {resumption.commit_s:.2f} s, {resumed_s:g} allowed")
    return found


def patiently(name: Name, job: Job, patience: int) -> Measured:
    """Measure; again, at most `patience` times, while other programs disturb it."""
    while True:
        print(f"{job.count:,} tasks, {name} ...", file=sys.stderr, flush=True)
        measured = measure(name, job)
        if patience < 1 or (measured.others or 0.0) <= DISTURBED:
            return measured
        patience -= 1
        print(f"others took {measured.others:.0%} of the machine: again", file=sys.stderr, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.runs", description=__doc__)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} tasks: does it work?")
    parser.add_argument("--json", action="store_true", help="all figures as JSON")
    parser.add_argument("--count", type=int, default=0, help=f"tasks of each run (default {COUNT:,})")
    parser.add_argument(
        "--ahead", type=int, default=AHEAD, help=f"tasks submitted and not read (default {AHEAD:,})"
    )
    parser.add_argument("--case", default="", help=f"only this one of {', '.join(NAMES)}")
    parser.add_argument(
        "--growth", type=float, default=GROWTH_MB, help=f"MB of growth in a tenth (default {GROWTH_MB:g})"
    )
    parser.add_argument(
        "--resumed", type=float, default=RESUMED_S, help=f"seconds to resume in (default {RESUMED_S:g})"
    )
    parser.add_argument(
        "--patience",
        type=int,
        default=0,
        help="runs of a case to repeat because of other programs (default 0)",
    )
    options = parser.parse_args()
    names = [name for name in NAMES if options.case in name]
    if not names:
        parser.error("no case has that in its name; there are: " + ", ".join(NAMES))
    job = Job(count=options.count or (QUICK if options.quick else COUNT), ahead=options.ahead)
    if job.ahead < 1 or job.count < max(LEAST, 4 * job.ahead):
        parser.error(
            f"--count must be {LEAST:,} and four times --ahead at least: else it ends before the kill"
        )
    about = machine()
    runs = []
    for name in names:
        runs.append(patiently(name, job, options.patience))
    about["load_after"] = round(os.getloadavg()[0], 2)
    verdicts = {run.name: missed(run, options.growth, options.resumed) for run in runs}
    if options.json:
        print(json.dumps(_as_json(runs, verdicts, about), indent=1))
    else:
        print(_table(runs, verdicts, about))
    if any(verdicts.values()):
        sys.exit(1)


def _as_json(runs: list[Measured], verdicts: dict[Any, list[str]], about: dict[str, Any]) -> dict[str, Any]:
    return {
        "about": about,
        "ack_wait_s": ACK_WAIT_S,
        "runs": [
            {
                **asdict(run),
                "replay_s": run.resumption.replay_s if run.resumption else None,
                "growth_mb": growth_mb(run.rss_mb),
                "missed": verdicts[run.name],
            }
            for run in runs
        ],
    }


def _table(runs: list[Measured], verdicts: dict[Any, list[str]], about: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {about[name]}" for name in ("roost", "nats-py", "pydantic", "nats-server"))
    tenths = range(1, TENTHS + 1)
    lines = [
        f"{versions}, Python {about['python']}, {about['system']}, {about['processors']} processors",
        f"load average {about['load_before']} before, {about['load_after']} after; {runs[0].count:,} tasks a run",
        "",
        "memory of a coordinator, MB, by the part of the outcomes that it has read",
        f"{'':22}" + "".join(f"{tenth * 10:>6} %" for tenth in tenths) + f"{'most in 10 %':>14}{'in all':>8}",
    ]
    for run in runs:
        if run.killed_rss_mb:
            lines.append(_memory(f"{run.name}: killed", run.killed_rss_mb))
            lines.append(_memory(f"{run.name}: resumed", run.rss_mb))
        else:
            lines.append(_memory(run.name, run.rss_mb))
    if any(run.resumption for run in runs):
        lines += [
            "",
            f"seconds from the kill at half time until ...; ack wait {ACK_WAIT_S:g} s",
            f"{'':22}{'process up':>12}{'taken over':>12}{'steps read':>12}{'next commit':>12}"
            f"{'replay alone':>14}{'processor':>11}",
        ]
    for run in runs:
        if (one := run.resumption) is not None:
            lines.append(
                f"{run.name:22}{one.ready_s:>12.2f}{one.epoch_s:>12.2f}{one.begun_s:>12.2f}{one.commit_s:>12.2f}"
                f"{one.replay_s:>14.2f}{one.replay_cpu_s:>11.2f}"
            )
    lines += [
        "",
        f"{'whole run':22}{'seconds':>12}{'tasks/s':>12}{'us of processor: coordinator, worker, server':>48}",
    ]
    for run in runs:
        used = f"{run.coordinator_us:.0f}, {run.worker_us:.0f}, {run.server_us:.0f}"
        others = "?" if run.others is None else f"{run.others:.0%}"
        lines.append(
            f"{run.name:22}{run.seconds:>12.1f}{run.count / run.seconds:>12,.0f}{used:>48}  others {others}"
        )
    lines += ["", "each report counted each task once, and the log has one record and one outcome of each"]
    lines += [f"{name}: {'; '.join(found) or 'within its limits'}" for name, found in verdicts.items()]
    return "\n".join(lines)


def _memory(name: str, rss_mb: dict[int, float]) -> str:
    cells = "".join(
        f"{rss_mb[tenth]:>8.1f}" if tenth in rss_mb else f"{'':8}" for tenth in range(1, TENTHS + 1)
    )
    step, whole = growth_mb(rss_mb)
    return f"{name:22}{cells}{step:>14.1f}{whole:>8.1f}"


if __name__ == "__main__":
    main()
