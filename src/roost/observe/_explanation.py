"""The answer to who would get a message: plain values, and how they show themselves."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from roost.observe._hops import CLIENT, Crossing, Hop, Walk, Way

_HEADS = ("CLIENT", "SUBSCRIPTION", "QUEUE GROUP", "ACCOUNT")


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiver:
    """One subscription that would get the message; with a `queue`, one of those of which one would."""

    client: str
    """The name of the client's connection, or "client 7" if it has none."""
    client_id: int
    """The number of the connection, on its `server`."""
    server: str
    pattern: str
    """The subject of the subscription."""
    queue: str = ""
    """The name of its queue group; empty if it is in none."""
    account: str
    service: str = ""
    """The subject of the service over which it gets it from another account; empty for its own account's."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Export:
    """Where the message would go on into another account, as a "service" or as a "stream"."""

    kind: str
    account: str
    subject: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Who would get a message on `subject` now, as the servers said; made by `Bus.explain`. `print` shows it."""

    subject: str
    streams: tuple[str, ...]
    """Names of the streams that would store it. Whether such a stream is full is not looked at."""
    receivers: tuple[Receiver, ...]
    """All subscriptions that would get it, and all members found of queue groups, of which one each would."""
    account: str
    servers: tuple[str, ...]
    """The servers that it would reach, that of the question first."""
    mapped_to: str = ""
    """The subject that the account's mapping makes of it, if any."""
    exports: tuple[Export, ...] = ()
    """Who is behind an export is told only where that is made with `allow_trace`."""
    notes: tuple[str, ...] = ()
    """What would keep it from somebody: a permission of a subscriber, a stream in which nobody is interested."""
    complete: bool = True
    """False: a server did not report in time, or members of large queue groups may be missing."""

    @classmethod
    def of(cls, subject: str, walks: Sequence[Walk]) -> Explanation:
        """From the reports of one message; of the others only the members of queue groups are added."""
        first = walks[0]
        services = {one.account: one.subject for one in _crossings(first) if one.kind == "service"}
        found = [
            _receiver(hop, way, services) for hop, way in _ways(walks[:1]) if not way.error and not way.queue
        ]
        groups = {
            (hop.server_id, way.client_id, way.pattern, way.queue): _receiver(hop, way, services)
            for hop, way in _ways(walks)
            if way.queue and not way.error
        }
        members = sorted(groups.values(), key=lambda one: (one.queue, one.client, one.server, one.client_id))
        stored = [one for hop in first.hops for one in hop.stored]
        return cls(
            subject=subject,
            streams=tuple(dict.fromkeys(one.stream for one in stored if not one.error)),
            receivers=(*sorted(found, key=lambda one: (one.client, one.client_id, one.pattern)), *members),
            account=first.hops[0].account,
            servers=tuple(hop.server for hop in first.hops),
            mapped_to=next((hop.mapped_to for hop in first.hops if hop.mapped_to), ""),
            exports=tuple(
                Export(kind=one.kind, account=one.account, subject=one.subject)
                for one in dict.fromkeys(_crossings(first))
            ),
            notes=_notes([hop for walk in walks for hop in walk.hops]),
            complete=first.complete and first.sampled,
        )

    def __str__(self) -> str:
        rows = self._rows()
        lines = [self.subject, *(f"  {one}" for one in self._sentences())]
        if rows:
            widths = [max(len(row[column]) for row in (_HEADS, *rows)) for column in range(len(_HEADS))]
            width_of = [wide if any(row[at] for row in rows) else 0 for at, wide in enumerate(widths)]
            for row in (_HEADS, *rows):
                cells = (cell.ljust(wide) for cell, wide in zip(row, width_of, strict=True) if wide)
                lines.append(f"    {'  '.join(cells)}".rstrip())
        return "\n".join([*lines, *(f"  {one}" for one in self._caveats())])

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> dict[str, str]:
        return {"text/html": self._html(), "text/plain": str(self)}

    def _html(self) -> str:
        def cells(row: Sequence[str], tag: str) -> str:
            return "".join(f'<{tag} style="text-align:left">{html.escape(cell)}</{tag}>' for cell in row)

        rows = self._rows()
        used = [at for at in range(len(_HEADS)) if any(row[at] for row in rows)]
        heads = [_HEADS[at].capitalize() for at in used]
        body = "".join(f"<tr>{cells([row[at] for at in used], 'td')}</tr>" for row in rows)
        table = f"<table><tr>{cells(heads, 'th')}</tr>{body}</table>" if rows else ""
        before = "".join(f"<br>{html.escape(one)}" for one in self._sentences())
        after = "".join(f"<div>{html.escape(one)}</div>" for one in self._caveats())
        return f"<div><b>{html.escape(self.subject)}</b>{before}</div>{table}{after}"

    def _sentences(self) -> Iterator[str]:
        if self.mapped_to:
            yield f"is mapped to {self.mapped_to}"
        yield (
            f"would be stored in {', '.join(self.streams)}"
            if self.streams
            else "would be stored in no stream"
        )
        for one in self.exports:
            yield f"would go on to account {one.account}, as {one.kind} {one.subject}"
        if not self.receivers:
            yield "would be delivered to nobody" + (" in this account" if self.exports else "")
            return
        plain = sum(not one.queue for one in self.receivers)
        groups = len({(one.account, one.queue) for one in self.receivers if one.queue})
        parts = [_count(plain, "subscription")] if plain else []
        parts += (
            [f"one member of {_count(groups, 'queue group') if groups > 1 else 'a queue group'}"]
            if groups
            else []
        )
        yield f"would be delivered to {' and '.join(parts)}"

    def _caveats(self) -> Iterator[str]:
        yield from self.notes
        if not self.complete:
            yield "This may not be all: not every server reported in time, or a queue group has very many members."

    def _rows(self) -> list[tuple[str, str, str, str]]:
        sizes: dict[tuple[str, str], int] = {}
        for one in self.receivers:
            sizes[one.account, one.queue] = sizes.get((one.account, one.queue), 0) + 1
        return [
            (
                one.client,
                one.pattern,
                f"{one.queue} (one of {sizes[one.account, one.queue]})" if one.queue else "",
                one.account if one.account != self.account else "",
            )
            for one in self.receivers
        ]


def _ways(walks: Sequence[Walk]) -> Iterator[tuple[Hop, Way]]:
    return ((hop, way) for walk in walks for hop in walk.hops for way in hop.ways if way.kind == CLIENT)


def _crossings(walk: Walk) -> Iterator[Crossing]:
    return (one for hop in walk.hops for one in hop.crossings)


def _receiver(hop: Hop, way: Way, services: dict[str, str]) -> Receiver:
    return Receiver(
        client=_name(way),
        client_id=way.client_id,
        server=hop.server,
        pattern=way.pattern,
        queue=way.queue,
        account=way.account,
        service=services.get(way.account, ""),
    )


def _name(way: Way) -> str:
    return way.name or f"client {way.client_id}"


def _notes(hops: Sequence[Hop]) -> tuple[str, ...]:
    notes = [f"The server did not take it: {hop.refused}." for hop in hops if hop.refused]
    for hop in hops:
        notes += [f"Not stored in {one.stream}: {one.error}." for one in hop.stored if one.error]
        for way in hop.ways:
            if way.error:
                on = f" on {way.pattern}" if way.pattern else ""
                notes.append(f"{_name(way)}{on}: {way.error}.")
    return tuple(dict.fromkeys(notes))


def _count(count: int, what: str) -> str:
    return f"{count} {what}{'s' if count != 1 else ''}"
