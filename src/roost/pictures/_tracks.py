"""How each lane is drawn: as bars where they fit, as a profile where there are more bars than room. Pure.

5,000 bars on 700 pixels are a solid block that shows nothing and weighs a megabyte. A lane whose bars
cannot be kept apart in a few rows becomes a profile: how many ran at once, column by column. Which form a
lane has is said in the picture, and what is rare (a failure, a death) keeps a mark of its own in either.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from roost.pictures._lanes import Lane, Scene, Span, Strand, pack

MAX_LANES = 40
"""Further instances share one lane."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Grain:
    """What can be told apart on a medium, in its own unit (pixels, characters)."""

    least: float  # the thinnest bar that can still be seen
    gap: float  # kept between two bars of a row
    cross: float  # what a cross after a bar takes
    arrow: float  # what the sign of a further attempt takes before its bar
    rows_with_waits: tuple[int, int]  # rows of one lane, of all lanes, while each task shows its own waiting
    rows: tuple[tuple[int, int], ...]  # the same without, in the order they are tried


PIXELS = Grain(
    least=2.5,
    gap=1.5,
    cross=13.0,
    arrow=5.0,
    rows_with_waits=(8, 26),
    rows=((8, 60), (5, 60), (3, 60), (2, 80), (1, 80)),
)
CHARACTERS = Grain(
    least=1, gap=1, cross=1, arrow=0, rows_with_waits=(6, 24), rows=((4, 24), (2, 24), (1, 40))
)


@dataclass(frozen=True, slots=True)
class Placed:
    """A strand and the row it stands in."""

    row: int
    strand: Strand


@dataclass(frozen=True, slots=True, kw_only=True)
class Track:
    """A lane and its form: `placed` with so many `rows`, or a profile if it is None."""

    lane: Lane
    instances: int = 1  # more than one if lanes were put together
    placed: tuple[Placed, ...] | None
    rows: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """All tracks. `waits` says whether each strand shows its own waiting; else one strip shows all of it."""

    tracks: tuple[Track, ...]
    waits: bool


def plan(scene: Scene, *, extent: float, grain: Grain) -> Plan:
    """The most detailed form that stays legible where the whole time is `extent` long."""
    per_s = extent / scene.span_s if scene.span_s > 0 else 0.0
    lanes = together(scene.lanes)
    limit, total = grain.rows_with_waits
    tracks = [_track(lane, instances, extent, per_s, limit, grain, waits=True) for lane, instances in lanes]
    if all(one.placed is not None for one in tracks) and sum(one.rows for one in tracks) <= total:
        return Plan(tracks=tuple(tracks), waits=True)
    begun = [(lane, instances) for lane, instances in lanes if lane.bars]
    for limit, total in grain.rows:
        tracks = [
            _track(lane, instances, extent, per_s, limit, grain, waits=False) for lane, instances in begun
        ]
        if sum(one.rows for one in tracks) <= total:
            break
    return Plan(tracks=tuple(tracks), waits=False)


def together(lanes: Sequence[Lane]) -> list[tuple[Lane, int]]:
    """Each lane with the number of instances in it; those beyond MAX_LANES in one."""
    if len(lanes) <= MAX_LANES:
        return [(lane, 1) for lane in lanes]
    kept = [(lane, 1) for lane in lanes[: MAX_LANES - 1]]
    rest = lanes[MAX_LANES - 1 :]
    named = [lane for lane in rest if lane.name]
    merged = Lane("", [strand for lane in named for strand in lane.strands])
    unbegun = [(lane, 1) for lane in rest if not lane.name]
    return [*kept, (merged, len(named)), *unbegun]


def _track(
    lane: Lane, instances: int, extent: float, per_s: float, limit: int, grain: Grain, *, waits: bool
) -> Track:
    room = extent + grain.cross
    drawn = lane.strands if waits else [one for one in lane.strands if one.bar is not None]
    # More bars than their thinnest forms leave room for need not be measured.
    if instances > 1 or len(drawn) > limit * (room / (grain.least + grain.gap) + 1):
        return Track(lane=lane, instances=instances, placed=None)
    spans = [_drawn(one, per_s, grain, waits=waits) for one in drawn]
    rows = _in_chains(drawn, spans, per_s, limit, grain) if waits else None
    rows = rows or pack(spans, gap=grain.gap, least=grain.least, limit=limit)
    if rows is None:
        return Track(lane=lane, instances=instances, placed=None)
    placed = tuple(Placed(row, strand) for row, strand in zip(rows, drawn, strict=True))
    return Track(lane=lane, instances=instances, placed=placed, rows=max(rows, default=0) + 1)


def _in_chains(
    strands: Sequence[Strand], spans: Sequence[Span], per_s: float, limit: int, grain: Grain
) -> list[int] | None:
    """The row of each strand such that the attempts of a task, with their waits, follow each other in one."""
    chains: list[list[int]] = []
    last: dict[int, list[int]] = {}
    for at, strand in enumerate(strands):
        chain = last.get(id(strand.task))
        if chain is not None and _follows(strands[chain[-1]], strand, per_s, grain):
            chain.append(at)
        else:
            last[id(strand.task)] = [at]
            chains.append(last[id(strand.task)])
    whole = [Span(spans[chain[0]].start, max(spans[at].end for at in chain)) for chain in chains]
    packed = pack(whole, gap=grain.gap, least=grain.least, limit=limit)
    if packed is None:
        return None
    row = {at: number for chain, number in zip(chains, packed, strict=True) for at in chain}
    return [row[at] for at in range(len(strands))]


def _follows(one: Strand, other: Strand, per_s: float, grain: Grain) -> bool:
    """Whether the bars of two attempts have room in one row, the thinnest forms and signs included."""
    if one.bar is None or other.bar is None or one.ended is not None:
        return False
    end = one.bar.span.start * per_s + max(one.bar.span.length * per_s, grain.least)
    return end + grain.gap + grain.arrow <= other.bar.span.start * per_s


def _drawn(strand: Strand, per_s: float, grain: Grain, *, waits: bool) -> Span:
    """Where a strand is drawn, in the unit of the grain."""
    whole = strand.span if waits or strand.bar is None else strand.bar.span
    start, end = whole.start * per_s, whole.end * per_s
    if strand.bar is not None and strand.bar.number > 1:
        start = min(start, strand.bar.span.start * per_s - grain.arrow)
    ended = strand.ended
    if ended is not None:
        begun = strand.bar.span.start * per_s if strand.bar is not None else start
        end = max(end, begun + grain.least, ended * per_s if waits else 0.0) + grain.cross
    return Span(start, end)
