"""Coordinators that die at a chosen write: `python -m runs.failing_process URL NAMESPACE FILE`.

It forks one process per line of its input, so that only one has to import anything: `<workflow> <n> <when>`
serves that workflow until the n-th record it writes, and dies before it is sent or after it was stored (`before`,
`after`). `<workflow> 0 never` serves until it is killed. Each step's function appends a line to FILE.
Each process prints `count <workflow> <writes>` whenever it has written, and each that ends `ended <workflow> <n>`.
"""

from __future__ import annotations

import asyncio
import os
import sys
from typing import Any

import roost
from roost.agent import Agent
from roost.transport import Message
from roost.transport.requests import Requests
from runs.support import Number, Report, doubled, go, numbers

each = roost.Task("each", Number, Number)


def plan_named(name: str) -> roost.Workflow[Number, Report]:
    """A workflow for one failure, so that nobody else takes it up."""
    return roost.Workflow(name, Number, Report, ack_wait_s=0.5, retry=roost.Retry(attempts=1))


def below_named(name: str) -> roost.Workflow[Number, Number]:
    return roost.Workflow(f"{name}-below", Number, Number, ack_wait_s=0.5, retry=roost.Retry(attempts=1))


def agent_for(name: str, file: int) -> Agent[None]:
    """The agent of one workflow: a step, a map of two parts, a call, a workflow below, a signal, a step."""
    agent = Agent("failing")

    async def note(run: str, word: str, times: list[float]) -> int:
        os.write(file, f"{run} {word}\n".encode())
        return len(word)

    @agent.handles(plan_named(name))
    async def work(value: Number, run: roost.Run[Any]) -> Report:
        found = [await run.step("first", note, run.id, "first", [run.now(), run.random()])]
        async with run.map(each, numbers(3), key=lambda v: f"k.{v.n}", name="several", ahead=2) as outcomes:
            async for outcome in outcomes:
                found += [outcome.index, run.now() > 0]
        one = await run.call(each, value)
        two = await run.call(below_named(name), one)
        sent = await run.wait_for(go, timeout_s=300)
        last = await run.step("last", note, run.id, "last", [run.now(), run.random()])
        return Report(numbers=[found[0], *sorted(found[1::2]), one.n, two.n, sent.n, last])

    @agent.handles(below_named(name))
    async def deeper(value: Number, run: roost.Run[Any]) -> Number:
        length = await run.step("inner", note, run.id, "inner", [run.now(), run.random()])
        done = await run.call(each, value)
        return Number(n=done.n + length)

    return agent


EXPECTED = [5, 0, 1, 2, 14, 33, 9, 4]
"""The report for 7, with a signal of 9."""


def die_at(number: int, when: str, name: str) -> None:
    """Count the records that are written, and end this process at the chosen one."""
    original = Requests.ask
    count = 0

    async def counted(
        self: Requests, subject: str, data: bytes = b"", head: bytes = b"", *, timeout_s: float
    ) -> Message:
        nonlocal count
        if ".run." not in subject or subject.startswith("$"):
            return await original(self, subject, data, head, timeout_s=timeout_s)
        count += 1
        if count == number and when == "before":
            os._exit(9)
        answer = await original(self, subject, data, head, timeout_s=timeout_s)
        if count == number:
            os._exit(9)
        os.write(1, f"count {name} {count}\n".encode())
        return answer

    Requests.ask = counted  # type: ignore[method-assign]


async def serve(url: str, namespace: str, agent: Agent[None]) -> None:
    async with roost.connect(url, namespace=namespace) as bus, bus.serving(agent):
        await asyncio.get_running_loop().create_future()


def main(url: str, namespace: str, path: str) -> None:
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    children: dict[int, str] = {}
    os.set_blocking(0, False)
    pending = b""
    while True:
        try:
            read = os.read(0, 65536)
        except BlockingIOError:
            read = None
        if read == b"":
            break
        pending += read or b""
        *lines, pending = pending.split(b"\n")
        for line in lines:
            name, number, when = line.decode().split()
            child = os.fork()
            if child == 0:
                die_at(int(number), when, name)
                asyncio.run(serve(url, namespace, agent_for(name, file)))
            children[child] = f"{name} {number}"
        ended, _ = os.waitpid(-1, os.WNOHANG) if children else (0, 0)
        if ended:
            os.write(1, f"ended {children.pop(ended)}\n".encode())
        elif not lines:
            import select

            select.select([0], [], [], 0.005)
    for child in children:
        os.kill(child, 9)
        os.waitpid(child, 0)


async def each_doubled(value: Number) -> Number:
    return await doubled(value)


if __name__ == "__main__":
    main(*sys.argv[1:4])
