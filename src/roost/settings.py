"""How to reach the server: arguments first, then the environment, then the local default."""

from __future__ import annotations

import os
from dataclasses import dataclass, field
from typing import Any

from roost._text import quoted, redact
from roost.errors import ConfigError
from roost.subjects import token

DEFAULT_URL = "nats://127.0.0.1:4222"


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """Everything that opening a connection needs."""

    servers: tuple[str, ...]
    namespace: str = "roost"
    name: str = "roost"  # shown by the server's monitoring
    connect_timeout_s: float = 5.0
    inbox_prefix: str = "_INBOX"
    options: dict[str, Any] = field(
        default_factory=dict, repr=False
    )  # credentials and TLS, as nats-py takes them

    def __post_init__(self) -> None:
        if not self.servers or not all(self.servers):
            raise ConfigError("no server URL: give one to roost.connect() or set NATS_URL")
        for server in self.servers:
            if any(character.isspace() for character in server):
                raise ConfigError(
                    f"{quoted(redact(server), 200)} is no server URL: it has white space in it (NATS_URL?)"
                )
        token(self.namespace, name="namespace")
        if not self.connect_timeout_s > 0:
            raise ConfigError(
                f"connect_timeout_s is {self.connect_timeout_s!r}; it must be more than 0 seconds"
            )
        if not self.inbox_prefix.startswith("_INBOX"):
            raise ConfigError(
                f"inbox_prefix is {self.inbox_prefix!r}; it must begin with _INBOX: endpoints answer nothing else"
            )

    def client_options(self) -> dict[str, Any]:
        return dict(self.options)


def resolve(url: str | None = None, *, namespace: str | None = None, name: str | None = None) -> Settings:
    """Settings from arguments, then ``NATS_URL`` (several URLs are separated by commas) and ``ROOST_NAMESPACE``."""
    text = url if url is not None else os.environ.get("NATS_URL", DEFAULT_URL)
    servers = tuple(part.strip() for part in text.split(",") if part.strip())
    return Settings(
        servers=servers,
        namespace=namespace if namespace is not None else os.environ.get("ROOST_NAMESPACE", "roost"),
        name=name or "roost",
    )
