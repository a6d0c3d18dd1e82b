"""The file of docs/faults.md runs as it stands, one test for each row of its table."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

RUNNER = """
import asyncio, inspect, pytest

@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):  # in place of pytest-asyncio
    if inspect.iscoroutinefunction(pyfuncitem.obj):
        names = pyfuncitem._fixtureinfo.argnames
        asyncio.run(pyfuncitem.obj(**{name: pyfuncitem.funcargs[name] for name in names}))
        return True
"""
PAGE = Path(__file__).parents[2] / "docs" / "faults.md"


def test_the_page(tmp_path: Path) -> None:
    text = PAGE.read_text(encoding="utf-8")
    [program] = re.findall(r"```python\n(.*?)```", text, re.S)
    rows = re.findall(r"^\| (?!fault)\w", text, re.M)
    (tmp_path / "test_faults.py").write_text(program, encoding="utf-8")
    (tmp_path / "conftest.py").write_text(RUNNER, encoding="utf-8")
    run = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "test_faults.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    ran = sum(int(number) for number in re.findall(r"(\d+) (?:passed|skipped)", run.stdout))
    assert ran >= len(rows) == 13
