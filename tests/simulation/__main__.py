"""``python -m simulation``, in the folder ``tests``: long runs, and replays of one seed."""

from __future__ import annotations

import argparse
import random
import sys

from simulation.runner import play, play_many, quiet


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="the first seed (default: by chance)")
    parser.add_argument("--seeds", type=int, default=1, help="how many, counted up from the first")
    parser.add_argument(
        "--limit", type=float, default=86400.0, metavar="S", help="stop after so many seconds"
    )
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--failures", type=int, default=5, help="stop after so many")
    parser.add_argument("--trace", type=int, default=60, metavar="N", help="events shown of a single seed")
    args = parser.parse_args()
    seed = args.seed if args.seed is not None else random.SystemRandom().randrange(2**32)
    if args.seeds == 1:
        quiet()
        result = play(seed, traced=True, last=args.trace)
        print(*result.events, sep="\n")
        print(f"seed {seed}: {result.records} records, {result.virtual_s:.1f} s, log {result.digest}")
        print(f"faults: {dict(result.faults)}")
        print(*(result.complaints or ["all is well"]), sep="\n")
        return 1 if result.complaints else 0
    total = play_many(
        seed, args.seeds, limit_s=args.limit, processes=args.processes, most_failures=args.failures
    )
    print(f"first seed {seed}; {total}")
    for failed in total.failed:
        print(f"seed {failed.seed}: {'; '.join(one[:300] for one in failed.complaints[:5])}")
        print(f"  again: PYTHONPATH=tests python -m simulation --seed {failed.seed}")
    return 1 if total.failed else 0


if __name__ == "__main__":
    sys.exit(main())
