"""Everything that opening a connection needs, checked when it is made."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from roost._text import clean, quoted
from roost.errors import ConfigError
from roost.settings.address import Server, parse_server
from roost.settings.credentials import Credentials, CredentialsSource
from roost.settings.tls import TLS
from roost.subjects import token

INBOX = "_INBOX"
"""What an inbox begins with: endpoints answer nothing else."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a connection is made. Its `repr` shows no user, password or token. Raises ConfigError, UnsafeToken."""

    servers: tuple[str, ...]
    """URLs, with user and password if they have them; `shown` is for people."""
    namespace: str = "roost"
    name: str = "roost"  # shown by the server's monitoring
    connect_timeout_s: float = 5.0
    inbox_prefix: str = INBOX
    """Of the subjects that answers come to; one of its own (``_INBOX_ann``) keeps others from reading them."""
    credentials: CredentialsSource | None = None
    tls: TLS | None = None
    insecure: bool = False
    """Whether a server beyond loopback may be talked to in clear, or without saying who one is."""
    source: str = "settings"
    """Where the address was found, in words."""
    options: dict[str, Any] = field(default_factory=dict)
    """Anything else, as nats-py takes it."""

    def __post_init__(self) -> None:
        if not self.servers or not all(self.servers):
            raise ConfigError("no server URL: give one to roost.connect() or set NATS_URL")
        parsed = [parse_server(server) for server in self.servers]
        named = any(server.user is not None for server in parsed)
        if named:  # so that whatever reads them again reads the same
            urls = (server.url if server.user is not None else raw for server, raw in _pairs(parsed, self))
            object.__setattr__(self, "servers", tuple(urls))
        if named and self.credentials is not None:
            raise ConfigError(
                f"the server URL has a user in it and credentials are given as well ({self.source}): keep one"
            )
        if self.credentials is not None and not (
            isinstance(self.credentials, Credentials) or callable(self.credentials)
        ):
            raise ConfigError("credentials must be roost.Credentials or a function that returns them")
        token(self.namespace, name="namespace")
        if not self.connect_timeout_s > 0:
            raise ConfigError(
                f"connect_timeout_s is {self.connect_timeout_s!r}; it must be more than 0 seconds"
            )
        _check_inbox(self.inbox_prefix)

    @property
    def shown(self) -> str:
        """The servers without user, password or token, commas between them."""
        return clean(", ".join(parse_server(server).shown for server in self.servers), 1000)

    @property
    def says_who(self) -> bool:
        """Whether the server is told who this is, by credentials or by a certificate."""
        return (
            self.credentials is not None
            or (self.tls is not None and self.tls.cert_file is not None)
            or any(parse_server(server).user is not None for server in self.servers)
            or any(name in self.options for name in ("user", "token", "user_credentials", "nkeys_seed"))
        )

    def client_options(self) -> dict[str, Any]:
        return dict(self.options)

    def __repr__(self) -> str:
        who = self.credentials if isinstance(self.credentials, Credentials | None) else "a function"
        return (
            f"Settings(servers={self.shown!r}, namespace={self.namespace!r}, name={self.name!r}, "
            f"connect_timeout_s={self.connect_timeout_s!r}, inbox_prefix={self.inbox_prefix!r}, "
            f"credentials={who!r}, tls={self.tls!r}, insecure={self.insecure!r}, source={self.source!r}, "
            f"options={sorted(self.options)!r})"
        )


def _pairs(parsed: list[Server], settings: Settings) -> list[tuple[Server, str]]:
    return list(zip(parsed, settings.servers, strict=True))


def _check_inbox(prefix: str) -> None:
    where = f"inbox_prefix is {quoted(prefix)}"
    if not prefix.startswith(INBOX):
        raise ConfigError(f"{where}; it must begin with _INBOX: endpoints answer nothing else")
    if any(
        not word or any(c in "*>" or c.isspace() or not c.isprintable() for c in word)
        for word in prefix.split(".")
    ):
        raise ConfigError(f"{where}; it must be a subject without wildcards, such as _INBOX_ann")
