"""What may be chosen about a local server, checked before anything is started.

A server without users and passwords must never be reachable from outside: an address that is not loopback
is refused here, whatever else is asked for.
"""

from __future__ import annotations

import ipaddress
import math
from dataclasses import dataclass
from pathlib import Path

from roost._text import quoted
from roost.errors import ConfigError

__all__ = ["ServerOptions"]

_MAX_PAYLOAD_LIMIT = 64 * 1024 * 1024  # the server refuses more (nats-server, MAX_PAYLOAD_MAX_SIZE)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Options of one local server. Raises ConfigError when one of them cannot be."""

    store_dir: Path | None = None
    """Where streams are kept, also after the end. None: a directory of its own that is removed at the end."""

    host: str = "127.0.0.1"
    """The address to listen on: an IP address of this machine's loopback, or `localhost`."""

    port: int = 0
    """The port to listen on; 0 lets the system choose a free one."""

    max_payload: int = 1024 * 1024
    """The largest message in bytes, headers included (the server's own default)."""

    sync_always: bool = False
    """True: every write reaches the disk before it is acknowledged, so that a power cut loses nothing. Costs
    a factor of about 8 in throughput; without it a killed *process* loses nothing either."""

    extra_config: str = ""
    """Further lines of server configuration. They win over the lines Roost writes, except for address, port,
    store and log, which are given on the command line."""

    start_timeout_s: float = 10.0
    """Seconds until the server must be ready. It reads its whole store before: about 3 s for 2 million records."""

    stop_grace_s: float = 5.0
    """Seconds between the request to stop and SIGKILL."""

    def __post_init__(self) -> None:
        if not _is_loopback(self.host):
            raise ConfigError(
                f"host = {quoted(self.host)}: a local server has no passwords and listens on loopback only. Use "
                "127.0.0.1, ::1 or localhost, or run a nats-server of your own and set NATS_URL."
            )
        if isinstance(self.port, bool) or not isinstance(self.port, int) or not 0 <= self.port <= 65535:
            raise ConfigError(f"port = {quoted(self.port)}: allowed are 0 (any free port) to 65535.")
        if not isinstance(self.max_payload, int) or not 1024 <= self.max_payload <= _MAX_PAYLOAD_LIMIT:
            raise ConfigError(
                f"max_payload = {quoted(self.max_payload)}: allowed are 1024 to {_MAX_PAYLOAD_LIMIT} bytes."
            )
        for name, value in (("start_timeout_s", self.start_timeout_s), ("stop_grace_s", self.stop_grace_s)):
            if not isinstance(value, int | float) or not math.isfinite(value) or value <= 0:
                raise ConfigError(f"{name} = {quoted(value)}: a number of seconds above 0 is needed.")
        if self.store_dir is not None and not isinstance(self.store_dir, Path):
            raise ConfigError(f"store_dir = {quoted(self.store_dir)}: a pathlib.Path, or None, is needed.")


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
