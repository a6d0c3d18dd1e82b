"""Subjects: what may stand in one, templates with parameters, wildcard matching. Pure.

A NATS server stores a publish to `orders.*` as readily as one to `orders.7`; a later purge filtered by that
"id" deletes everybody's orders, and a subscription with such a token reads everybody's messages. So text of
users never enters a subject raw: a token is made of `A-Z a-z 0-9 _ -`, 1 to 64 characters, or it is hashed.

Rules of the server: tokens are joined by `.`; `*` stands for one token, `>` for one or more at the end
(https://docs.nats.io/nats-concepts/subjects, which also recommends at most 16 tokens).
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from roost._text import quoted
from roost.errors import ConfigError, UnsafeToken

_ALPHABET = "[A-Za-z0-9_-]"
_is_token = re.compile(f"{_ALPHABET}{{1,64}}").fullmatch
_foreign_character = re.compile("[^A-Za-z0-9_-]").search
_ALLOWED = "1 to 64 characters of A-Z a-z 0-9 _ -"

_HASHED = "h_"
_MAX_KEY_BYTES = 1024 * 1024
_MAX_TOKENS = 16


def token(value: str, *, name: str = "token") -> str:
    """`value` itself, if it may stand as one token of a subject; else UnsafeToken, which says `name`."""
    if isinstance(value, str) and _is_token(value):
        return value
    raise UnsafeToken(name=name, value=value, reason=_complaint(value))


def contract_name(value: str) -> str:
    """The name of a contract: it becomes a token of subjects and of consumer names. UnsafeToken if it cannot."""
    return token(value, name="name")


def key_token(key: str) -> str:
    """The token that stands for a user's key, the same on every machine and for ever.

    A safe key stands for itself, so that people can read it in a subject. Any other, and any that begins like
    a hash, becomes `h_` and 130 bits of its SHA-256 in base32: no key can be chosen to equal another's hash.
    UnsafeToken if the key is empty, longer than 1 MiB, or no valid Unicode.
    """
    if isinstance(key, str) and _is_token(key) and not key.startswith(_HASHED):
        return key
    if not isinstance(key, str):
        raise UnsafeToken(name="key", value=key, reason="a key is a str")
    if not key:
        raise UnsafeToken(name="key", value=key, reason="it is empty; leave it out (None) to have one made")
    try:
        raw = key.encode()
    except UnicodeEncodeError as error:
        raise UnsafeToken(
            name="key", value=key, reason="it holds a lone surrogate, which no UTF-8 has"
        ) from error
    if len(raw) > _MAX_KEY_BYTES:
        raise UnsafeToken(name="key", value=key, reason=f"{len(raw)} bytes, allowed are {_MAX_KEY_BYTES}")
    return _HASHED + base64.b32encode(hashlib.sha256(raw).digest()).decode("ascii").lower()[:26]


def endpoint_subject(namespace: str, name: str) -> str:
    """Where requests to the endpoint `name` go. UnsafeToken if either part is unsafe."""
    return f"{token(namespace, name='namespace')}.endpoint.{token(name, name='name')}"


def every_subject(namespace: str, name: str) -> str:
    """Where a question to every instance that serves the endpoint `name` goes."""
    return f"{token(namespace, name='namespace')}.every.{token(name, name='name')}"


def instance_subject(namespace: str, instance: str, name: str) -> str:
    """Where a request to one instance that serves the endpoint `name` goes."""
    place = f"{token(namespace, name='namespace')}.at.{token(instance, name='instance')}"
    return f"{place}.{token(name, name='name')}"


def matches(pattern: str, subject: str) -> bool:
    """Whether a subscription to `pattern` receives what is published on `subject`.

    A pattern or subject with an empty token, or a pattern with `>` before its end, matches nothing: the server
    refuses those.
    """
    wanted = pattern.split(".")
    found = subject.split(".")
    if "" in found or "" in wanted or ">" in wanted[:-1]:
        return False
    if wanted[-1] == ">":
        wanted.pop()
        if len(found) <= len(wanted):
            return False
    elif len(found) != len(wanted):
        return False
    return all(part == "*" or part == given for part, given in zip(wanted, found, strict=False))


@dataclass(frozen=True, slots=True)
class Template:
    """A subject with named parameters, such as `team.{agent}.status`; each parameter is one whole token.

    Literal tokens are safe tokens. The first token is a literal and does not begin with `_` or `$`: the server
    and its clients keep those for themselves, and a wildcard there would subscribe to them. At most 16 tokens.
    ConfigError names the template and what is wrong with it.
    """

    text: str
    parameters: tuple[str, ...] = field(init=False, compare=False, repr=False)
    _parts: tuple[tuple[str, bool], ...] = field(init=False, compare=False, repr=False)
    _match: re.Pattern[str] = field(init=False, compare=False, repr=False)

    def __post_init__(self) -> None:
        parts = tuple(map(self._part, self.text.split("."))) if isinstance(self.text, str) else ()
        if not parts or len(parts) > _MAX_TOKENS:
            raise self._wrong(f"it must be a str of 1 to {_MAX_TOKENS} tokens")
        first, is_parameter = parts[0]
        if is_parameter or first.startswith("_"):
            raise self._wrong("its first token must be a literal that does not begin with _ or $")
        names = tuple(name for name, is_parameter in parts if is_parameter)
        if len(set(names)) < len(names):
            raise self._wrong("a parameter occurs twice")
        pattern = r"\.".join(f"({_ALPHABET}{{1,64}})" if is_one else text for text, is_one in parts)
        object.__setattr__(self, "parameters", names)
        object.__setattr__(self, "_parts", parts)
        object.__setattr__(self, "_match", re.compile(pattern))

    def _part(self, text: str) -> tuple[str, bool]:
        if text.startswith("{") and text.endswith("}"):
            name = text[1:-1]
            if not (name.isascii() and name.isidentifier()):
                raise self._wrong(f"parameter {quoted(name)} is not an identifier")
            return name, True
        if not _is_token(text):
            raise self._wrong(f"token {quoted(text)}: {_complaint(text)}, or {{parameter}}")
        return text, False

    def _wrong(self, reason: str) -> ConfigError:
        return ConfigError(f"subject template {quoted(self.text)}: {reason}.")

    def render(self, **tokens: str) -> str:
        """The subject with every parameter filled in.

        ConfigError if one is missing or unknown, UnsafeToken if a value may not stand in a subject.
        """
        missing = [name for name in self.parameters if name not in tokens]
        if missing:
            raise self._wrong(f"parameter {', '.join(missing)} is missing")
        return self._fill(tokens)

    def pattern(self, **tokens: str) -> str:
        """The subscription that receives these values of the named parameters, and any value of the others."""
        return self._fill(tokens)

    @property
    def wildcard(self) -> str:
        """The subscription that receives everything published through this template."""
        return self._fill({})

    def match(self, subject: str) -> dict[str, str] | None:
        """The parameters of a received subject; None if it does not fit, or has a token nobody could render."""
        found = self._match.fullmatch(subject)
        return None if found is None else dict(zip(self.parameters, found.groups(), strict=True))

    def _fill(self, tokens: Mapping[str, str]) -> str:
        for name in tokens:
            if name not in self.parameters:
                known = ", ".join(self.parameters) or "none"
                raise self._wrong(f"there is no parameter {quoted(name)}; it has: {known}")
        return ".".join(
            text if not is_parameter else token(tokens[text], name=text) if text in tokens else "*"
            for text, is_parameter in self._parts
        )

    def __str__(self) -> str:
        return self.text


def _complaint(value: object) -> str:
    if not isinstance(value, str):
        return f"it is no str but {type(value).__name__}; allowed are {_ALLOWED}"
    found = _foreign_character(value)
    if found:
        return f"character {quoted(found.group())} at position {found.start()}; allowed are {_ALLOWED}"
    return f"it has {len(value)} characters; allowed are {_ALLOWED}"
