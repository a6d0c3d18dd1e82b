"""Which server, and who to say one is: the first place that has an address decides.

Places, in this order: the `url` argument; the `context` argument; NATS_URL; NATS_CONTEXT; the context that
``nats context select`` chose; nats://127.0.0.1:4222. A context is taken whole: its credentials go to no other
address, and no variable of the environment changes it. With a URL, credentials are those in it, or those of the
variables NATS_CREDS, NATS_NKEY, NATS_USER with NATS_PASSWORD (NATS_USER alone is a token, as for the `nats`
tool), NATS_TOKEN, ROOST_TOKEN_FILE, NATS_USER with ROOST_PASSWORD_FILE; TLS is what NATS_CA, NATS_CERT, NATS_KEY
and ROOST_TLS_FIRST say. Arguments come before all of that, each for its own part.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

from roost._text import clean, quoted
from roost.errors import ConfigError
from roost.settings.context import load_context, selected_context
from roost.settings.credentials import Credentials, CredentialsSource
from roost.settings.options import INBOX, Settings
from roost.settings.tls import TLS

DEFAULT_URL = "nats://127.0.0.1:4222"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Place:
    url: str
    source: str
    credentials: Credentials | None = None
    tls: TLS | None = None
    inbox_prefix: str | None = None


def resolve(
    url: str | None = None,
    *,
    namespace: str | None = None,
    name: str | None = None,
    context: str | None = None,
    credentials: CredentialsSource | None = None,
    tls: TLS | None = None,
    inbox_prefix: str | None = None,
    insecure: bool | None = None,
    connect_timeout_s: float = 5.0,
) -> Settings:
    """Settings from arguments, environment and contexts (see the top of this module).

    Several URLs are separated by commas. `namespace` comes from ``ROOST_NAMESPACE``, `inbox_prefix` from
    ``ROOST_INBOX_PREFIX``, `insecure` from ``ROOST_INSECURE=1`` if not given. Raises ConfigError, UnsafeToken.
    """
    place = _place(url, context, own_credentials=credentials is not None, own_tls=tls is not None)
    return Settings(
        servers=tuple(part.strip() for part in place.url.split(",") if part.strip()),
        namespace=namespace if namespace is not None else os.environ.get("ROOST_NAMESPACE", "roost"),
        name=name or "roost",
        connect_timeout_s=connect_timeout_s,
        inbox_prefix=inbox_prefix or place.inbox_prefix or _variable("ROOST_INBOX_PREFIX") or INBOX,
        credentials=credentials if credentials is not None else place.credentials,
        tls=tls if tls is not None else place.tls,
        insecure=insecure if insecure is not None else _switch("ROOST_INSECURE"),
        source=place.source,
    )


def _place(url: str | None, context: str | None, *, own_credentials: bool, own_tls: bool) -> _Place:
    if url is not None and context is not None:
        raise ConfigError("give a url or a context, not both: a context has its own address")
    if url is not None:
        return _with_environment(url, "the url given", own_credentials, own_tls)
    if context is not None:
        return _of_context(context, "given")
    if "NATS_URL" in os.environ:
        return _with_environment(os.environ["NATS_URL"], "NATS_URL", own_credentials, own_tls)
    named = _variable("NATS_CONTEXT")
    if named is not None:
        return _of_context(named, "NATS_CONTEXT")
    selected = selected_context()
    if selected is not None:
        return _of_context(selected, "selected")
    return _with_environment(DEFAULT_URL, "the default", own_credentials, own_tls)


def _of_context(name: str, how: str) -> _Place:
    found = load_context(name)
    return _Place(
        url=found.url or DEFAULT_URL,
        source=f"nats context {clean(name)} ({how})",
        credentials=found.credentials,
        tls=found.tls,
        inbox_prefix=found.inbox_prefix,
    )


def _with_environment(url: str, source: str, own_credentials: bool, own_tls: bool) -> _Place:
    """An address with what the environment says about credentials and TLS, as far as nobody else does."""
    in_url = "@" in url
    credentials = None
    if not own_credentials and not (in_url and source != "NATS_URL"):
        credentials = _environment_credentials()
    if in_url and credentials is not None:
        raise ConfigError(
            f"NATS_URL has a user in it, and the environment has credentials as well ({credentials}): keep one"
        )
    return _Place(
        url=url, source=source, credentials=credentials, tls=None if own_tls else _environment_tls()
    )


def _environment_credentials() -> Credentials | None:
    user, password = _variable("NATS_USER"), _variable("NATS_PASSWORD")
    token, password_file = _variable("NATS_TOKEN"), _variable("ROOST_PASSWORD_FILE")
    if user is not None and password is None and password_file is None and token is None:
        user, token = None, user
    given = {
        "user": user,
        "password": password,
        "password_file": password_file,
        "token": token,
        "token_file": _variable("ROOST_TOKEN_FILE"),
        "creds_file": _variable("NATS_CREDS"),
        "nkey_file": _variable("NATS_NKEY"),
    }
    if not any(given.values()):
        return None
    try:
        return Credentials(**given)
    except ConfigError as error:
        raise ConfigError(
            f"{error} (from NATS_USER, NATS_PASSWORD, NATS_TOKEN, NATS_CREDS, NATS_NKEY, ROOST_PASSWORD_FILE and "
            "ROOST_TOKEN_FILE in the environment)"
        ) from error


def _environment_tls() -> TLS | None:
    ca, cert, key = _variable("NATS_CA"), _variable("NATS_CERT"), _variable("NATS_KEY")
    first = _switch("ROOST_TLS_FIRST")
    if not any((ca, cert, key, first)):
        return None
    try:
        return TLS(ca_file=ca, cert_file=cert, key_file=key, handshake_first=first)
    except ConfigError as error:
        raise ConfigError(f"{error} (from NATS_CA, NATS_CERT and NATS_KEY in the environment)") from error


def _variable(name: str) -> str | None:
    """None for one that is empty, as it is when a compose file passes on what is not set."""
    return os.environ.get(name) or None


def _switch(name: str) -> bool:
    text = os.environ.get(name, "").strip().lower()
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("", "0", "false", "no", "off"):
        return False
    raise ConfigError(f"{name} is {quoted(text)}; use 1 or 0")
