"""Logging in: what CONNECT says about who we are, made afresh for each connection.

nats-py reads a password once, and ends for good when a login has expired; it takes `%40` in a URL's password for
three characters. Here the files are read whenever the client connects, so that a secret which is replaced while
the program runs is in use at the next attempt, and a refusal says when the login has expired.
"""

from __future__ import annotations

import base64
import json
import ssl
import time
from typing import Any
from urllib.parse import unquote

from roost._text import clean
from roost.errors import ConfigError
from roost.settings import TLS, Secret, Settings
from roost.settings.credentials import current
from roost.settings.tls import default_context

LAST_PART = 0.1
"""A login is about to expire in the last tenth of its life: of 90 days the last 9, of an hour the last 6 minutes."""
LAST_S = 3600.0
"""The same for one that does not say when it was issued."""

_FIELDS = ("user", "pass", "auth_token", "jwt", "nkey", "sig")


class Login:
    """What `Settings` say about it; without them, nothing. Everything here may raise ConfigError."""

    def __init__(self, settings: Settings | None = None) -> None:
        self._source = settings.credentials if settings is not None else None
        self._in_url = settings is None or not {"user", "token"} & settings.options.keys()
        self.tls: TLS | None = settings.tls if settings is not None else None
        self.insecure = settings.insecure if settings is not None else False
        self.says_who = settings.says_who if settings is not None else False
        self._expires_s: float | None = None
        self._soon_s = 0.0
        self._told_s: float | None = None
        self._named = ""
        self._unsigned = False

    @property
    def tls_first(self) -> bool:
        return self.tls is not None and self.tls.handshake_first

    @property
    def expires_s(self) -> float | None:
        """When the user JWT that was used last expires, in seconds since 1970; None if it does not."""
        return self._expires_s

    def described(self, in_url: bool) -> str:
        """Who it said it is at the connection that is there now, without the secret."""
        if self._source is not None:
            expires = f", expires {_moment(self._expires_s)}" if self._expires_s is not None else ""
            return f"{self._named}{expires}" + (" (not asked for)" if self._unsigned else "")
        if in_url:
            return "user or token of the URL"
        if self.tls is not None and self.tls.cert_file is not None:
            return f"certificate from {clean(str(self.tls.cert_file), 300)}"
        return "no login"

    def check(self) -> None:
        """Read everything once, so that what is wrong is said before anything is opened."""
        if self._source is not None and current(self._source).signs:
            _nkeys()
        if self._source is not None:
            self._read()
        if self.tls is not None:
            self.tls.context()

    def ssl_context(self) -> ssl.SSLContext:
        return self.tls.context() if self.tls is not None else default_context()

    def completed(self, line: bytes, info: dict[str, Any]) -> bytes:
        """A CONNECT line with the credentials of now. `info` is the server's, whose `nonce` is to be signed."""
        said: dict[str, Any] = json.loads(line.removeprefix(b"CONNECT "))
        if self._source is not None:
            for name in _FIELDS:
                said.pop(name, None)
            said |= self._fields(self._read(), info.get("nonce"))
        elif self._in_url:
            said |= {name: unquote(said[name]) for name in ("user", "pass", "auth_token") if name in said}
        return b"CONNECT " + json.dumps(said, sort_keys=True).encode() + b"\r\n"

    def why_refused(self) -> str:
        """What is known about the reason of a refusal: a clause that begins with `;`, or nothing."""
        if not self.says_who:
            return "; no credentials were given (roost.Credentials, NATS_CREDS, a nats context)"
        if self._source is None:
            return ""
        again = "; it is read again at each attempt" if "from " in self._named else ""
        if self._expires_s is not None and self._expires_s <= time.time() + 1:
            when = _moment(self._expires_s)
            return f"; {self._named} expired at {when}: put a new one in its place{again}"
        if self._unsigned:
            return f"; {self._named} was not sent, for the server takes no nkeys and no creds"
        return f"; {self._named} was used{again}"

    def expires_soon(self) -> str:
        """What to say of a login that is about to expire, once for each; nothing if a later one is there already."""
        expires_s, now_s = self._expires_s, time.time()
        if expires_s is None or expires_s == self._told_s or not self._soon_s <= now_s < expires_s:
            return ""
        self._told_s = expires_s
        if self._is_replaced(expires_s):
            return ""
        if "from " in self._named:
            todo = "put a new one in its place, which is used when the client connects again"
        else:
            todo = "connect again with a new one before that"
        return f"{self._named} expires at {_moment(expires_s)}: {todo}"

    def _is_replaced(self, expires_s: float) -> bool:
        assert self._source is not None
        try:
            jwt = current(self._source).read().jwt
        except Exception:  # a file that is gone, or a function that fails: there is none yet
            return False
        later_s = _life_s(jwt)[1] if jwt is not None else None
        return later_s is None or later_s > expires_s

    def _read(self) -> Secret:
        assert self._source is not None
        credentials = current(self._source)
        self._named = clean(str(credentials), 400)
        secret = credentials.read()
        issued_s, self._expires_s = _life_s(secret.jwt) if secret.jwt is not None else (None, None)
        if self._expires_s is not None:
            last_s = LAST_S if issued_s is None else LAST_PART * (self._expires_s - issued_s)
            self._soon_s = self._expires_s - last_s
        return secret

    def _fields(self, secret: Secret, nonce: object) -> dict[str, str]:
        self._unsigned = False
        if secret.token is not None:
            return {"auth_token": secret.token}
        if secret.seed is None:
            return {"user": secret.user or "", "pass": secret.password or ""}
        if not isinstance(
            nonce, str
        ):  # it has nothing to check a signature with: a server without logins, perhaps
            self._unsigned = True
            return {}
        public, signature = _signed(secret.seed, nonce.encode(), self._named)
        who = {"jwt": secret.jwt} if secret.jwt is not None else {"nkey": public}
        return {**who, "sig": signature}


def _signed(seed: str, nonce: bytes, named: str) -> tuple[str, str]:
    """Public key and signature, as CONNECT has them (nats.docs: NKeys, challenge and response)."""
    nkeys = _nkeys()
    try:
        pair = nkeys.from_seed(bytearray(seed.encode()))
        public, signature = pair.public_key.decode(), pair.sign(nonce)
        pair.wipe()
    except Exception:  # of several kinds, and with the seed in some: none of that is passed on
        raise ConfigError(f"the seed in {named} is no nkey of a user") from None
    return public, base64.urlsafe_b64encode(signature).rstrip(b"=").decode()


def _nkeys() -> Any:
    try:
        import nkeys
    except ImportError:
        raise ConfigError(
            "nkeys and creds need the package nkeys, which is not installed. Run: pip install 'roost[nkeys]'"
        ) from None
    return nkeys


def _moment(at_s: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(at_s))


def _life_s(jwt: str) -> tuple[float | None, float | None]:
    """When a JWT was issued (`iat`) and when it expires (`exp`), unchecked: the server decides, this only explains."""
    try:
        body = jwt.split(".")[1]
        claims = json.loads(base64.urlsafe_b64decode(body + "=" * (-len(body) % 4)))
        issued, expires = claims.get("iat"), claims.get("exp")
    except (ValueError, IndexError, AttributeError, RecursionError):
        return None, None
    return _seconds(issued), _seconds(expires)


def _seconds(value: object) -> float | None:
    return float(value) if isinstance(value, int | float) and 0 < value < 2**40 else None
