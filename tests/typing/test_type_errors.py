"""Misuse fails a type checker, and correct use does not.

Types that check nothing look the same as types that check everything, until somebody passes the wrong model in
production. Here every line marked with `# E` must be an error for `mypy --strict` and for pyright, and no other line.
Programs that users will write (`examples/`) are held to the same rule.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAMS = sorted([*Path(__file__).parent.glob("*_misuse.py"), *(ROOT / "examples").glob("*.py")])

_marked = re.compile(r"#\s*E(?:[:\s]|$)").search
_mypy_error = re.compile(r"^(?P<file>.+?):(?P<line>\d+)(?::\d+)?: error: (?P<text>.*)$").match

Found = Mapping[Path, Mapping[int, str]]


def marked_lines(program: Path) -> set[int]:
    lines = program.read_text(encoding="utf-8").splitlines()
    return {number for number, line in enumerate(lines, start=1) if _marked(line)}


def found_by_mypy() -> Found:
    options = [
        "--strict",
        "--no-error-summary",
        "--no-pretty",
        "--hide-error-context",
        "--show-absolute-path",
    ]
    done = _run("mypy", *options, "--scripts-are-modules", *map(str, PROGRAMS))
    found: dict[Path, dict[int, str]] = defaultdict(dict)
    for line in done.stdout.splitlines():
        error = _mypy_error(line)
        if error:
            found[Path(error["file"])][int(error["line"])] = error["text"]
    if done.returncode not in (0, 1):
        pytest.fail(f"mypy could not run: {done.stdout}{done.stderr}")
    return found


def found_by_pyright() -> Found:
    done = _run("pyright", "--outputjson", "--pythonpath", sys.executable, *map(str, PROGRAMS))
    if done.returncode not in (0, 1):
        pytest.fail(f"pyright could not run: {done.stdout}{done.stderr}")
    found: dict[Path, dict[int, str]] = defaultdict(dict)
    for one in json.loads(done.stdout)["generalDiagnostics"]:
        if one["severity"] == "error":
            found[Path(one["file"])][one["range"]["start"]["line"] + 1] = one["message"]
    return found


def _run(module: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", module, *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )


CHECKERS = {"mypy": found_by_mypy, "pyright": found_by_pyright}


@pytest.fixture(scope="module", params=CHECKERS)
def found(request: pytest.FixtureRequest) -> Found:
    """What one checker says of all programs; it runs once for all of them."""
    return CHECKERS[request.param]()


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.stem)
def test_a_checker_refuses_the_marked_lines_and_no_others(found: Found, program: Path) -> None:
    errors = found.get(program.resolve(), {})
    marked = marked_lines(program)
    missed = sorted(marked - errors.keys())
    surprising = {line: errors[line] for line in sorted(errors.keys() - marked)}
    assert not missed, f"{program.name}: accepted, though marked as misuse: lines {missed}"
    assert not surprising, f"{program.name}: refused, though not marked: {surprising}"


def test_there_is_misuse_to_refuse() -> None:
    assert sum(len(marked_lines(program)) for program in PROGRAMS) >= 20
