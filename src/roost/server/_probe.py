"""Proof that a server just started does its work: it greets, and JetStream answers a request.

A listening port proves neither. The client protocol is lines of text (docs.nats.io, "Client Protocol"), so a
socket is enough and the local server needs no client library.
"""

from __future__ import annotations

import json
import socket

__all__ = ["prove_ready"]

_INBOX = "_INBOX.roost.ready"
_REQUEST = (
    'CONNECT {"verbose":false,"pedantic":false,"lang":"python","version":"0","protocol":1}\r\n'
    f"SUB {_INBOX} 1\r\nPUB $JS.API.INFO {_INBOX} 0\r\n\r\n"
).encode()


def prove_ready(host: str, port: int, *, timeout_s: float) -> None:
    """Returns once JetStream has answered; where a password or TLS is wanted, once the greeting names JetStream.

    Raises OSError (ConnectionError, TimeoutError) when anything else is answered, or nothing within `timeout_s`.
    """
    with (
        socket.create_connection((host, port), timeout=timeout_s) as connection,
        connection.makefile("rb") as received,
    ):
        greeting = received.readline()
        if not greeting.startswith(b"INFO "):
            raise ConnectionError(f"its greeting was {greeting[:80]!r}")
        info = json.loads(greeting[5:])
        if not info.get("jetstream"):
            raise ConnectionError("its greeting does not offer JetStream")
        if info.get("auth_required") or info.get("tls_required"):
            return
        connection.sendall(_REQUEST)
        for line in received:
            if line.startswith(b"MSG "):
                return
            if line.startswith(b"-ERR"):
                raise ConnectionError(f"it answered a request to JetStream with {line[:80]!r}")
        raise ConnectionResetError("it closed the connection")
