"""Breaks one promise of the task log at a time and expects the kill test to notice: `make mutants`.

Each mutant is a copy of `src` with a few replacements, every one of which must fit exactly once, so that a mutant
cannot go stale unseen. The kill test has to fail for the reason that belongs to the broken promise: a copy that
fails for any other is no proof. The first row is the control, a copy with nothing broken, which has to pass.
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
TASKS = Path("roost") / "tasks"
SECONDS = "12"
TRIES = 2
"""Runs, each with a seed of its own, in which a mutant must be noticed once."""
LIMIT_S = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Mutant:
    """`cuts` are (file, text, replacement); `signs` are what a failure must say, one of them at least."""

    name: str
    cuts: tuple[tuple[str, str, str], ...]
    signs: tuple[str, ...]


MUTANTS = (
    Mutant(name="nothing (the control)", cuts=(), signs=()),
    Mutant(
        name="tasks are not created once",
        cuts=(
            (
                "submit.py",
                "return (*create_once(item.trace), over, *item.marks)",
                'return (("traceparent", item.trace), *item.marks)',
            ),
        ),
        signs=("stored twice", "several outcomes"),
    ),
    Mutant(
        name="outcomes have no guard",
        cuts=(
            ("outcomes.py", r'f"Nats-Expected-Last-Subject-Sequence:{newest}\r\n"', '""'),
            (
                "outcomes.py",
                r'f"Nats-Expected-Last-Subject-Sequence-Subject:{self._log.subjects.guard(delivery.ref)}\r\n"',
                '""',
            ),
        ),
        signs=("several outcomes",),
    ),
    Mutant(
        name="the ack precedes the outcome",
        cuts=(
            (
                "worker.py",
                "            ours = await self._writer.write(delivery, record, marks=marks)\n",
                '            self._answer(delivery, b"+ACK")\n'
                "            ours = await self._writer.write(delivery, record, marks=marks)\n",
            ),
        ),
        signs=("accepted without outcome",),
    ),
    Mutant(
        name="attempts leave no notes",
        cuts=(
            ("worker.py", "if (again or task.retry.attempts == 1) and self._notes_starts:", "if False:"),
            ("intake.py", "if self._notes_starts and delivery.attempt and not delivery.noted:", "if False:"),
        ),
        signs=("times although no fault befell it", "excused:", "work that has not ended"),
    ),
)


def main(only: str = "") -> int:
    """The exit code; with `only`, just the mutants whose name has that in it."""
    seed = int(os.environ.get("ROOST_SEED") or random.SystemRandom().randrange(2**32))
    print(f"seed {seed} (repeat with ROOST_SEED={seed})")
    print(f"{'broken':32} {'kill test':10} {'wanted':7} {'s':>4}  said")
    chosen = [mutant for mutant in MUTANTS if only in mutant.name]
    wrong = 0
    for mutant in chosen:
        began = time.monotonic()
        verdict, said = judged(mutant, seed)
        wanted = "red" if mutant.cuts else "green"
        wrong += verdict != wanted
        print(f"{mutant.name:32} {verdict:10} {wanted:7} {time.monotonic() - began:4.0f}  {said}", flush=True)
    if wrong:
        print(f"{wrong} of {len(chosen)} are not as wanted")
    return 1 if wrong or not chosen else 0


def judged(mutant: Mutant, seed: int) -> tuple[str, str]:
    """`red`, `green`, or `broken` when it failed for another reason; and what it said."""
    with tempfile.TemporaryDirectory(prefix="roost-mutant-") as folder:
        source = copied(mutant, Path(folder))
        verdict, said = "green", ""
        for number in range(TRIES if mutant.cuts else 1):
            verdict, said = killed(source, Path(folder), mutant.signs, seed + number)
            if verdict != "green":
                break
        return verdict, said


def copied(mutant: Mutant, folder: Path) -> Path:
    """The copy of `src`, with the promise broken. Raises SystemExit if a replacement does not fit exactly once."""
    source = folder / "src"
    shutil.copytree(ROOT / "src", source, ignore=shutil.ignore_patterns("__pycache__"))
    for file, text, replacement in mutant.cuts:
        path = source / TASKS / file
        code = path.read_text()
        if code.count(text) != 1:
            raise SystemExit(
                f"mutant {mutant.name!r} fits {file} {code.count(text)} times, not once:\n{text}"
            )
        path.write_text(code.replace(text, replacement))
    return source


def killed(source: Path, folder: Path, signs: tuple[str, ...], seed: int) -> tuple[str, str]:
    """One short kill test of the copy."""
    environment = os.environ | {
        "PYTHONPATH": str(source),
        "KILL_SECONDS": SECONDS,
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    where = subprocess.run(
        [sys.executable, "-c", "import roost; print(roost.__file__)"],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    if not where.stdout.startswith(str(source)):
        raise SystemExit(f"the copy is not what is imported, but {where.stdout.strip()}")
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-s",
        "-p",
        "no:cacheprovider",
        "tests/kill/test_kill.py",
    ]
    command += [f"--basetemp={folder / 'files'}", "--roost-seed", str(seed)]
    try:
        test = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT_S, check=False
        )
    except subprocess.TimeoutExpired:
        return "broken", f"it took longer than {LIMIT_S} s"
    if test.returncode == 0:
        return "green", "every task has its one outcome"
    lines = [line.strip() for line in test.stdout.splitlines()]
    errors = [line.removeprefix("E").strip() for line in lines if line.startswith(("E ", "verdict"))]
    for sign in signs:
        for line in errors:
            if sign in line:
                return "red", line[:110]
    return "broken", "; ".join(errors[:3])[:300] or test.stdout[-300:]


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
