"""What instances are called, and where they are heard.

A name that two instances share makes a request to "one instance" a lottery and a dead letter's ``by`` a guess, and
two machines that run the same command would choose the same. So every name ends in six random characters.
"""

from __future__ import annotations

import math
import re
import secrets

from roost._text import quoted
from roost.errors import ConfigError
from roost.subjects import token

HEARTBEAT_S = 5.0
"""Seconds from one heartbeat to the next, unless said otherwise (each interval is varied by a tenth)."""

_ALPHABET = "abcdefghijkmnpqrstuvwxyz23456789"  # without l, o, 0, 1: names are read aloud and typed
_LENGTH = 6  # 30 bits: among a thousand names of one agent, two are equal once in two thousand times
_LONGEST = 64
_LEAST_S, _MOST_S = 0.05, 3600.0

# SemVer 2.0.0, which ADR-32 asks of the version of a service. No leading zeros, nothing left out.
_NUMBER = r"(?:0|[1-9]\d*)"
_LABEL = rf"(?:{_NUMBER}|\d*[a-zA-Z-][0-9a-zA-Z-]*)"
_is_semver = re.compile(
    rf"{_NUMBER}\.{_NUMBER}\.{_NUMBER}(?:-{_LABEL}(?:\.{_LABEL})*)?(?:\+[0-9a-zA-Z-]+(?:\.[0-9a-zA-Z-]+)*)?",
    re.ASCII,
).fullmatch


def random_suffix() -> str:
    """Six characters that no other machine has chosen."""
    return "".join(secrets.choice(_ALPHABET) for _ in range(_LENGTH))


def instance_name(base: str, suffix: str = "") -> str:
    """``<base>-<suffix>``, which is random if it is not given; a long base is cut to what a token may hold."""
    suffix = suffix or random_suffix()
    return token(f"{base[: _LONGEST - 1 - len(suffix)]}-{suffix}", name="instance")


def beat_subject(namespace: str, agent: str, instance: str) -> str:
    """Where one instance's heartbeats are published; `agent` and `instance` may be ``*``.

    The agent's name stands in it so that permissions can keep one agent from speaking for another.
    """
    return f"{namespace}.beat.{agent}.{instance}"


def check_version(version: str, owner: str) -> str:
    """`version` itself, if it is a SemVer such as ``1.4.0``; else ConfigError."""
    if isinstance(version, str) and len(version) <= 256 and _is_semver(version):
        return version
    raise ConfigError(
        f"{owner}: version = {quoted(version)}: must be a SemVer (https://semver.org), such as 1.4.0"
    )


def check_heartbeat(heartbeat_s: float) -> float:
    """`heartbeat_s` itself, if it is a number of seconds from 0.05 to 3600; else ConfigError."""
    if (
        type(heartbeat_s) not in (int, float)
        or not math.isfinite(heartbeat_s)
        or not _LEAST_S <= heartbeat_s <= _MOST_S
    ):
        raise ConfigError(
            f"heartbeat_s = {quoted(heartbeat_s)}: must be a number of seconds from {_LEAST_S:g} to {_MOST_S:g}"
        )
    return float(heartbeat_s)
