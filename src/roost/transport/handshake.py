"""The first words of a connection: INFO, TLS where it is wanted, CONNECT, PING, PONG.

nats-py takes any line for the PONG and goes on with a dead connection, raises ValueError on an INFO of more
than 32 KB, and sends the password in clear to whoever leaves `tls_required` out of INFO.
"""

from __future__ import annotations

import json
import ssl
from collections.abc import Callable
from typing import Any

from roost.transport.failures import Malformed, NotEncrypted, Refused, ServerClosed, ServerSilent, refusal
from roost.transport.wire import Wire


async def greet(
    wire: Wire,
    *,
    hostname: str,
    context: Callable[[], ssl.SSLContext],
    tls_wanted: bool,
    tls_first: bool,
    exposed: bool,
    connect: Callable[[dict[str, Any]], bytes],
) -> dict[str, Any]:
    """Carry out the handshake on a fresh connection; returns the server's INFO.

    `connect` makes the CONNECT line from that INFO. With `tls_wanted`, or `exposed` (the server is not on this
    machine and nobody has said that this does not matter), it is not called, and so no credentials are sent,
    unless the connection is encrypted.

    Raises AuthRefused, NotEncrypted, Refused, Malformed, ServerClosed, OSError (ssl.SSLError is one).
    """
    if tls_first:
        await wire.upgrade(context(), hostname)
    try:
        first = await wire.line()
    except ServerClosed as error:
        if tls_first:
            raise
        raise ServerSilent from error
    info = parse_info(_argument(first, b"INFO"))
    wanted = tls_wanted or exposed
    if not wire.is_encrypted and (info.get("tls_required") or (wanted and info.get("tls_available"))):
        await wire.upgrade(context(), hostname)
    if wanted and not wire.is_encrypted:
        raise NotEncrypted(exposed=not tls_wanted)
    if not info.get("headers"):
        raise Refused(
            "the server has headers switched off (no_header_support), without which Roost cannot work"
        )
    wire.write(connect(info) + b"PING\r\n")
    while (line := await wire.line()) != b"PONG":
        if line.startswith(b"INFO "):
            info |= parse_info(line[5:])
        elif line == b"PING":
            wire.write(b"PONG\r\n")
        elif line != b"+OK":
            _argument(line, b"PONG")
    return info


def parse_info(text: bytes) -> dict[str, Any]:
    """The JSON object in an INFO line. Raises Malformed."""
    try:
        info = json.loads(text.decode("utf-8", "replace"))
    except (ValueError, RecursionError) as error:
        raise Malformed("INFO without JSON") from error
    if not isinstance(info, dict):
        raise Malformed("INFO without an object")
    return info


def _argument(line: bytes, wanted: bytes) -> bytes:
    word, _, argument = line.partition(b" ")
    if word == b"-ERR":
        raise refusal(argument.decode("utf-8", "replace"))
    if word != wanted or not argument:
        raise Malformed(f"{wanted.decode()} was expected, not {line[:40]!r}")
    return argument
