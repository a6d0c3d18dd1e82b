"""Removing a namespace's streams after a test, over a connection of its own.

The test's connection may be closed, broken or part of what was tested, so it is not used. The work runs on a
thread with its own event loop: whether one already runs in this thread depends on the user's test runner.
"""

from __future__ import annotations

import asyncio
import json
from concurrent.futures import ThreadPoolExecutor

__all__ = ["remove_streams"]


def remove_streams(url: str, *prefixes: str) -> None:
    """Removes every stream whose name begins with one of `prefixes`.

    `url` is that of a server, or several, separated by commas.

    Raises what nats-py raises when the server is gone: then a test has killed a server that others use.
    """
    with ThreadPoolExecutor(max_workers=1, thread_name_prefix="roost-remove-streams") as thread:
        thread.submit(asyncio.run, _remove(url, prefixes)).result()


async def _remove(url: str, prefixes: tuple[str, ...]) -> None:
    import nats  # only here: a plugin is loaded into every test run, also those that never use it

    async def ignore(problem: Exception) -> None:
        """The default prints a traceback as well; the exception that `connect` raises is enough."""

    client = await nats.connect(url.split(","), allow_reconnect=False, connect_timeout=5, error_cb=ignore)
    try:
        names: list[str] = []
        while True:
            ask = json.dumps({"offset": len(names)}).encode()
            page = json.loads((await client.request("$JS.API.STREAM.NAMES", ask, timeout=5)).data)
            names += page.get("streams") or []
            if not page.get("streams") or len(names) >= page["total"]:
                break
        for name in names:
            if name.startswith(prefixes):
                await client.jetstream().delete_stream(name)
    finally:
        await client.close()
