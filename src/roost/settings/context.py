"""Contexts of the `nats` command line: an address and credentials under a name, in a file.

They are where the `nats` tool keeps them: ``$XDG_CONFIG_HOME/nats/context/<name>.json``, the selected one's name in
``context.txt`` (default folder: ``~/.config``). A field that is set and not understood is an error: passing it over
would connect to another place, or as somebody else, than the file says.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from roost._text import clean, quoted
from roost.errors import ConfigError
from roost.settings.credentials import Credentials
from roost.settings.files import check_mode, reason
from roost.settings.tls import TLS

_TEXTS = {"url", "token", "user", "password", "creds", "nkey", "cert", "key", "ca", "inbox_prefix"}
_IGNORED = {"name", "description", "color_scheme"}
_REFERENCE = re.compile(r"(op|nsc|env|data|file):", re.IGNORECASE)
"""What newer `nats` tools resolve through password managers, the environment and so on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NatsContext:
    """A context as read from its file."""

    name: str
    file: Path
    url: str | None = None
    credentials: Credentials | None = None
    tls: TLS | None = None
    inbox_prefix: str | None = None


def selected_context() -> str | None:
    """The name that ``nats context select`` has written down; None if there is none. Raises ConfigError."""
    file = _folder() / "context.txt"
    try:
        name = file.read_text().strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"{quoted(str(file), 300)} cannot be read: {reason(error)}") from error
    return name or None


def load_context(name: str) -> NatsContext:
    """Raises ConfigError, which names the file, and the field if it is about one."""
    if not name or ".." in name or "/" in name or os.sep in name or not name.isprintable():
        raise ConfigError(f"{quoted(name)} is no name of a nats context")
    file = _folder() / "context" / f"{name}.json"
    where = f"nats context {quoted(name)[1:-1]} ({clean(str(file), 300)})"
    fields, found = _read(file, where)
    _refuse_unsupported(fields, where)
    texts = {key: fields[key] for key in _TEXTS if fields.get(key)}
    if "password" in texts or "token" in texts or "@" in texts.get("url", ""):
        check_mode(found, what="the file of a nats context with a password,", shown=quoted(str(file), 300))
    try:
        return NatsContext(
            name=name,
            file=file,
            url=texts.get("url"),
            credentials=_credentials(texts),
            tls=_tls(texts, first=bool(fields.get("tls_first"))),
            inbox_prefix=texts.get("inbox_prefix"),
        )
    except ConfigError as error:
        raise ConfigError(f"{where}: {error}") from error


def _read(file: Path, where: str) -> tuple[dict[str, Any], os.stat_result]:
    try:
        with file.open("rb") as opened:
            found, data = os.fstat(opened.fileno()), opened.read(1024 * 1024)
    except FileNotFoundError:
        raise ConfigError(f"{where} does not exist. `nats context ls` lists those that do") from None
    except OSError as error:
        raise ConfigError(f"{where} cannot be read: {reason(error)}") from error
    try:
        fields = json.loads(data)
    except (ValueError, RecursionError):
        raise ConfigError(
            f"{where} is not JSON"
        ) from None  # its cause would hold the text, and so a password
    if not isinstance(fields, dict):
        raise ConfigError(f"{where} is no JSON object")
    return fields, found


def _refuse_unsupported(fields: dict[str, Any], where: str) -> None:
    for key, value in fields.items():
        if key in _IGNORED or value in ("", None, False, [], {}, 0):
            continue
        if key in _TEXTS:
            if not isinstance(value, str):
                raise ConfigError(f"{where}: the field {key!r} must be a text")
            if key not in ("url", "inbox_prefix") and _REFERENCE.match(value):
                raise ConfigError(
                    f"{where}: the field {key!r} refers to a secret elsewhere ({value.partition(':')[0]}:), "
                    "which is not supported; write down the value or, for creds and nkey, the path of the file"
                )
        elif key != "tls_first":
            raise ConfigError(
                f"{where}: the field {quoted(key)[1:-1]!r} is set and not supported. Unset it, or do without the "
                "context: give the url and roost.Credentials, or set NATS_URL"
            )
        elif value is not True:
            raise ConfigError(f"{where}: the field 'tls_first' must be true or false")


def _credentials(texts: dict[str, str]) -> Credentials | None:
    given: dict[str, str] = {key: texts[key] for key in ("user", "password", "token") if key in texts}
    given |= {f"{key}_file": _expanded(texts[key]) for key in ("creds", "nkey") if key in texts}
    return Credentials(**given) if given else None


def _tls(texts: dict[str, str], *, first: bool) -> TLS | None:
    given = {f"{key}_file": _expanded(texts[key]) for key in ("ca", "cert", "key") if key in texts}
    return TLS(**given, handshake_first=first) if given or first else None


def _expanded(path: str) -> str:
    return os.path.expandvars(os.path.expanduser(path))


def _folder() -> Path:
    base = os.environ.get("XDG_CONFIG_HOME")
    try:
        return (Path(base) if base else Path.home() / ".config") / "nats"
    except RuntimeError as error:
        raise ConfigError("there is no home directory to look for nats contexts in: set NATS_URL") from error
