"""Encoding of header blocks, with the names that callers may not use.

A caller's header that begins with ``Nats-`` or is called ``Status`` would be taken for the server's
word by other clients, or change what the server does with the message (a rollup header deletes a
stream). CR and LF in a value would forge further headers.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from roost.errors import InvalidMessage

MAX_HEADERS = 32
MAX_HEADER_BYTES = 8 * 1024
_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 token
_BAD_VALUE = re.compile(r"[\x00-\x08\x0a-\x1f\x7f\ud800-\udfff]")  # the last: lone surrogates
_RESERVED = ("nats-", "roost-", "kv-operation")
_RESERVED_EXACT = {"status", "description", "traceparent", "tracestate"}


def block(*pairs: tuple[str, str]) -> bytes:
    """A header block of the framework's own, already safe, names and values."""
    return ("NATS/1.0\r\n" + "".join(f"{name}:{value}\r\n" for name, value in pairs) + "\r\n").encode()


def check(headers: Mapping[str, str], *, subject: str) -> tuple[tuple[str, str], ...]:
    """A caller's headers as pairs for `block`.

    Raises InvalidMessage for a name outside the RFC 9110 token alphabet, a reserved name, a control
    character in a value, more than 32 headers or more than 8 KiB of them.
    """
    if len(headers) > MAX_HEADERS:
        raise InvalidMessage(
            subject=subject,
            field="headers",
            reason=f"{len(headers)} headers; at most {MAX_HEADERS} are allowed",
        )
    size = 0
    for name, value in headers.items():
        if not _NAME.fullmatch(name):
            raise InvalidMessage(
                subject=subject, field=f"headers[{name!r}]", reason="not a header name (RFC 9110 token)"
            )
        low = name.lower()
        if low in _RESERVED_EXACT or low.startswith(_RESERVED):
            raise InvalidMessage(subject=subject, field=f"headers[{name!r}]", reason="this name is reserved")
        if _BAD_VALUE.search(value):
            raise InvalidMessage(
                subject=subject,
                field=f"headers[{name!r}]",
                reason="the value has a line break or control character",
            )
        size += len(name) + len(value.encode()) + 4
    if size > MAX_HEADER_BYTES:
        raise InvalidMessage(
            subject=subject,
            field="headers",
            reason=f"{size} bytes of headers; at most {MAX_HEADER_BYTES} are allowed",
        )
    return tuple(headers.items())
