"""Opening and closing a connection: one deadline for the attempt, one order for the end.

`Link` is what the layers above hold: the client, its requests and its JetStream calls, opened together
and closed together.
"""

from __future__ import annotations

import asyncio
import logging
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from nats import errors as nats_errors

from roost.errors import ConnectError, RoostError
from roost.settings import Settings
from roost.transport.client import Client
from roost.transport.jetstream import JetStream
from roost.transport.requests import Requests

log = logging.getLogger("roost.transport")

PING_INTERVAL_S = 10
MAX_OUTSTANDING_PINGS = 2
RETRY_S = 0.1


class Link:
    """One connection and what is used over it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.requests = Requests(client)
        self.jetstream = JetStream(self.requests)


@asynccontextmanager
async def open_link(settings: Settings, observe: Callable[[str, str], None]) -> AsyncIterator[Link]:
    """Connect, or raise ConnectError within ``settings.connect_timeout_s`` seconds; close at the end."""
    client = await open_client(settings, observe)
    try:
        yield Link(client)
    finally:
        await close_client(client)


async def open_client(settings: Settings, observe: Callable[[str, str], None]) -> Client:
    """A connected client.

    Tries each server until one answers or the time is up. Refused credentials and TLS failures end the
    attempt at once: no retry would mend them.
    """
    loop = asyncio.get_running_loop()
    until = loop.time() + settings.connect_timeout_s
    shown = ", ".join(settings.servers)
    while True:
        client = Client(observe)
        error: BaseException
        try:
            async with asyncio.timeout_at(until):
                await _connect(client, settings)
            return client
        except TimeoutError:
            error = client.last_error or TimeoutError(f"no answer within {settings.connect_timeout_s:g} s")
        except (OSError, nats_errors.Error, RoostError) as failure:
            error = failure
        except BaseException:
            _abandon(client)
            raise
        _abandon(client)
        reason = str(error).removeprefix("nats: ").strip("'") or type(error).__name__
        final = (
            isinstance(error, ssl.SSLError)
            or "authorization" in reason.lower()
            or "did not offer TLS" in reason
        )
        if final or loop.time() + RETRY_S >= until:
            raise ConnectError(shown, reason) from error
        await asyncio.sleep(RETRY_S)


async def _connect(client: Client, settings: Settings) -> None:
    async def failed(error: Exception) -> None:
        client._observe("client_error", f"{type(error).__name__}: {error}")

    options: dict[str, Any] = settings.client_options()
    await client.connect(
        servers=list(settings.servers),
        error_cb=failed,
        reconnected_cb=client._reconnected,
        reconnect_to_server_handler=client._choose_server,
        allow_reconnect=False,  # during the first attempt only: `open_client` tries again itself
        max_reconnect_attempts=-1,
        reconnect_time_wait=RETRY_S,  # type: ignore[arg-type]
        connect_timeout=settings.connect_timeout_s,  # type: ignore[arg-type]
        ping_interval=PING_INTERVAL_S,
        max_outstanding_pings=MAX_OUTSTANDING_PINGS,
        inbox_prefix=settings.inbox_prefix,
        name=settings.name,
        pending_size=0,
        **options,
    )
    client.options["allow_reconnect"] = True
    client.options["connect_timeout"] = 2


def _abandon(client: Client) -> None:
    client._status = client.CLOSED
    if client._transport is not None:
        client._transport.close()
    for task in (client._reading_task, client._ping_interval_task, client._flusher_task):
        if task is not None:
            task.cancel()


async def close_client(client: Client, *, timeout_s: float = 2.0) -> None:
    """Send what is buffered, then close; never longer than `timeout_s` seconds, server or no server."""
    try:
        async with asyncio.timeout(timeout_s):
            if client.is_connected:
                await client.flush(timeout_s)
    except (TimeoutError, OSError, RoostError) as error:
        log.info("the last flush before closing did not finish: %s", error)
    try:
        async with asyncio.timeout(timeout_s):
            await client.close()
    except (TimeoutError, OSError) as error:
        log.info("closing took too long and was cut short: %s", error)
        _abandon(client)
    tasks = [
        t for t in (client._reading_task, client._ping_interval_task, client._flusher_task) if t is not None
    ]
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)
