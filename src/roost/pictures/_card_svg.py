"""The card of a connection as SVG: a sign for its state, then name and value, row by row. Pure."""

from __future__ import annotations

import math

from roost.pictures._frame import EDGE, page
from roost.pictures._svg import fit, foreign, tag
from roost.pictures._words import began
from roost.transport.status import JetStreamStatus, ServerStatus, size

_WIDE, _LEFT = 640, 136
_TOP, _ROW = 92, 25
_METER, _THICK = 150, 8


def state(status: ServerStatus) -> tuple[str, str]:
    """The sign's class and the word beside it."""
    if status.jetstream is None:
        return "failed", "connected, JetStream " + (
            "not known" if "not known" in status.jetstream_note else "absent"
        )
    return "step", "connected"


def draw(status: ServerStatus, title: str) -> str:
    """The whole card, 640 pixels wide."""
    word = state(status)[1]
    content = _state(status)
    y = float(_TOP) + _ROW
    for name, value in _rows(status):
        content += _row(name, value, y)
        y += _ROW
        if name == "JetStream" and status.jetstream is not None:
            for kind, used, limit in _stores(status.jetstream):
                content += _store(kind, used, limit, y)
                y += _ROW
    told = " ".join(f"{name}: {value}." for name, value in [("state", word), *status.fields()])
    return page(
        content,
        scope="roost-connection",
        title=title,
        summary=[status.url],
        told=told,
        height=y + 6,
        wide=_WIDE,
    )


def _state(status: ServerStatus) -> list[str]:
    """A colour and a word: never only a colour."""
    look, word = state(status)
    return [
        tag("text", "state", class_="muted summary", x=EDGE, y=_TOP),
        tag("circle", class_=look, cx=_LEFT + 5.5, cy=_TOP - 4.3, r=5.5),
        tag("text", word, class_="ink name", x=_LEFT + 18, y=_TOP),
    ]


def _rows(status: ServerStatus) -> list[tuple[str, str]]:
    rows = [
        ("server", status.server),
        ("version", f"nats-server {status.version}"),
        ("address from", status.source),
        ("cluster", status.cluster or "none"),
        ("JetStream", _jetstream(status)),
        ("round trip", dict(status.fields())["round trip"]),
        ("connection", dict(status.fields())["connection"]),
        ("namespace", status.namespace),
    ]
    if status.expires_s is not None:
        rows.insert(-1, ("login expires", began(status.expires_s)))
    return rows


def _jetstream(status: ServerStatus) -> str:
    return status.jetstream_note if status.jetstream is None else status.jetstream.counts()


def _row(name: str, value: str, y: float) -> list[str]:
    shown = foreign(fit(value, _WIDE - EDGE - _LEFT, 12.5), 400)
    return [
        tag("text", name, class_="muted summary", x=EDGE, y=y),
        tag("g", tag("title", foreign(value, 400)) + tag("text", shown, class_="ink value", x=_LEFT, y=y)),
    ]


def _stores(found: JetStreamStatus) -> list[tuple[str, int, int]]:
    return [
        ("on disk", found.storage_bytes, found.storage_limit_bytes),
        ("in memory", found.memory_bytes, found.memory_limit_bytes),
    ]


def _store(kind: str, used: int, limit: int, y: float) -> list[str]:
    """How much of what the account may use is used: a meter if there is a limit to measure by."""
    parts = [tag("text", kind, class_="muted summary", x=_LEFT, y=y)]
    x = _LEFT + 86
    if limit <= 0:
        text = f"{size(used)}, no limit" if limit < 0 else f"{size(used)}, none allowed"
        return [*parts, tag("text", text, class_="ink value", x=x, y=y)]
    share = used / limit
    box = {"x": x, "y": y - 8, "height": _THICK, "rx": 4}
    look = "dead" if share >= 0.9 else "done"
    parts.append(tag("rect", class_="queue", width=_METER, **box))
    if used:
        parts.append(tag("rect", class_=look, width=max(min(share, 1.0) * _METER, _THICK), **box))
    text = f"{size(used)} of {size(limit)} ({_percent(share)})"
    return [*parts, tag("text", text, class_="ink value", x=x + _METER + 12, y=y)]


def _percent(share: float) -> str:
    return "0 %" if not share else "<1 %" if share < 0.01 else f"{math.floor(share * 100)} %"
