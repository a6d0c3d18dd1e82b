"""Server URLs, read by us: an error about a URL must not print the password in it.

urllib takes what follows a `#`, `/` or `?` in a password for another part of the URL, and says "port could not be
cast to integer value as 'pass…'". Here a user and password reach to the last `@`, whatever they are made of, and
no error repeats any of the text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from urllib.parse import quote, unquote

from roost.errors import ConfigError

SCHEMES = ("nats", "tls")
DEFAULT_PORT = 4222
_KNOWN_ELSEWHERE = ("ws", "wss", "http", "https")


@dataclass(frozen=True, slots=True, kw_only=True)
class Server:
    """One address. `user` alone, without a password, is a token (nats-server's own reading of such a URL)."""

    scheme: str
    host: str
    port: int
    user: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    @property
    def place(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def shown(self) -> str:
        """Without user, password or token."""
        return f"{self.scheme}://{'***@' if self.user is not None else ''}{self.place}"

    @property
    def url(self) -> str:
        """With them, every odd character as %XX."""
        if self.user is None:
            return f"{self.scheme}://{self.place}"
        password = f":{quote(self.password, safe='')}" if self.password is not None else ""
        return f"{self.scheme}://{quote(self.user, safe='')}{password}@{self.place}"


def parse_server(text: str) -> Server:
    """Raises ConfigError without repeating `text`."""
    scheme, found, rest = text.partition("://")
    if not found:
        scheme, rest = "nats", text
    if scheme not in SCHEMES:
        named = f" with {scheme}://" if scheme in _KNOWN_ELSEWHERE else " with an unknown scheme"
        raise ConfigError(f"a server URL begins{named}: use nats:// or tls://")
    userinfo, at, place = rest.rpartition("@")
    place = place.removesuffix("/")
    if any(character.isspace() or not character.isprintable() for character in text):
        raise _unreadable("it has white space or an unprintable character in it")
    if place.startswith("["):
        host, bracket, port = place[1:].partition("]")
        if not bracket or (port and not port.startswith(":")):
            raise _unreadable("its IPv6 address is not [closed]")
        port = port[1:]
    else:
        host, _, port = place.partition(":")
    if not host or any(character in host for character in "/?#\\%"):
        raise _unreadable("it has no host name that can be used")
    if port and not (port.isascii() and port.isdigit() and 0 < int(port[:6]) < 65536):
        raise _unreadable("its port is no number from 1 to 65535")
    user, colon, password = userinfo.partition(":")
    return Server(
        scheme=scheme,
        host=host,
        port=int(port) if port else DEFAULT_PORT,
        user=unquote(user) if at else None,
        password=unquote(password) if colon else None,
    )


def _unreadable(why: str) -> ConfigError:
    return ConfigError(
        f"a server URL cannot be read: {why}. Write nats://host:4222 or tls://host:4222, several with commas "
        "between them, and odd characters in a password as %XX (a comma is %2C). It is not repeated here, for it "
        "may hold a password"
    )
