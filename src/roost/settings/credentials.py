"""Who the client says it is. A secret never shows in a `repr`; one from a file is read again for each connection.

Secrets that are rotated are replaced in their files while programs run: what was read once at the start would be
refused at the next reconnect, for ever.
"""

from __future__ import annotations

import base64
import binascii
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeAlias

from roost._text import quoted
from roost.errors import ConfigError
from roost.settings.files import read_secret

StrPath: TypeAlias = str | os.PathLike[str]

_SECTION = r"-{3,}\s*BEGIN %s\s*-{3,}\s*(?P<text>[A-Za-z0-9_\-.=]+)\s*-{3,}\s*END %s\s*-{3,}"
_JWT = re.compile(_SECTION % ("NATS USER JWT", "NATS USER JWT"))
_SEED = re.compile(_SECTION % ("USER NKEY SEED", "USER NKEY SEED"))
_SEED_LINE = re.compile(r"^\s*(?P<text>SU[A-Z2-7]{56})\s*$", re.MULTILINE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """Credentials as read just now."""

    user: str | None = None
    password: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)
    seed: str | None = field(default=None, repr=False)
    jwt: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Credentials:
    """One way to log in: user and password, a token, an nkey, or a `.creds` file (user JWT and nkey).

    Each secret is given itself or as a file, which is read again for each connection and must have mode 0600
    (or stricter, or group-readable). Nkeys and creds need the package nkeys: ``pip install 'roost[nkeys]'``.
    Raises ConfigError.
    """

    user: str | None = None
    password: str | None = field(default=None, repr=False)
    password_file: StrPath | None = None
    token: str | None = field(default=None, repr=False)
    token_file: StrPath | None = None
    nkey: str | None = field(default=None, repr=False)
    """The seed of a user: ``SU…``."""
    nkey_file: StrPath | None = None
    creds: str | None = field(default=None, repr=False)
    """The text of a ``.creds`` file."""
    creds_file: StrPath | None = None

    def __post_init__(self) -> None:
        given = [name for name in self.__slots__ if getattr(self, name) is not None]
        for name in given:
            value = getattr(self, name)
            if not isinstance(value, str | os.PathLike) or not os.fspath(value):
                raise ConfigError(f"{name} of the credentials is empty or no text")
        kinds = {"password" if name == "user" else name.removesuffix("_file") for name in given}
        if len(kinds) != 1 or len([name for name in given if name != "user"]) > 1:
            raise ConfigError(
                f"credentials are one of user with password, token, nkey and creds, each itself or as a file; "
                f"given: {', '.join(given) or 'nothing'}"
            )
        if kinds == {"password"} and (self.user is None or len(given) < 2):
            lacking = "user" if self.user is None else "password or password_file"
            raise ConfigError(f"credentials with {given[0]} lack {lacking}")

    @property
    def signs(self) -> bool:
        """Whether they answer the server's challenge with a signature."""
        return any((self.nkey, self.nkey_file, self.creds, self.creds_file))

    def __str__(self) -> str:
        """What they are, and from which file; no secret."""
        for kind in ("password", "token", "nkey", "creds"):
            file = getattr(self, f"{kind}_file")
            if file is not None or getattr(self, kind) is not None:
                whose = f"user {quoted(self.user)[1:-1]}, " if self.user is not None else ""
                return f"{whose}{kind}" + (f" from {quoted(os.fspath(file), 300)[1:-1]}" if file else "")
        return "nothing"

    def read(self) -> Secret:
        """The secrets as they are now. Raises ConfigError, without any of a file's contents in it."""
        if self.user is not None:
            return Secret(user=self.user, password=self._text("password"))
        if self.token is not None or self.token_file is not None:
            return Secret(token=self._text("token"))
        if self.nkey is not None or self.nkey_file is not None:
            return Secret(seed=self._seed(self._text("nkey"), "nkey"))
        text = self._text("creds")
        jwt = _JWT.search(text)
        if jwt is None:
            raise ConfigError(f"{self} has no user JWT in it (-----BEGIN NATS USER JWT-----)")
        return Secret(jwt=jwt["text"], seed=self._seed(text, "creds"))

    def _text(self, kind: str) -> str:
        file: StrPath | None = getattr(self, f"{kind}_file")
        if file is not None:
            return read_secret(file, what=f"{kind}_file")
        text: str = getattr(self, kind)
        return text

    def _seed(self, text: str, kind: str) -> str:
        found = _SEED.search(text) or _SEED_LINE.search(text)
        if found is None:
            raise ConfigError(f"{self} has no seed of a user in it (58 characters that begin with SU)")
        if not _is_seed(found["text"]):
            raise ConfigError(f"the seed in {self} has been cut or mistyped: its check sum is wrong")
        return found["text"]


def _is_seed(text: str) -> bool:
    """Whether the CRC-16 at the end fits (nats-io/nkeys: base32 of two bytes of kind, the key, and that)."""
    try:
        raw = base64.b32decode(text + "=" * (-len(text) % 8))
    except ValueError:
        return False
    return len(raw) == 36 and binascii.crc_hqx(raw[:-2], 0) == int.from_bytes(raw[-2:], "little")


CredentialsSource: TypeAlias = Credentials | Callable[[], Credentials]
"""Credentials, or a function that is called for fresh ones before each connection. It must not block."""


def current(source: CredentialsSource) -> Credentials:
    """The credentials that a source has now. Raises ConfigError for a function that gives something else."""
    found = source if isinstance(source, Credentials) else source()
    if not isinstance(found, Credentials):
        raise ConfigError(f"the credentials function gave {type(found).__name__}, not roost.Credentials")
    return found
