"""What the tests of the demo as a whole share: a folder to audit, the demo as a process, its last line."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

LAST = re.compile(
    r"submitted=(\d+) done=(\d+) dead=(\d+) cancelled=(\d+) retries=(\d+) seconds=(\d+(?:\.\d+)?)"
).fullmatch

PROGRAM = (
    "import sys; from pathlib import Path; from roost.demo.main import run_demo; "
    "sys.exit(run_demo(Path(sys.argv[1]), out=Path(sys.argv[2]), workers=2, as_json='--json' in sys.argv, "
    "faults='--faults' in sys.argv))"
)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return folder_in(tmp_path)


def folder_in(place: Path) -> Path:
    """A README with two broken links, a program with a TODO, and three files that cannot be read."""
    root = place / "work"
    (root / "docs").mkdir(parents=True)
    (root / "README.md").write_text(
        "# Hello\n\n[a](docs/a.md#one) [b](docs/gone.md) [c](#nothing) [w](https://x.y)\n"
    )
    (root / "docs" / "a.md").write_text("# One\n\nTODO: more\n")
    (root / "tool.py").write_text("# FIXME\nprint('x')\n")
    (root / "pic.png").write_bytes(b"\x89PNG\0")
    (root / "latin.txt").write_bytes(b"x" * 10_000 + b"\xe9")  # found out by a worker, not by the scan
    (root / "loop").symlink_to(root)
    return root


def demo(root: Path, out: Path, *more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PROGRAM, str(root), str(out), *more],
        capture_output=True,
        text=True,
        timeout=55,
        check=False,
    )


def numbers(line: str) -> list[float]:
    found = LAST(line)
    assert found is not None, line
    return [float(one) for one in found.groups()]
