"""What the cells of a notebook may have left: streams, connections, tasks, processes. Each is found and ended."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
from pathlib import PurePath
from typing import Any

import nats
import psutil
from nats.aio.client import Client
from nats.errors import NoRespondersError

GRACE_S = 2.0
KERNEL = {"ipykernel", "IPython", "tornado", "zmq", "jupyter_client", "lesson_leftovers"}


async def delete_streams(url: str, prefix: str) -> list[str]:
    """Deletes the streams, buckets and stores of one learner; returns their names."""
    client = await nats.connect(
        url,
        name="lesson",
        error_cb=_unsaid,
        allow_reconnect=False,
        connect_timeout=5,
        max_reconnect_attempts=1,
        reconnect_time_wait=0.2,
    )
    try:
        names = [name for name in await _streams(client) if _of_learner(name, prefix)]
        for name in names:
            await client.jetstream(timeout=5).delete_stream(name)
        return sorted(names)
    finally:
        await client.close()


async def _unsaid(error: Exception) -> None:
    """What is refused is told by the call that wanted it."""


async def _streams(client: Client) -> list[str]:
    """The names of all streams that this user may see; none where there is no JetStream."""
    names: list[str] = []
    while True:
        try:
            answer = await client.request(
                "$JS.API.STREAM.NAMES", json.dumps({"offset": len(names)}).encode(), timeout=5
            )
        except NoRespondersError:
            return []
        page = json.loads(answer.data)
        found = page.get("streams") or []
        names += found
        if not found or len(names) >= page.get("total", 0):
            return names


def _of_learner(name: str, prefix: str) -> bool:
    """A prefix has no `_`, so `ada_TASKS` is of `ada` and `ada-2_TASKS` is not. Roost's own end with the namespace."""
    first, _, rest = name.removeprefix("KV_").removeprefix("OBJ_").partition("_")
    return first == prefix or (first.startswith("ROOST") and rest == prefix)


async def close_connections() -> list[str]:
    """Closes the NATS connections that are still open in this process."""
    left = [one for one in gc.get_objects() if issubclass(type(one), Client) and not one.is_closed]
    left = [one for one in left if one.is_connected or one.is_reconnecting]
    for one in left:
        with contextlib.suppress(Exception):
            await asyncio.wait_for(one.close(), GRACE_S)
    return [f"a connection{_named(one)}" for one in left]


def _named(client: Client) -> str:
    name = client.options.get("name")
    return f" named {name}" if name else ""


async def end_tasks() -> list[str]:
    """Cancels the asyncio tasks that cells have started and that do not end by themselves."""
    tasks = [one for one in asyncio.all_tasks() if one is not asyncio.current_task() and not _of_kernel(one)]
    if not tasks:
        return []
    _, pending = await asyncio.wait(tasks, timeout=GRACE_S / 2)
    for one in pending:
        one.cancel()
    if pending:
        await asyncio.wait(pending, timeout=GRACE_S)
    return [f"the task {getattr(one.get_coro(), '__qualname__', one.get_name())}" for one in pending]


def _of_kernel(task: asyncio.Task[Any]) -> bool:
    frame = getattr(task.get_coro(), "cr_frame", None)
    return frame is None or frame.f_globals.get("__name__", "").split(".")[0] in KERNEL


def end_processes() -> list[str]:
    """Ends the child processes of this one: SIGTERM, and SIGKILL for those that stay."""
    children = [one for one in psutil.Process().children(recursive=True) if _alive(one)]
    told = [f"the process {_command(one)}" for one in children]
    for one in children:
        with contextlib.suppress(psutil.Error):
            one.terminate()
    staying = psutil.wait_procs(children, timeout=GRACE_S)[1]
    for one in staying:
        with contextlib.suppress(psutil.Error):
            one.kill()
    psutil.wait_procs(staying, timeout=GRACE_S)
    return told


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _command(process: psutil.Process) -> str:
    try:
        words = process.cmdline()
    except psutil.Error:
        words = []
    return " ".join(PurePath(word).name for word in words[:3]) or str(process.pid)
