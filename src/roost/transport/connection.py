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

from roost._text import clean
from roost.errors import ConnectError
from roost.settings import Settings
from roost.transport.client import Client
from roost.transport.failures import AuthRefused, NotEncrypted, ServerClosed, ServerSilent
from roost.transport.jetstream import JetStream
from roost.transport.login import Login
from roost.transport.session import ATTEMPT_CAP_S

log = logging.getLogger("roost.transport")

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

    @property
    def server(self) -> str:
        """Name and version of the server, safe to print; empty parts while it is not known."""
        info = self.client._server_info
        return clean(f"{info.get('server_name', '')} (nats-server {info.get('version', '')})")


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
    the attempt at once: no retry would mend them. Raises ConnectError, ConfigError for files of credentials
    that cannot be used.
    """
    login = Login(settings)
    login.check()
    loop = asyncio.get_running_loop()
    until = loop.time() + settings.connect_timeout_s
    client = Client(observe)
    client.login = login
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
        # The reason says it; forty lines of frames of asyncio and sockets before it are for who debugs.
        cause = failure if log.isEnabledFor(logging.DEBUG) else None
        raise ConnectError(settings.shown, _reason(failure, settings, login)) from cause
    client.attempt_s = min(ATTEMPT_CAP_S, client.attempt_s)
    return client


def _reason(failure: Exception, settings: Settings, login: Login) -> str:
    """What went wrong, and what is known about why."""
    text = str(failure).removeprefix("nats: ")
    if not text and isinstance(failure, TimeoutError):
        text = f"no answer within {settings.connect_timeout_s:g} s"
    text = text or f"the connection ended ({type(failure).__name__})"
    if isinstance(failure, AuthRefused):
        return text + login.why_refused()
    if isinstance(failure, ssl.SSLCertVerificationError):
        ca_file = settings.tls.ca_file if settings.tls is not None else None
        trusted = f"ca_file {ca_file}" if ca_file is not None else "this system's certificates"
        return f"{text} (trusted are {trusted}; see roost.TLS, NATS_CA)"
    if isinstance(failure, ssl.SSLError) and "WRONG_VERSION_NUMBER" in text:
        return f"{text} (the server does not begin with TLS: do without handshake_first, or set it there too)"
    if isinstance(failure, ssl.SSLError) and "CERTIFICATE_REQUIRED" in text.upper().replace(" ", "_"):
        return (
            f"{text} (the server wants a certificate: give cert_file and key_file of roost.TLS, or NATS_CERT)"
        )
    if not _secured(settings):
        return text
    if isinstance(failure, TimeoutError | ServerSilent) and not login.tls_first:
        return (
            f"{text} (a server with handshake_first needs that set here too: roost.TLS(handshake_first=True), or "
            "ROOST_TLS_FIRST=1)"
        )
    closed = isinstance(failure, ServerClosed | ConnectionResetError | BrokenPipeError)
    if closed and not _has_certificate(settings):
        wanted = "cert_file and key_file of roost.TLS, or NATS_CERT and NATS_KEY"
        return f"{text} (perhaps it wants a certificate: {wanted})"
    return text


def _secured(settings: Settings) -> bool:
    return settings.tls is not None or any(url.startswith("tls://") for url in settings.servers)


def _has_certificate(settings: Settings) -> bool:
    return settings.tls is not None and settings.tls.cert_file is not None


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
