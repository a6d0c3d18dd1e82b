"""Speed of the spine beside an equal floor: ``python -m benchmarks.spine [--quick] [--json] [--case NAME]``."""
from __future__ import annotations
import argparse, json, sys
from dataclasses import asdict
from statistics import median
from benchmarks._run import Case, Figures, run
from benchmarks._work import Plan

CASES = (
    Case(name="pub/sub", near="publish", far="subscriber", compare="rate",
         plan=Plan(count=100_000, warm_up=20_000, width=20_000), quick=Plan(count=30_000, warm_up=10_000, width=10_000)),
    Case(name="request, one at a time", near="request", far="responder", compare="p50",
         plan=Plan(count=5_000, warm_up=500), quick=Plan(count=1_000, warm_up=200)),
    Case(name="request, 64 in flight", near="request", far="responder", compare="rate",
         plan=Plan(count=40_000, warm_up=5_000, width=64), quick=Plan(count=10_000, warm_up=2_000, width=64)),
    Case(name="task, one at a time", near="submit", far="worker", compare="p50",
         plan=Plan(count=2_000, warm_up=300), quick=Plan(count=500, warm_up=100)),
    Case(name="task, fan-out of 100", near="fan_out", far="worker", compare="p50",
         plan=Plan(count=100, warm_up=20, width=100), quick=Plan(count=30, warm_up=10, width=100), per_operation=100),
    Case(name="task, 256 in flight", near="submit", far="worker", compare="rate",
         plan=Plan(count=20_000, warm_up=3_000, width=256), quick=Plan(count=6_000, warm_up=1_000, width=256)),
)

def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--case", default="")
    a = parser.parse_args()
    for case in CASES:
        if a.case not in case.name:
            continue
        pairs = []
        for _ in range(1 if a.quick else a.runs):
            pair = {}
            for side in ("floor", "roost"):
                f = pair[side] = run(case, side, quick=a.quick)
                print(case.name, side, {k: round(v, 3) if v else v for k, v in asdict(f).items()}, flush=True)
            pairs.append(pair)
        if case.compare == "rate":
            r = [p["roost"].rate / p["floor"].rate for p in pairs]
        else:
            r = [p["floor"].p50_ms / p["roost"].p50_ms for p in pairs]
        print("   RATIO", case.name, round(median(r), 3), [round(x, 3) for x in r], flush=True)
main()
