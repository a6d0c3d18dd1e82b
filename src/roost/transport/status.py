"""What one wants to know of a connection first: which server, which version, JetStream, how far away, encrypted.

Most of it is what the server said when the connection was made (INFO); JetStream's limits and the round trip are
asked for. Nothing in it is secret, and its texts, which come from a server, are safe to print.
"""

from __future__ import annotations

import html
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from roost._text import clean
from roost.errors import JetStreamError, NoResponders, PermissionDenied, RoostError
from roost.settings import Settings
from roost.settings.address import parse_server

if TYPE_CHECKING:
    from roost.transport.connection import Link


@dataclass(frozen=True, slots=True, kw_only=True)
class JetStreamStatus:
    """JetStream as this account may use it. Sizes are bytes; a limit of -1 means that the account has none."""

    streams: int
    consumers: int
    storage_bytes: int
    storage_limit_bytes: int
    memory_bytes: int
    memory_limit_bytes: int
    stream_limit: int
    consumer_limit: int
    domain: str = ""

    def counts(self) -> str:
        """Streams and consumers with their limits."""
        streams = _of(self.streams, self.stream_limit, "stream")
        return f"{streams}, {_of(self.consumers, self.consumer_limit, 'consumer')}"

    def __str__(self) -> str:
        parts = [
            self.counts(),
            f"{size(self.storage_bytes)} on disk ({_limit(self.storage_limit_bytes)})",
            f"{size(self.memory_bytes)} in memory ({_limit(self.memory_limit_bytes)})",
        ]
        return ", ".join(parts) + (f", domain {self.domain}" if self.domain else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerStatus:
    """The server at the other end, as of one moment. `str` of it is a card of several lines."""

    url: str
    """Without user, password or token."""
    server: str
    version: str
    cluster: str
    """Empty for a server that stands alone."""
    jetstream: JetStreamStatus | None
    """None if there is none, or if nothing is known of it; `jetstream_note` says which."""
    jetstream_note: str
    rtt_s: float
    tls: str
    """Such as TLSv1.3; empty for a connection in clear."""
    login: str
    """Who the client said it is, without the secret: "creds from /run/agent.creds"."""
    expires_s: float | None
    """When the login expires, in seconds since 1970; None if it does not, or if that is not known."""
    source: str
    """Where the address was found: "NATS_URL", "nats context prod (selected)"."""
    namespace: str
    inbox_prefix: str

    def fields(self) -> list[tuple[str, str]]:
        """Names and values, for people."""
        secured = self.tls or "in clear"
        return [
            ("server", f"{self.server} ({self.url}, from {self.source})"),
            ("version", f"nats-server {self.version}"),
            ("cluster", self.cluster or "none"),
            ("JetStream", str(self.jetstream) if self.jetstream is not None else self.jetstream_note),
            ("round trip", f"{self.rtt_s * 1000:.2f} ms"),
            ("connection", f"{secured}, {self.login}"),
            ("namespace", self.namespace),
        ]

    def __str__(self) -> str:
        return "\n".join(f"{name:<12}{value}" for name, value in self.fields())

    def _repr_html_(self) -> str:
        """For notebooks."""
        rows = "".join(
            f'<tr><th style="text-align:left">{html.escape(name)}</th>'
            f'<td style="text-align:left">{html.escape(value)}</td></tr>'
            for name, value in self.fields()
        )
        return f"<table>{rows}</table>"


async def read_status(link: Link, settings: Settings, *, timeout_s: float = 5.0) -> ServerStatus:
    """Ask the server. Raises NotConnected, Disconnected, TimeoutError when it does not answer."""
    client = link.client
    rtt_s = await client.rtt(timeout_s)
    uri = client.connected_url
    info = client._server_info
    jetstream, note = await _jetstream(link, timeout_s)
    return ServerStatus(
        url=parse_server(uri.geturl()).shown if uri is not None else settings.shown,
        server=_word(info, "server_name"),
        version=_word(info, "version"),
        cluster=_word(info, "cluster"),
        jetstream=jetstream,
        jetstream_note=note,
        rtt_s=rtt_s,
        tls=client.tls_version,
        login=client.login.described(uri.username is not None if uri is not None else False),
        expires_s=client.login.expires_s,
        source=settings.source,
        namespace=settings.namespace,
        inbox_prefix=settings.inbox_prefix,
    )


async def _jetstream(link: Link, timeout_s: float) -> tuple[JetStreamStatus | None, str]:
    try:
        answer = await link.jetstream.call("INFO", timeout_s=timeout_s)
    except NoResponders:
        return None, "none (the server runs without it, or has no leader for it yet)"
    except PermissionDenied:
        return None, "not known (this user may not ask on $JS.API.INFO)"
    except JetStreamError as error:
        return None, f"none ({clean(str(error), 200)})"
    except RoostError as error:
        return None, f"not known ({clean(str(error), 200)})"
    limits = answer.get("limits") if isinstance(answer.get("limits"), dict) else {}
    return (
        JetStreamStatus(
            streams=_number(answer, "streams"),
            consumers=_number(answer, "consumers"),
            storage_bytes=_number(answer, "storage"),
            storage_limit_bytes=_number(limits, "max_storage", -1),
            memory_bytes=_number(answer, "memory"),
            memory_limit_bytes=_number(limits, "max_memory", -1),
            stream_limit=_number(limits, "max_streams", -1),
            consumer_limit=_number(limits, "max_consumers", -1),
            domain=_word(answer, "domain"),
        ),
        "",
    )


def _word(found: dict[str, Any], name: str) -> str:
    return clean(str(found.get(name) or ""), 200)


def _number(found: dict[str, Any], name: str, absent: int = 0) -> int:
    value = found.get(name, absent)
    return value if isinstance(value, int) else absent


def _of(count: int, limit: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}" + (f" of {limit}" if limit >= 0 else "")


def _limit(limit: int) -> str:
    return f"of {size(limit)}" if limit >= 0 else "no limit"


def size(count: int) -> str:
    """Bytes for people: "1.5 MB"."""
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB"), (1, "kB")):
        if count >= 1000**power:
            return f"{count / 1000**power:.1f} {unit}"
    return f"{count} B"
