"""How this repository runs its `async def` tests (`tests/conftest.py`): what must fail does fail."""

from __future__ import annotations

from pathlib import Path

import pytest

CONFTEST = (Path(__file__).parents[1] / "conftest.py").read_text(encoding="utf-8")


def run(pytester: pytest.Pytester, code: str) -> pytest.RunResult:
    pytester.makeconftest(CONFTEST.replace("_BACKSTOP_S = 5.0", "_BACKSTOP_S = 0.2"))
    pytester.makepyfile("import asyncio, pytest, time, warnings\n" + code)
    return pytester.runpytest_subprocess()


def test_async_tests_run_with_their_fixtures_and_can_fail_or_skip(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
@pytest.fixture
def three(): return 3

async def test_passes(three):
    await asyncio.sleep(0)
    assert three == 3

async def test_fails(three): assert three == 4

async def test_skips(): pytest.skip("a reason")

class TestGroup:
    async def test_method(self, three): assert three == 3

@pytest.mark.parametrize("n", [1, 2])
async def test_each(n): assert n

async def test_last_steps_of_a_task_are_awaited():
    async def short():
        await asyncio.sleep(0.01)
    task = asyncio.create_task(short())
""",
    )
    result.assert_outcomes(passed=5, failed=1, skipped=1)
    result.stdout.fnmatch_lines(["*assert 3 == 4*"])


def test_a_test_that_hangs_fails_and_says_where(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
@pytest.mark.slow_limit(0.2)
async def test_hangs():
    await asyncio.Event().wait()

@pytest.mark.slow_limit(0.1)
async def test_blocks_its_loop():
    while True: pass

@pytest.mark.slow_limit(0.1)
def test_that_is_not_async_hangs():
    while True: pass
""",
    )
    result.assert_outcomes(failed=3)
    result.stdout.fnmatch_lines(
        ["*took longer than 0.2 s; its tasks were at:", "*test_a_test_that_hangs*.py:* in test_hangs"]
    )
    result.stdout.fnmatch_lines(["*took longer than 0.1 s and blocks*"])


def test_what_asyncio_would_only_log_fails_the_test(pytester: pytest.Pytester) -> None:
    result = run(
        pytester,
        """
async def forever():
    await asyncio.Event().wait()

async def breaks():
    raise ZeroDivisionError

async def test_task_left_behind():
    task = asyncio.create_task(forever(), name="the-lost-one")

async def test_exception_never_retrieved():
    task = asyncio.create_task(breaks())
    await asyncio.sleep(0)

async def test_exception_lost_in_a_cycle():
    cycle = [asyncio.create_task(breaks())]
    cycle.append(cycle)
    await asyncio.sleep(0)

async def test_callback_raises():
    asyncio.get_running_loop().call_soon(lambda: 1 / 0)
    await asyncio.sleep(0)

async def test_coroutine_never_awaited():
    forever()

async def test_warning():
    warnings.warn("old", DeprecationWarning)
""",
    )
    result.assert_outcomes(failed=6)
    result.stdout.fnmatch_lines(["*task left behind:*the-lost-one*"])
    result.stdout.fnmatch_lines(["*Task exception was never retrieved*ZeroDivisionError*"])
