"""Opening and closing a connection: one deadline for the attempt, one order for the end.

`Link` is what the layers above hold: the client, its requests and its JetStream calls, opened together
and closed together.
"""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from nats import errors as nats_errors

from roost.errors import ConfigError, ConnectError
from roost.settings import Settings
from roost.transport.client import Client
from roost.transport.failures import NotEncrypted
from roost.transport.jetstream import JetStream
from roost.transport.session import ATTEMPT_CAP_S

RETRY_S = 0.1
"""Pause between attempts to connect, while there is time."""

# No retry mends these: refused credentials, a certificate that does not fit, a file that is not there.
_FINAL = (nats_errors.AuthorizationError, NotEncrypted, ssl.SSLError, FileNotFoundError, PermissionError)


class Link:
    """One connection and what is used over it."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.requests = client.requests
        self.jetstream = JetStream(self.requests)


@asynccontextmanager
async def open_link(settings: Settings, observe: Callable[[str, str], None]) -> AsyncIterator[Link]:
    """Connect, or raise ConnectError within `settings.connect_timeout_s` seconds; close at the end."""
    client = await open_client(settings, observe)
    try:
        yield Link(client)
    finally:
        await close_client(client)


async def open_client(settings: Settings, observe: Callable[[str, str], None]) -> Client:
    """A connected client.

    Tries the servers in turn until one answers or the time is up. Refused credentials and TLS failures end
    the attempt at once: no retry would mend them. Raises ConnectError, ConfigError for an address that is
    none of `nats://` and `tls://`.
    """
    for url in settings.servers:
        if "://" in url and not url.startswith(("nats://", "tls://")):
            raise ConfigError(
                f"the server URL begins with {url.partition('://')[0]!r}: use nats:// or tls://"
            )
    loop = asyncio.get_running_loop()
    until = loop.time() + settings.connect_timeout_s
    client = Client(observe)
    client.attempt_s = settings.connect_timeout_s / len(settings.servers)
    failure: Exception | None = None
    try:
        async with asyncio.timeout_at(until):
            while not client.is_connected:
                try:
                    await (client.dial() if client.servers else _prepare(client, settings))
                except (OSError, nats_errors.Error) as error:
                    failure = error
                    if isinstance(error, _FINAL) or not client.servers:
                        break
                    await asyncio.sleep(RETRY_S)
    except TimeoutError as error:
        failure = failure or error
    except BaseException:
        await client.close(0.0)
        raise
    if failure is not None and not client.is_connected:
        await client.close(0.0)
        reason = str(failure).removeprefix("nats: ") or f"no answer within {settings.connect_timeout_s:g} s"
        raise ConnectError(", ".join(settings.servers), reason) from failure
    client.attempt_s = min(ATTEMPT_CAP_S, client.attempt_s)
    return client


async def _prepare(client: Client, settings: Settings) -> None:
    """Let nats-py take over the options and credentials; it makes the first attempt itself."""
    options: dict[str, Any] = settings.client_options()
    await client.connect(
        servers=list(settings.servers),
        error_cb=client._failed,
        allow_reconnect=False,  # nats-py is not to try again: `open_client` and `Session` do
        inbox_prefix=settings.inbox_prefix,
        name=settings.name,
        **options,
    )


async def close_client(client: Client, *, timeout_s: float = 2.0) -> None:
    """Send what is buffered, then close; never longer than `timeout_s` seconds, server or no server."""
    await client.close(timeout_s)
