"""A blocked event loop is noticed while it is blocked, and the handler that does it is named."""

from __future__ import annotations

import asyncio
import logging
import re
import subprocess
import sys
import threading
import time

import pytest
from pydantic import BaseModel

import roost
from roost.observe import Journal, LoopWatch
from roost.testing import faults


class Work(BaseModel):
    seconds: float


compute = roost.Task("compute", Work)
quick = roost.Endpoint("quick", Work, Work)
agent = roost.Agent("computer")


@agent.handles(compute)
async def long_sum(work: Work) -> None:
    time.sleep(work.seconds)  # noqa: ASYNC251 - what is to be noticed


@agent.handles(quick)
async def answer(work: Work) -> Work:
    return work


async def test_the_handler_is_named_while_it_blocks(
    nats_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    said: list[tuple[float, str, int]] = []
    freed: list[float] = []
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        bus.loop_watch.on_blocked = lambda text: said.append((time.monotonic(), text, threading.get_ident()))
        bus.loop_watch.on_free = lambda: freed.append(time.monotonic())
        blocked = asyncio.Event()
        bus.watch(lambda event: blocked.set() if event.kind == "loop_blocked" else None)
        with caplog.at_level(logging.WARNING, "roost"):
            await (await bus.submit(compute, Work(seconds=1.8))).result()
            await asyncio.wait_for(blocked.wait(), 5)
        assert bus.counters["loop_blocked"] == 1
    [(at, text, thread)] = said
    assert "by task compute, in long_sum (test_loopwatch.py:" in text
    assert "asyncio.to_thread" in text
    assert thread != threading.get_ident()
    assert at < freed[0]
    assert text in caplog.text
    assert "it goes on now" in caplog.text


SLEEPER = """
import asyncio, sys
from roost.observe import Journal, LoopWatch

async def main():
    journal = Journal()
    watch = LoopWatch(journal)
    watch.on_blocked = lambda text: print("blocked", text, flush=True)
    journal.watch(lambda event: print(event.kind, event.reason, flush=True))
    with watch.running():
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)

asyncio.run(main())
"""


def test_a_process_that_was_suspended_accuses_nobody() -> None:
    """Bug: "blocked for 1 s by a callback, in select", with the advice to make the handler a plain `def`."""
    with subprocess.Popen([sys.executable, "-c", SLEEPER], stdin=-1, stdout=-1, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        with faults.frozen(process):
            time.sleep(1.6)  # the length of the fault
        said = process.stdout.readline()
        process.stdin.close()
        rest = process.stdout.read()
    assert re.match(r"process_stood_still for [12]\.\d s: it was suspended, ", said)
    assert "blocked" not in rest


async def test_a_loop_that_is_not_blocked_is_not_told_of(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        until = time.monotonic() + 1.5
        while time.monotonic() < until:
            await bus.request(quick, Work(seconds=0))
        assert bus.counters["loop_blocked"] == 0


async def test_the_thread_ends_with_the_last_block() -> None:
    def watching() -> list[threading.Thread]:
        return [one for one in threading.enumerate() if one.name == "roost-loop-watch"]

    watch = LoopWatch(Journal())
    before = len(watching())
    with watch.running(), watch.running():
        assert len(watching()) == before + 1
    for thread in watching():
        await asyncio.to_thread(thread.join, 2)
    assert len(watching()) <= before
