"""Speed of the spine beside an equal floor: ``python -m benchmarks.spine``, which is `make bench`.

Ends with code 1 when a ratio is below `--least`, so that a loss is seen before others build on it.
"""

from __future__ import annotations

import argparse
import json
import os
import sys

from benchmarks._report import Result, as_json, machine, table
from benchmarks._run import SIDES, Case, Figures, Side, run
from benchmarks._work import Plan

LEAST = 0.85
RUNS = 3
DISTURBED = 0.15
"""Part of the machine that other programs may take during a run; the kernel's own work for it is in there too."""

CASES = (
    Case(
        name="pub/sub",
        near="publish",
        far="subscriber",
        compare="rate",
        plan=Plan(count=100_000, warm_up=20_000, width=20_000),
        quick=Plan(count=40_000, warm_up=20_000, width=20_000),
    ),
    Case(
        name="request, one at a time",
        near="request",
        far="responder",
        compare="p50",
        plan=Plan(count=5_000, warm_up=500),
        quick=Plan(count=1_000, warm_up=200),
    ),
    Case(
        name="request, 64 in flight",
        near="request",
        far="responder",
        compare="rate",
        plan=Plan(count=40_000, warm_up=5_000, width=64),
        quick=Plan(count=10_000, warm_up=2_000, width=64),
    ),
    Case(
        name="task, one at a time",
        near="submit",
        far="worker",
        compare="p50",
        plan=Plan(count=2_000, warm_up=300),
        quick=Plan(count=500, warm_up=100),
    ),
    Case(
        name="task, fan-out of 100",
        near="fan_out",
        far="worker",
        compare="p50",
        plan=Plan(count=100, warm_up=20, width=100),
        quick=Plan(count=40, warm_up=10, width=100),
        per_operation=100,
    ),
    Case(
        name="task, atomic 100",
        near="fan_out_atomic",
        far="worker",
        compare="p50",
        plan=Plan(count=100, warm_up=20, width=100),
        quick=Plan(count=40, warm_up=10, width=100),
        per_operation=100,
    ),
    Case(
        name="task, 256 in flight",
        near="submit",
        far="worker",
        compare="rate",
        plan=Plan(count=20_000, warm_up=3_000, width=256),
        quick=Plan(count=6_000, warm_up=1_000, width=256),
    ),
)


def measure(case: Case, *, runs: int, quick: bool, patience: int) -> Result:
    """Alternating runs, floor first, so that what else the machine does falls on both.

    Pairs that other programs disturbed are measured again, at most `patience` times for the case.
    """
    pairs: list[dict[Side, Figures]] = []
    while len(pairs) < runs:
        pair: dict[Side, Figures] = {}
        for side in SIDES:
            print(f"{case.name}: {side} {len(pairs) + 1}/{runs} ...", file=sys.stderr, flush=True)
            pair[side] = run(case, side, quick=quick)
        disturbed = max(figures.others or 0.0 for figures in pair.values())
        if disturbed > DISTURBED and patience > 0:
            patience -= 1
            print(f"others took {disturbed:.0%} of the machine: again", file=sys.stderr, flush=True)
            continue
        pairs.append(pair)
    return Result(case=case, pairs=pairs)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.spine", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one pair of short runs: does it work?")
    parser.add_argument("--json", action="store_true", help="all figures of all runs as JSON")
    parser.add_argument("--runs", type=int, default=RUNS, help=f"pairs of runs of each case (default {RUNS})")
    parser.add_argument("--case", default="", help="only cases whose name contains this")
    parser.add_argument(
        "--least", type=float, default=LEAST, help=f"ratio that each case has to reach (default {LEAST})"
    )
    parser.add_argument(
        "--patience",
        type=int,
        default=0,
        help="pairs of each case to repeat because of other programs (default 0)",
    )
    options = parser.parse_args()
    runs = 1 if options.quick else max(1, options.runs)
    cases = [case for case in CASES if options.case in case.name]
    if not cases:
        parser.error("no case has that in its name; there are: " + "; ".join(case.name for case in CASES))
    about = machine()
    results = [measure(case, runs=runs, quick=options.quick, patience=options.patience) for case in cases]
    about["load_after"] = round(os.getloadavg()[0], 2)
    if options.json:
        print(json.dumps(as_json(results, about), indent=1))
    else:
        print(table(results, about, runs=runs, least=options.least))
    if any(result.ratio < options.least for result in results):
        sys.exit(1)


if __name__ == "__main__":
    main()
