"""Breaks one promise at a time and expects the simulation to notice: ``python tests/simulation/mutants.py``.

Each mutant is a copy of `src` (or of the simulated server) with a few replacements, every one of which must fit
exactly once, so that none can go stale unseen. The simulation has to fail, for the reason that belongs to the
broken promise. The first row is the control, a copy with nothing broken, which has to pass.
"""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SEEDS = 10_000
"""In so many histories a mutant must be noticed."""
OTHERS = 16
"""So many histories may fail for another reason first: a broken promise also stops some for good."""
CONTROL = 300
LIMIT_S = 600


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """`cuts` are (file, text, replacement); `signs` are what a failure must say, one of them at least."""

    name: str
    cuts: tuple[tuple[str, str, str], ...]
    signs: tuple[str, ...]
    rare: bool = False
    """It takes thousands of histories to notice: too long for every run of the tests."""


ONCE = '("Nats-Expected-Last-Subject-Sequence", "0")'
MUTANTS = (
    Mutant(name="nothing (the control)", cuts=(), signs=()),
    Mutant(
        name="tasks are not created once",
        cuts=(
            ("src/roost/tasks/batch.py", f"return ({ONCE},)\n", "return ()\n"),
            (
                "src/roost/tasks/batch.py",
                f'return ({ONCE}, ("traceparent", trace))',
                'return (("traceparent", trace),)',
            ),
        ),
        signs=("is stored 2 times", "stored twice", "was accepted"),
    ),
    Mutant(
        name="outcomes have no guard",
        cuts=(
            ("src/roost/tasks/outcomes.py", r'f"Nats-Expected-Last-Subject-Sequence:{newest}\r\n"', '""'),
            (
                "src/roost/tasks/outcomes.py",
                r'f"Nats-Expected-Last-Subject-Sequence-Subject:{self._log.subjects.guard(delivery.ref)}\r\n"',
                '""',
            ),
        ),
        signs=("outcomes",),
    ),
    Mutant(
        name="the ack precedes the outcome",
        cuts=(
            (
                "src/roost/tasks/worker.py",
                "            ours = await self._writer.write(delivery, record, marks=marks)\n",
                '            self._answer(delivery, b"+ACK")\n'
                "            ours = await self._writer.write(delivery, record, marks=marks)\n",
            ),
        ),
        signs=("has no outcome",),
    ),
    Mutant(
        name="coordinators are not fenced",
        cuts=(
            (
                "src/roost/runs/epoch.py",
                "return guarded(self.subjects.epoch, self.seq)",
                "return ()",
            ),
            (
                "src/roost/runs/epoch.py",
                "guarded(self.subjects.epoch, seq, trace)",
                '((("traceparent", trace),) if trace else ())',
            ),
        ),
        signs=("after another had taken over", "was stored 2 times", "executions of run"),
    ),
    Mutant(
        name="inputs are not compared",
        cuts=(
            ("src/roost/runs/run.py", 'if there["input"] != given:', "if False:"),
            (
                "src/roost/runs/run.py",
                "if task is not None and not await same_input(core, contract, task, data, value):",
                "if False:",
            ),
            (
                "src/roost/runs/fanout.py",
                "return places if _digest(dumped) == input else None",
                "return places",
            ),
        ),
        signs=("instead of",),
    ),
    Mutant(
        name="batches are not atomic",
        cuts=(("tests/simulation/stream.py", "self.atomic = True", "self.atomic = False"),),
        signs=("in pieces", "does not stand with"),
    ),
    Mutant(
        name="batches are sent as singles",
        cuts=(
            ("src/roost/tasks/batch.py", "block(*write.headers, batch,", "block(*write.headers,"),
            ("src/roost/tasks/batch.py", "block(*last.headers, batch,", "block(*last.headers,"),
        ),
        signs=("in pieces", "does not stand with"),
    ),
    Mutant(
        name="a write that was lost may come late",
        cuts=(("src/roost/runs/epoch.py", "await self.settle(seq)\n", "pass\n"),),
        signs=("times",),
        rare=True,
    ),
    Mutant(
        name="a replica that lags is believed",
        cuts=(("src/roost/tasks/log.py", "if leader and not found:", "if False:"),),
        signs=("although its result is on record", "times"),
        rare=True,
    ),
    Mutant(
        name="dead letters may stay unlisted",
        cuts=(("src/roost/tasks/outcomes.py", 'await self._index(ref, "its end has the reason")', "pass"),),
        signs=("is listed 0 times",),
    ),
    Mutant(
        name="effects are recorded each time",
        cuts=(("src/roost/tasks/once.py", 'block(*create_once(""))', 'b""'),),
        signs=("ctx.once",),
        rare=True,
    ),
    Mutant(
        name="attempts leave no notes",
        cuts=(
            (
                "src/roost/tasks/worker.py",
                "if (again or task.retry.attempts == 1) and self._notes_starts:",
                "if False:",
            ),
            (
                "src/roost/tasks/intake.py",
                "if self._notes_starts and delivery.attempt and not delivery.noted:",
                "if False:",
            ),
        ),
        signs=("not all has ended",),
    ),
)


def main(only: str = "") -> int:
    """The exit code; with `only`, just the mutants whose name has that in it."""
    seed = int(os.environ.get("ROOST_SEED") or random.SystemRandom().randrange(2**31))
    print(f"seed {seed} (repeat with ROOST_SEED={seed})")
    print(f"{'broken':30} {'simulation':10} {'wanted':7} {'s':>4}  said")
    chosen = [mutant for mutant in MUTANTS if only in mutant.name]
    wrong = 0
    for mutant in chosen:
        began = time.monotonic()
        verdict, said = judged(mutant, seed)
        wanted = "red" if mutant.cuts else "green"
        wrong += verdict != wanted
        print(f"{mutant.name:30} {verdict:10} {wanted:7} {time.monotonic() - began:4.0f}  {said}", flush=True)
    if wrong:
        print(f"{wrong} of {len(chosen)} are not as wanted")
    return 1 if wrong or not chosen else 0


def judged(mutant: Mutant, seed: int) -> tuple[str, str]:
    """`red`, `green`, or `broken` when it failed for another reason; and what it said."""
    with tempfile.TemporaryDirectory(prefix="roost-mutant-") as folder:
        return simulated(copied(mutant, Path(folder)), mutant, seed)


def copied(mutant: Mutant, folder: Path) -> Path:
    """The copy, with the promise broken. Raises SystemExit if a replacement does not fit exactly once."""
    for part in ("src", "tests/simulation"):
        shutil.copytree(ROOT / part, folder / part, ignore=shutil.ignore_patterns("__pycache__"))
    for file, text, replacement in mutant.cuts:
        path = folder / file
        code = path.read_text()
        if code.count(text) != 1:
            raise SystemExit(
                f"mutant {mutant.name!r} fits {file} {code.count(text)} times, not once:\n{text}"
            )
        path.write_text(code.replace(text, replacement))
    return folder


def simulated(folder: Path, mutant: Mutant, seed: int) -> tuple[str, str]:
    """Histories of the copy, until one fails."""
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join((str(folder / "src"), str(folder / "tests"))),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    where = subprocess.run(
        [sys.executable, "-c", "import roost, simulation; print(roost.__file__, simulation.__file__)"],
        env=environment, cwd=folder, capture_output=True, text=True, check=True,
    )  # fmt: skip
    if where.stdout.count(str(folder)) != 2:
        raise SystemExit(f"the copy is not what is imported, but {where.stdout.strip()}")
    said: list[str] = []
    while len(said) < OTHERS:
        seeds = SEEDS if mutant.cuts else CONTROL
        command = [sys.executable, "-m", "simulation", "--seed", str(seed), "--seeds", str(seeds)]
        command += ["--failures", "1", "--limit", str(LIMIT_S)]
        command += ["--processes", "2" if mutant.rare else "1"]  # each goes on until its own first failure
        test = subprocess.run(
            command, env=environment, cwd=folder, capture_output=True, text=True, check=False
        )
        if test.returncode == 0:
            return "green", test.stdout.partition(":")[0].strip()
        lines = [line for line in test.stdout.splitlines() if line.startswith("seed ")]
        if not lines:
            return "broken", test.stderr.strip()[-200:] or test.stdout[-200:]
        for line in lines:
            which, _, complaints = line.partition(": ")
            for one in complaints.split("; "):
                if any(sign in one for sign in mutant.signs):
                    return "red", f"{which}: {one}"[:140]
            seed = max(seed, int(which.removeprefix("seed ")))
        seed += 1
        said.append(lines[0])
    return "broken", said[0][:300]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
