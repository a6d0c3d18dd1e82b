"""Agents that the tests of processes run, and the ear with which a test hears them.

The processes import this module by name, as a user's module is imported. A handler tells the test what it does
over a socket in the file system, which works whether or not there is a NATS server: a test waits for that,
never for time to pass.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

from pydantic import BaseModel

from roost import Agent, Context, Task

HERE = Path(__file__).parent
EAR = "FLEET_EAR"


class Job(BaseModel):
    id: str
    first_s: float = 0.0
    """How long the first run takes; it counts as begun when its mark is in the ear's folder."""
    later_s: float = 0.0


class Report(BaseModel):
    by: str
    pid: int
    run: int


job = Task("job", Job, Report, ack_wait_s=30)
brief = Task("brief", Job, Report, ack_wait_s=0.5)
threaded = Task("threaded", Job, Report, ack_wait_s=30)
blocking = Task("blocking", Job, Report, ack_wait_s=30)
forking = Task("forking", Job, Report, ack_wait_s=30)

worker = Agent("worker")
thread_worker = Agent("thread-worker")
loop_blocker = Agent("loop-blocker")
forker = Agent("forker")
empty = Agent("empty")
not_an_agent = [1, 2, 3]


def tell(text: str) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as mouth:
        mouth.sendto(text.encode(), os.environ[EAR])


def begun(one: Job, ctx: Context) -> tuple[int, float]:
    """Which run of this job it is, and how long it takes; told to the test."""
    folder = Path(os.environ[EAR]).parent
    run = 1
    while True:
        try:
            (folder / f"{one.id}.{run}").touch(exist_ok=False)
        except FileExistsError:
            run += 1
            continue
        tell(f"begun {one.id} {ctx.instance} {os.getpid()}")
        return run, one.first_s if run == 1 else one.later_s


@worker.handles(job, concurrency=4)
async def do_job(one: Job, ctx: Context) -> Report:
    run, seconds = begun(one, ctx)
    await asyncio.sleep(seconds)
    return Report(by=ctx.instance, pid=os.getpid(), run=run)


@worker.handles(brief, concurrency=4)
async def do_brief(one: Job, ctx: Context) -> Report:
    return await do_job(one, ctx)  # type: ignore[no-any-return]


@thread_worker.handles(threaded)
def do_threaded(one: Job, ctx: Context) -> Report:
    run, seconds = begun(one, ctx)
    time.sleep(seconds)
    return Report(by=ctx.instance, pid=os.getpid(), run=run)


@loop_blocker.handles(blocking)
async def do_blocking(one: Job, ctx: Context) -> Report:
    run, seconds = begun(one, ctx)
    time.sleep(seconds)  # noqa: ASYNC251 (the fault that is tested)
    return Report(by=ctx.instance, pid=os.getpid(), run=run)


@forker.handles(forking)
def do_forking(one: Job, ctx: Context) -> Report:
    """Terminates a process that it forked, as `multiprocessing.Pool` does."""
    pid = os.fork()
    if pid == 0:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(60)
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return Report(by=ctx.instance, pid=pid, run=os.waitstatus_to_exitcode(status))


@asynccontextmanager
async def no_database() -> AsyncIterator[None]:
    raise OSError("no database there")
    yield


broken_lifespan = Agent("broken", lifespan=no_database)
broken_lifespan.handles(job)(do_job)


@asynccontextmanager
async def no_end() -> AsyncIterator[None]:
    yield
    await asyncio.Event().wait()


endless_lifespan = Agent("endless", lifespan=no_end)
endless_lifespan.handles(job)(do_job)


class Ear:
    """Hears what the fleet tells: ``async with Ear() as ear``, then ``await ear.hear("begun j1")``."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fleet-")
        self.path = str(Path(self._folder.name) / "ear")
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.setblocking(False)
        self._socket.bind(self.path)
        self._heard: list[str] = []
        self.more: dict[str, str] = {}

    async def __aenter__(self) -> Ear:
        return self

    async def __aexit__(self, *_: object) -> None:
        self._socket.close()
        with suppress(OSError):
            self._folder.cleanup()

    @property
    def env(self) -> dict[str, str]:
        """What processes need in their environment to import this module and to be heard."""
        path = os.pathsep.join(filter(None, [str(HERE), os.environ.get("PYTHONPATH")]))
        return {EAR: self.path, "PYTHONPATH": path, "ROOST_LOG_LEVEL": "warning", **self.more}

    async def hear(self, beginning: str, *, timeout_s: float = 30.0) -> list[str]:
        """The words of the next thing told that begins so."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(timeout_s):
            while True:
                for text in self._heard:
                    if text.startswith(beginning):
                        self._heard.remove(text)
                        return text.split()
                self._heard.append((await loop.sock_recv(self._socket, 4096)).decode())


class Program:
    """A process whose standard error is read line by line. Killed at the end if it is still there."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self.process = process
        self.lines: list[str] = []

    @classmethod
    async def start(cls, *arguments: str, env: dict[str, str], cwd: Path | None = None) -> Program:
        """``python <arguments>``."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            *arguments,
            env={**os.environ, **env},
            cwd=cwd,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.PIPE,
        )
        return cls(process)

    @classmethod
    async def agent(cls, target: str, *, env: dict[str, str]) -> Program:
        return await cls.start("-m", "roost.runtime.process", target, env=env)

    async def __aenter__(self) -> Program:
        return self

    async def __aexit__(self, *_: object) -> None:
        if self.process.returncode is None:
            self.process.kill()
            await self.process.wait()
        await self._rest()

    @property
    def pid(self) -> int:
        return self.process.pid

    def signal(self, number: int) -> None:
        self.process.send_signal(number)

    async def says(self, *parts: str, timeout_s: float = 30.0) -> str:
        """The next line of its standard error that holds all `parts`."""
        assert self.process.stderr is not None
        async with asyncio.timeout(timeout_s):
            while True:
                line = (await self.process.stderr.readline()).decode()
                if not line:
                    raise AssertionError(f"it ended without saying {parts}; it said {self.lines}")
                self.lines.append(line)
                if all(part in line for part in parts):
                    return line

    async def ends(self, *, timeout_s: float = 30.0) -> int:
        """Its exit code; what it said is in `lines`."""
        async with asyncio.timeout(timeout_s):
            await self._rest()
            return await self.process.wait()

    async def _rest(self) -> None:
        assert self.process.stderr is not None
        self.lines += (await self.process.stderr.read()).decode().splitlines(keepends=True)

    @property
    def text(self) -> str:
        return "".join(self.lines)


async def gone(pid: int, *, timeout_s: float = 30.0) -> None:
    """Waits until a process that need not be our child has ended."""
    try:
        descriptor = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    loop.add_reader(descriptor, ended.set)
    try:
        async with asyncio.timeout(timeout_s):
            await ended.wait()
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
