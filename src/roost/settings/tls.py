"""Encrypted connections: which certificates are trusted and which one is shown.

The files are read again for each connection, because certificates are renewed while programs run. The host name is
always checked, and nothing below TLS 1.2 is spoken.
"""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path

from roost._text import clean, quoted
from roost.errors import ConfigError
from roost.settings.credentials import StrPath
from roost.settings.files import check_mode, reason

_KEY = b"PRIVATE KEY-----"
"""Of the line before a private key of any kind in PEM (RFC 7468)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TLS:
    """Says that the connection is encrypted, and how. ``TLS()`` trusts what this system trusts.

    Raises ConfigError.
    """

    ca_file: StrPath | None = None
    """PEM: the authorities that are trusted, and no others."""
    cert_file: StrPath | None = None
    """PEM: the certificate to show to the server (mutual TLS)."""
    key_file: StrPath | None = None
    """PEM: its private key, not encrypted, mode 0600; without it the key stands in `cert_file`."""
    handshake_first: bool = False
    """Encrypt before the first word; the server must be set up for that (`handshake_first`)."""

    def __post_init__(self) -> None:
        if self.key_file is not None and self.cert_file is None:
            raise ConfigError(
                "TLS with key_file lacks cert_file: the server is shown a certificate, not a key"
            )
        for name in ("ca_file", "cert_file", "key_file"):
            value = getattr(self, name)
            if value is not None and not os.fspath(value):
                raise ConfigError(f"{name} of TLS is empty")

    def context(self) -> ssl.SSLContext:
        """What Python's ssl needs, made of the files as they are now. Raises ConfigError."""
        context = _trusting(self.ca_file)
        if self.cert_file is not None:
            self._show_certificate(context, self.cert_file)
        return context

    def _show_certificate(self, context: ssl.SSLContext, cert_file: StrPath) -> None:
        key_file = self.key_file if self.key_file is not None else cert_file
        which = "key_file" if self.key_file is not None else "cert_file"
        shown = f"{which} {quoted(os.fspath(key_file), 300)}"
        try:
            if self.key_file is None and _KEY not in Path(cert_file).expanduser().read_bytes():
                raise ConfigError(
                    f"{shown} has no private key in it: give its key as well, with key_file of roost.TLS or NATS_KEY"
                )
            check_mode(Path(key_file).expanduser().stat(), what=which, shown=quoted(os.fspath(key_file), 300))
            context.load_cert_chain(_path(cert_file), _path(key_file), password=_no_password)
        except _Encrypted:
            raise ConfigError(f"the private key in {shown} is encrypted; give one that is not") from None
        except ssl.SSLError as error:
            raise ConfigError(
                f"cert_file {quoted(os.fspath(cert_file), 300)} and the key in {shown} cannot be used: "
                f"{_words(error)}"
            ) from error
        except OSError as error:
            raise ConfigError(
                f"cert_file {quoted(os.fspath(cert_file), 300)} or the key in {shown} cannot be read: {reason(error)}"
            ) from error


def default_context() -> ssl.SSLContext:
    """Trusts what this system trusts."""
    return _trusting(None)


def _trusting(ca_file: StrPath | None) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=_path(ca_file) if ca_file is not None else None)
    except ssl.SSLError as error:
        shown = quoted(os.fspath(ca_file or ""), 300)
        raise ConfigError(f"ca_file {shown} has no certificate in it: {_words(error)}") from error
    except OSError as error:
        shown = quoted(os.fspath(ca_file or ""), 300)
        raise ConfigError(f"ca_file {shown} cannot be read: {reason(error)}") from error
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = True
    return context


class _Encrypted(Exception):
    """The key wants a password; without this, OpenSSL would ask for it on the terminal and wait."""


def _no_password() -> str:
    raise _Encrypted


def _path(path: StrPath) -> str:
    return str(Path(path).expanduser())


def _words(error: ssl.SSLError) -> str:
    return clean(error.reason or str(error))
