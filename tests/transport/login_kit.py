"""What tests of logins make them with: nkeys, JWTs signed by hand, files, servers that check them.

The JWTs follow nats-io/jwt v2: a header, claims and an Ed25519 signature by the issuer's nkey.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import nkeys

sys.path.insert(0, str(Path(__file__).parents[1] / "defects"))
from defect_kit import ConfiguredServer, configured, free_port

__all__ = ["TLS_FILES", "ConfiguredServer", "Identity", "Operator", "configured", "free_port", "secret_file"]

TLS_FILES = Path(__file__).parents[1] / "defects" / "tls"


class Identity:
    """An nkey."""

    def __init__(self, prefix: int = nkeys.PREFIX_BYTE_USER) -> None:
        self.seed: str = nkeys.encode_seed(os.urandom(32), prefix).decode()
        self._pair = nkeys.from_seed(bytearray(self.seed.encode()))
        self.public: str = self._pair.public_key.decode()

    def sign(self, claims: dict[str, Any]) -> str:
        claims = {"iat": int(time.time()), "iss": self.public, **claims}
        claims["jti"] = base64.b32encode(hashlib.sha256(json.dumps(claims).encode()).digest()).decode()[:52]
        body = ".".join(_b64(json.dumps(part).encode()) for part in (_HEAD, claims))
        return f"{body}.{_b64(self._pair.sign(body.encode()))}"


_HEAD = {"typ": "JWT", "alg": "ed25519-nkey"}
_OPEN = {"subs": -1, "conn": -1, "leaf": -1, "imports": -1, "exports": -1, "data": -1, "payload": -1}


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


class Operator:
    """An operator with one account, and what its server's configuration says."""

    def __init__(self) -> None:
        operator = Identity(nkeys.PREFIX_BYTE_OPERATOR)
        self._account = Identity(nkeys.PREFIX_BYTE_ACCOUNT)
        system = Identity(nkeys.PREFIX_BYTE_ACCOUNT)

        def account(one: Identity, name: str) -> str:
            limits = {**_OPEN, "wildcards": True}
            nats = {"type": "account", "version": 2, "limits": limits, "default_permissions": {}}
            return operator.sign({"sub": one.public, "name": name, "nats": nats})

        itself = operator.sign(
            {"sub": operator.public, "name": "op", "nats": {"type": "operator", "version": 2}}
        )
        self.config = (
            f"operator: {itself}\nsystem_account: {system.public}\nresolver: MEMORY\nresolver_preload: {{\n"
            f"  {self._account.public}: {account(self._account, 'app')}\n"
            f"  {system.public}: {account(system, 'sys')}\n}}\n"
        )

    def creds(self, *, lasts_s: float | None = None, age_s: float = 0.0) -> str:
        """The text of a creds file for a new user, issued so long ago, which expires after so many seconds."""
        user = Identity()
        claims: dict[str, Any] = {
            "sub": user.public,
            "name": "ann",
            "nats": {
                "type": "user",
                "version": 2,
                "subs": -1,
                "data": -1,
                "payload": -1,
                "pub": {},
                "sub": {},
            },
        }
        claims["iat"] = int(time.time() - age_s)
        if lasts_s is not None:
            claims["exp"] = int(time.time() + lasts_s)
        jwt = self._account.sign(claims)
        return (
            f"-----BEGIN NATS USER JWT-----\n{jwt}\n------END NATS USER JWT------\n\n"
            "************************* IMPORTANT *************************\n\n"
            f"-----BEGIN USER NKEY SEED-----\n{user.seed}\n------END USER NKEY SEED------\n"
        )


def secret_file(path: Path, text: str, mode: int = 0o600) -> Path:
    """A file as a secret is replaced: written aside, then moved into its place."""
    aside = path.with_name(path.name + ".new")
    aside.write_text(text)
    aside.chmod(mode)
    return aside.replace(path)
