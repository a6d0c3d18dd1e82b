"""The 45 s handler of the issue runs beside the other tests of this folder: started first, awaited last."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
LAST = "test_a_handler_of_45_s_on_an_ack_wait_of_5_s_runs_once"


class LongWork:
    """The process that runs `long_work.py`."""

    def __init__(self) -> None:
        path = os.pathsep.join(part for part in (os.environ.get("PYTHONPATH", ""), str(HERE.parent)) if part)
        command = [sys.executable, "-m", "tasks.long_work"]
        self._process = subprocess.Popen(
            command, stdout=subprocess.PIPE, env=os.environ | {"PYTHONPATH": path}
        )

    async def report(self) -> Any:
        """What it found, when it has ended."""
        said, _ = await asyncio.to_thread(self._process.communicate)
        return json.loads(said)

    def close(self) -> None:
        """End it for certain; its server ends with it."""
        if self._process.poll() is None:
            self._process.terminate()
        if self._process.stdout is not None and not self._process.stdout.closed:
            self._process.communicate()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: item.name == LAST)


@pytest.fixture(scope="session")
def long_work() -> Iterator[LongWork]:
    work = LongWork()
    yield work
    work.close()


@pytest.fixture(scope="session", autouse=True)
def _begin_long_work(request: pytest.FixtureRequest) -> None:
    if any(item.name == LAST for item in request.session.items):
        request.getfixturevalue("long_work")
