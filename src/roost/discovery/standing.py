"""The heartbeat on the wire: the state of one instance and the load of each of its handlers.

It says what changes; what does not (schemas) is told when somebody asks, so that a beat stays small: about 300
bytes and 120 for each handler.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from roost.codec import Codec, Limits
from roost.discovery.card import Card, Part

State = Literal["joined", "ready", "busy", "draining", "left"]
"""``joined``: being set up; ``ready``; ``busy``: as much runs of at least one contract as may; ``draining``: takes
nothing new; ``left``: said at the very end."""

_Count = Annotated[int, Field(ge=0, lt=2**63)]
_Word = Annotated[str, Field(max_length=256)]


class HandlerBeat(BaseModel):
    kind: _Word
    name: Annotated[str, Field(max_length=1500)]  # a topic's template has up to 16 tokens
    hash: _Word = ""
    running: _Count = 0
    limit: _Count = 0
    waiting: _Count = 0
    handled: _Count = 0
    errors: _Count = 0


class Standing(BaseModel):
    state: State
    version: _Word
    roost: _Word
    host: _Word = ""
    pid: _Count = 0
    started: Annotated[float, Field(ge=0, lt=1e12)]
    """Seconds since 1970, by the clock of the instance."""
    interval_s: Annotated[float, Field(gt=0, le=3600)]
    handlers: Annotated[list[HandlerBeat], Field(max_length=1000)] = []


CODEC = Codec(Standing, limits=Limits(max_bytes=512 * 1024))


def standing(card: Card, parts: Sequence[Part], state: State) -> Standing:
    """What there is to say now."""
    handlers = [handler_beat(part) for part in parts]
    if state == "ready" and any(one.running >= one.limit or one.waiting for one in handlers if _counts(one)):
        state = "busy"
    return Standing(
        state=state,
        version=card.version,
        roost=card.roost,
        host=card.host[:256],
        pid=card.pid,
        started=card.started_s,
        interval_s=card.heartbeat_s,
        handlers=handlers,
    )


def handler_beat(part: Part) -> HandlerBeat:
    load = part.load()
    return HandlerBeat(
        kind=part.kind,
        name=part.name,
        hash=part.schemas.hash,
        running=load.running,
        limit=part.limit,
        waiting=load.waiting,
        handled=part.tally.handled,
        errors=part.tally.errors,
    )


def _counts(one: HandlerBeat) -> bool:
    """A reporter takes one outcome after the other: that it has one says nothing about its instance."""
    return one.kind != "report"
