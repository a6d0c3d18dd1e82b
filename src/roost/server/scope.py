"""A local server, or a cluster, for the length of an `async with`, without holding up the event loop.

Starting and stopping wait for a process, so they happen on a thread. A cancellation in the middle of a start
still ends the server: `stop` waits for the start to finish, and a stopped server never starts.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from roost.server.cluster import LocalCluster
from roost.server.local import LocalServer
from roost.server.options import ServerOptions

__all__ = ["local_cluster", "local_server"]


@asynccontextmanager
async def local_server(options: ServerOptions | None = None) -> AsyncIterator[str]:
    """Runs a real nats-server on this machine and gives its URL.

    Raises ServerUnavailable when there is no nats-server, or when it does not start.
    """
    server = LocalServer(options)
    try:
        await asyncio.to_thread(server.start)
        yield server.url
    finally:
        await asyncio.to_thread(server.stop)


@asynccontextmanager
async def local_cluster(
    servers: int = 3, options: ServerOptions | None = None
) -> AsyncIterator[LocalCluster]:
    """Runs several nats-servers on this machine as one cluster; `.url` is what to connect to.

    Its methods block: `await asyncio.to_thread(cluster.start, 1)`. Raises ServerUnavailable when there is no
    nats-server, or when they do not start; ConfigError when `servers` is not 3 or 5.
    """
    cluster = LocalCluster(servers, options)
    try:
        await asyncio.to_thread(cluster.start)
        yield cluster
    finally:
        await asyncio.to_thread(cluster.stop)
