"""What one server reports of a traced message (ADR-41), read from its JSON. Pure.

Every server that the message reaches sends one report: how it came in, and each way on which it would have gone out.
A report counts in `hops` the servers to which the message went on, so that it is known when all have reported.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from roost._json import BadJson, parse
from roost._text import clean

CLIENT = 0
"""The kind of a connection, as nats-server counts them."""
_TO_SERVERS = (1, 2, 4)  # router, gateway, leaf node
_LONGEST = 500  # characters of a name or subject


@dataclass(frozen=True, slots=True)
class Way:
    """One way out of a server, to a connection."""

    kind: int
    client_id: int
    name: str
    pattern: str
    queue: str
    account: str
    error: str


@dataclass(frozen=True, slots=True)
class Storing:
    stream: str
    error: str
    """Why the stream would not store it; empty if it would."""


@dataclass(frozen=True, slots=True)
class Crossing:
    """Where the message leaves its account."""

    kind: str
    account: str
    subject: str


@dataclass(frozen=True, slots=True)
class Hop:
    """The report of one server."""

    server: str
    server_id: str
    first: bool
    """It is that of the server to which the message was sent."""
    onward: int
    account: str
    refused: str
    """Why the server did not take the message; empty if it did."""
    mapped_to: str
    ways: tuple[Way, ...]
    stored: tuple[Storing, ...]
    crossings: tuple[Crossing, ...]


@dataclass(slots=True)
class Walk:
    """The reports of one message."""

    hops: list[Hop] = field(default_factory=list)
    sampled: bool = True
    """False: members of its queue groups may be missing."""

    def add(self, hop: Hop) -> None:
        self.hops.insert(0 if hop.first else len(self.hops), hop)

    @property
    def complete(self) -> bool:
        """All servers that the message reaches have reported."""
        return (
            bool(self.hops) and self.hops[0].first and len(self.hops) > sum(hop.onward for hop in self.hops)
        )

    def members(self) -> Iterator[tuple[str, object]]:
        """The members of queue groups that it names: the group, known by account and name, and which one.

        One that may not get the message is named too: then it is another's turn, or nobody's.
        """
        for hop in self.hops:
            for way in hop.ways:
                if way.queue:
                    yield f"{way.account} {way.queue}", (hop.server_id, way.client_id, way.pattern)


def read_hop(data: bytes) -> Hop | None:
    """A report; None for what is none, which is passed over: anybody may publish to an inbox."""
    try:
        found = parse(data)
    except BadJson:
        return None
    events = found.get("events") if isinstance(found, dict) else None
    if not isinstance(found, dict) or not isinstance(events, list) or not events:
        return None
    rows: list[dict[str, Any]] = [one for one in events if isinstance(one, dict)]
    coming = next((one for one in rows if one.get("type") == "in"), None)
    if coming is None:
        return None
    server, request, account = _part(found, "server"), _part(found, "request"), _text(coming, "acc")
    return Hop(
        server=_text(server, "name"),
        server_id=_text(server, "id"),
        first="Nats-Trace-Hop" not in _part(request, "header"),
        onward=_number(found, "hops"),
        account=account,
        refused=_text(coming, "error"),
        mapped_to=next((_text(one, "to") for one in rows if one.get("type") == "sm"), ""),
        ways=tuple(_way(one, account) for one in rows if _goes_out(one)),
        stored=tuple(_storing(one) for one in rows if one.get("type") == "js"),
        crossings=tuple(_crossing(one) for one in rows if one.get("type") in ("si", "se")),
    )


def _goes_out(row: dict[str, Any]) -> bool:
    """To a client; or to another server, if it could not go there: else that one reports itself."""
    return row.get("type") == "eg" and (row.get("kind") not in _TO_SERVERS or bool(row.get("error")))


def _way(row: dict[str, Any], account: str) -> Way:
    return Way(
        kind=_number(row, "kind"),
        client_id=_number(row, "cid"),
        name=_text(row, "name"),
        pattern=_text(row, "sub"),
        queue=_text(row, "queue"),
        account=_text(row, "acc") or account,
        error=_text(row, "error"),
    )


def _storing(row: dict[str, Any]) -> Storing:
    no_interest = "no consumer is interested in it" if row.get("nointerest") is True else ""
    return Storing(_text(row, "stream"), _text(row, "error") or no_interest)


def _crossing(row: dict[str, Any]) -> Crossing:
    return Crossing("service" if row["type"] == "si" else "stream", _text(row, "acc"), _text(row, "to"))


def _part(row: Any, name: str) -> dict[str, Any]:
    found = row.get(name)
    return found if isinstance(found, dict) else {}


def _text(row: dict[str, Any], name: str) -> str:
    found = row.get(name)
    return clean(found, _LONGEST) if isinstance(found, str) else ""


def _number(row: dict[str, Any], name: str) -> int:
    found = row.get(name)
    return found if isinstance(found, int) else 0
