"""Hundreds of seeded histories of the real code over the simulated server: each keeps every promise.

A failing seed is printed with the command that plays it again, step by step. SIM_SECONDS in the environment says
how long to go on (default 15 s, at most 10,000 seeds).
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from simulation.mutants import MUTANTS, Mutant, copied, simulated
from simulation.runner import play_many

TESTS = Path(__file__).resolve().parents[1]
SECONDS = float(os.environ.get("SIM_SECONDS") or 15)
SEEDS = 10_000


@pytest.mark.slow_limit(SECONDS + 120)
def test_whatever_dies_is_paused_lost_or_doubled_every_promise_holds(seed: int) -> None:
    total = play_many(seed, SEEDS if SECONDS <= 30 else 10**9, limit_s=SECONDS)
    print(f"\nsimulation from seed {seed}: {total}")
    again = "repeat with: PYTHONPATH=tests python -m simulation --seed"
    assert not total.failed, "\n".join(f"{again} {one.seed}\n  {one.complaints}" for one in total.failed)
    assert total.played


def test_a_seed_is_the_same_history_in_every_process() -> None:
    """Hash seeds differ from process to process: nothing may depend on the order of a set."""
    code = "from simulation.runner import *; quiet(); print([play(seed).digest for seed in range(12)])"
    said = set()
    for hashes in ("1", "2"):
        environment = os.environ | {"PYTHONHASHSEED": hashes}
        path = os.pathsep.join(part for part in (str(TESTS), os.environ.get("PYTHONPATH", "")) if part)
        run = subprocess.run(
            [sys.executable, "-c", code],
            env=environment | {"PYTHONPATH": path}, capture_output=True, text=True, check=True,
        )  # fmt: skip
        said.add(run.stdout)
    assert len(said) == 1


@pytest.mark.slow_limit(700)
@pytest.mark.parametrize(
    "mutant", [one for one in MUTANTS if one.cuts and not one.rare], ids=lambda mutant: mutant.name
)
def test_a_broken_promise_is_noticed(mutant: Mutant, tmp_path: Path, seed: int) -> None:
    verdict, said = simulated(copied(mutant, tmp_path), mutant, seed)
    assert verdict == "red", said
