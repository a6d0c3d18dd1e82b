"""How Roost's own tests run: `async def` tests on a fresh loop each, with a limit, and nothing left unseen.

A test that hangs fails with the place where it hangs. A test whose tasks outlive it, or whose exceptions
nobody fetched, fails even if its assertions hold: in the product the same would be a leak and a lost error.
"""

from __future__ import annotations

import asyncio
import gc
import inspect
import signal
from collections.abc import Callable, Coroutine, Generator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import settings

pytest_plugins = ["pytester"]

HERE = Path(__file__).parent
LIMIT_S = 60.0
"""For one test; `@pytest.mark.slow_limit(seconds)` allows another."""

_BACKSTOP_S = 5.0  # later than the limit: for a test that is not async, or that blocks its loop
_LAST_STEPS_S = 1.0  # for tasks that are just ending when the test does


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--long", action="store_true", default=False, help="the long form of those that have one"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", f"slow_limit(seconds): the test may take this long (else {LIMIT_S:g} s)"
    )
    config.addinivalue_line("filterwarnings", "error")
    settings.register_profile("untimed", deadline=None)  # a busy machine is no fault of the code
    settings.load_profile("untimed")


LONG = (
    "kill",
    "simulation",
    "notebooks",
    "runtime",
    "server/test_cluster",
    "demo",
    "tasks",
    "security",
    "runs",
)
"""What takes longest comes first, so that at the end no process waits for another's last file."""


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if config.getoption("--roost-cluster"):  # a test that brings its own server would be the same again
        shared = {item for item in items if "nats_server" in getattr(item, "fixturenames", ())}
        config.hook.pytest_deselected(items=[item for item in items if item not in shared])
        items[:] = [item for item in items if item in shared]

    def place(item: pytest.Item) -> int:
        path = item.path.relative_to(HERE).as_posix() if item.path.is_relative_to(HERE) else ""
        return next((number for number, one in enumerate(LONG) if path.startswith(one)), len(LONG))

    items.sort(key=place)


def pytest_collection_finish() -> None:
    """Keeps modules and collected tests out of the collection after each test: a tenth of a second less each."""
    gc.collect()
    gc.freeze()


def limit_of(item: pytest.Item) -> float:
    marker = item.get_closest_marker("slow_limit")
    return float(marker.args[0]) if marker else LIMIT_S


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Runs an `async def` test with asyncio; leaves the others to pytest."""
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    wanted = inspect.signature(pyfuncitem.obj).parameters
    arguments = {name: value for name, value in pyfuncitem.funcargs.items() if name in wanted}
    test: Callable[..., Coroutine[Any, Any, None]] = pyfuncitem.obj
    asyncio.run(watched(test(**arguments), limit_of(pyfuncitem)))
    return True


async def watched(test: Coroutine[Any, Any, None], limit_s: float) -> None:
    """Awaits the test and fails for what asyncio would only log, and for tasks left behind."""
    complaints: list[str] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: complaints.append(described(context)))
    mine = asyncio.current_task()
    running = loop.create_task(test, name="test")
    await asyncio.wait([running], timeout=limit_s)
    if not running.done():
        places = "\n".join(waiting_place(task) for task in asyncio.all_tasks() if task is not mine)
        running.cancel()
        await asyncio.wait([running], timeout=_LAST_STEPS_S)
        pytest.fail(f"the test took longer than {limit_s:g} s; its tasks were at:\n{places}", pytrace=False)
    others = asyncio.all_tasks() - {mine}
    if others:
        await asyncio.wait(others, timeout=_LAST_STEPS_S)
    complaints += [f"task left behind: {waiting_place(task)}" for task in others if not task.done()]
    await running
    others.clear()
    gc.collect()  # a lost task or exception complains when it is collected
    if complaints:
        pytest.fail("the test passed, but left something unseen:\n" + "\n".join(complaints), pytrace=False)


def described(context: dict[str, Any]) -> str:
    return f"{context.get('message')}: " + ", ".join(
        f"{key}={value!r}" for key, value in context.items() if key not in ("message", "source_traceback")
    )


def waiting_place(task: asyncio.Task[Any]) -> str:
    frames = task.get_stack()
    lines = [f"    {frame.f_code.co_filename}:{frame.f_lineno} in {frame.f_code.co_name}" for frame in frames]
    return "\n".join([f"  {task.get_name()} ({task.get_coro()!r})", *lines])


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Generator[None, None, None]:
    """The limit for everything that asyncio cannot interrupt."""
    limit_s = limit_of(item)

    def ring(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"the test took longer than {limit_s:g} s and blocks; see where in the traceback")

    before = signal.signal(signal.SIGALRM, ring)
    signal.setitimer(signal.ITIMER_REAL, limit_s + _BACKSTOP_S)
    try:
        return (yield)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Reports travel between processes as UTF-8: what a test logged may hold half a surrogate pair."""
    report = yield
    report.sections = [
        (name, text.encode("utf-8", "backslashreplace").decode()) for name, text in report.sections
    ]
    return report
