"""Connecting: what a program begins with."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from roost.bus import Bus
from roost.observe import Event, Journal, open_recorded
from roost.settings import TLS, Credentials, resolve


@asynccontextmanager
async def connect(
    url: str | None = None,
    *,
    namespace: str | None = None,
    name: str | None = None,
    context: str | None = None,
    credentials: Credentials | Callable[[], Credentials] | None = None,
    tls: TLS | None = None,
    inbox_prefix: str | None = None,
    insecure: bool | None = None,
    connect_timeout_s: float = 5.0,
    watch: Callable[[Event], None] | None = None,
) -> AsyncIterator[Bus]:
    """Connect to a NATS server: ``async with roost.connect() as bus``.

    `url` may name several servers, separated by commas. Without it the first of these decides: `context` (a context
    of the `nats` tool), ``NATS_URL``, ``NATS_CONTEXT``, the context that is selected, nats://127.0.0.1:4222.
    `credentials` and `tls` default to what comes with that place (see `roost.settings.resolve`); they are read again
    for each connection, so replace a file and the next reconnect uses it.

    A server that is not on this machine must offer TLS and be given credentials or a certificate, unless `insecure`
    (``ROOST_INSECURE=1``) says that neither matters. `inbox_prefix` (``ROOST_INBOX_PREFIX``), such as ``_INBOX_ann``,
    keeps others from reading the answers. `namespace` (``ROOST_NAMESPACE``, then "roost") keeps the tasks and
    endpoints of several systems on one server apart. `watch` is `Bus.watch` from before the first connection on.

    Raises ConnectError within `connect_timeout_s` seconds, ConfigError.
    """
    settings = resolve(
        url,
        namespace=namespace,
        name=name,
        context=context,
        credentials=credentials,
        tls=tls,
        inbox_prefix=inbox_prefix,
        insecure=insecure,
        connect_timeout_s=connect_timeout_s,
    )
    journal = Journal()
    if watch is not None:
        journal.watch(watch)
    async with open_recorded(settings, journal) as link:
        bus = Bus(link, settings, journal)
        try:
            yield bus
        finally:
            await bus.close()
