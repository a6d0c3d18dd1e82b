"""Ports for servers that must know each other's before they start.

A single server lets the system choose. The servers of a cluster name each other in their configuration, so their
ports are chosen here, outside the range from which systems give ports to connections and to whoever asks for any
(32768 and up on Linux, 49152 on macOS). There nobody takes one by chance while its server is down; and a client
that dials a port of that range while nobody listens can be connected to itself (TCP simultaneous open).
"""

from __future__ import annotations

import random
import socket

from roost.errors import ServerUnavailable

__all__ = ["choose_ports"]

_FROM, _TO = 20_000, 32_000
_TRIES = 1000


def choose_ports(count: int, *, host: str) -> list[int]:
    """`count` different ports on which nobody listens now. Raises ServerUnavailable if they are not to be found."""
    chosen: list[int] = []
    chance = random.SystemRandom()
    for _ in range(_TRIES):
        if len(chosen) == count:
            return chosen
        port = chance.randrange(_FROM, _TO)
        if port not in chosen and _free(host, port):
            chosen.append(port)
    raise ServerUnavailable(f"no {count} free ports were found between {_FROM} and {_TO} on {host}.")


def _free(host: str, port: int) -> bool:
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as the server does
        try:
            probe.bind((host, port))
        except OSError:
            return False
    return True
