"""Every example runs as it stands, in an empty folder, and says what it should."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
EXPECTED = {
    "hello.py": ["5"],
    "newsletter.py": ["2 articles, without ['nothing'], approved by ada"],
    "shouts.py": [
        "HELLO after 1 attempt(s)",
        "FLAKY after 2 attempt(s)",
        "dead: nothing to shout",
        "replayed: BETTER",
    ],
    "status.py": ["worker0: 0%", "worker1: 90%", "archived: 10, by 2 archivers"],
    "tokens.py": ["live: ['you', 'asked:', 'why']", "late: ['you', 'asked:', 'how']"],
}


def test_every_example_is_expected_to_say_something() -> None:
    assert {path.name for path in EXAMPLES.glob("*.py")} == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_an_example_runs_in_an_empty_folder(name: str, tmp_path: Path) -> None:
    run = subprocess.run(
        [sys.executable, str(EXAMPLES / name)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    lines = run.stdout.splitlines()
    for line in EXPECTED[name]:
        assert line in lines, run.stdout
    assert list(tmp_path.iterdir()) == []
