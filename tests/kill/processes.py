"""The nursery's children as seen by the test: begun, signalled and waited for."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from asyncio.subprocess import PIPE, Process
from pathlib import Path

HERE = Path(__file__).resolve().parent


class Child:
    """A worker or a submitter."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ready = asyncio.Event()
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @property
    def alive(self) -> bool:
        return not self.ended.done()


class Nursery:
    """`async with Nursery() as nursery`; its end is the end of all children."""

    def __init__(self, module: str = "kill.nursery") -> None:
        self._module = module
        self._children: dict[int, Child] = {}
        self._births: asyncio.Queue[Child] = asyncio.Queue()
        self._one_at_a_time = asyncio.Lock()
        self._process: Process | None = None
        self._listening: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Nursery:
        given = os.environ.get("PYTHONPATH", "")
        path = f"{given}{os.pathsep}{HERE.parent}" if given else str(HERE.parent)
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            self._module,
            stdin=PIPE,
            stdout=PIPE,
            env=os.environ | {"PYTHONPATH": path},
        )
        self._listening = asyncio.create_task(self._listen(), name="listen-to-nursery")
        return self

    async def __aexit__(self, *_: object) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        assert self._listening is not None
        self._process.stdin.close()
        await self._listening
        await self._process.wait()

    async def begin(self, what: str, log: Path, *arguments: object) -> Child:
        """Fork one; returns at once, `Child.ready` is set when it is at work."""
        async with self._one_at_a_time:
            order: dict[str, object] = {
                "do": "begin",
                "what": what,
                "log": str(log),
                "arguments": [*map(str, arguments)],
            }
            self._order(order)
            return await self._births.get()  # it may have ended already

    def signal(self, child: Child, number: int) -> None:
        """Send a signal, if it still lives."""
        if child.alive:
            self._order({"do": "signal", "pid": child.pid, "number": int(number)})

    def _order(self, order: dict[str, object]) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")

    async def _listen(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            word, pid, *code = line.decode().split()
            if word == "began":
                child = self._children[int(pid)] = Child(int(pid))
                self._births.put_nowait(child)
            elif word == "ready":
                self._children[int(pid)].ready.set()
            else:
                self._children.pop(int(pid)).ended.set_result(int(code[0]))
