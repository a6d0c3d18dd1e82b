"""Mends `flush` of nats-py 2.16 in this kernel, so that it does what it says.

There its PING goes straight to the socket, past what still waits in the client's buffer: `flush` may return before
the server has seen a SUB, UNSUB or PUB from just before. Another client's request was then told that nobody listens
(5 of 60 times), and `drain`, which relies on it, can lose messages of a queue group.
"""

from __future__ import annotations

import asyncio

from nats.aio.client import Client

_send_ping = Client._send_ping


async def _send_ping_in_order(client: Client, future: asyncio.Future[bool] | None = None) -> None:
    await client._flush_pending(force_flush=True)
    await _send_ping(client, future)


def mend() -> None:
    """For all clients of this process; called again it changes nothing."""
    Client._send_ping = _send_ping_in_order  # type: ignore[assignment,method-assign]
