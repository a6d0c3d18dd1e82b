"""The programs of docs/faults.md run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

RUNNER = """
import asyncio, inspect, pytest

@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        asyncio.run(pyfuncitem.obj(pyfuncitem.funcargs["own_server"]))
        return True
"""
PAGE = Path(__file__).parents[2] / "docs" / "faults.md"


def test_the_page(tmp_path: Path) -> None:
    programs = re.findall(r"```python\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.S)
    assert len(programs) == 2
    use = "\n\ndef test_a_disk(disk):\n    disk.fill()\n    assert disk.free_bytes < 10_000\n"
    (tmp_path / "test_page.py").write_text("\n\n".join(programs) + use, encoding="utf-8")
    (tmp_path / "conftest.py").write_text(RUNNER, encoding="utf-8")
    run = subprocess.run(
        [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "-o",
            "asyncio_mode=auto",
            "test_page.py",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
