"""What a timeline says in words: the summary, the lines beside lanes, the alternative text. Pure."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from roost.pictures._axis import duration
from roost.pictures._lanes import Counts, Lane, busy
from roost.pictures._tracks import Track

NO_ATTEMPT = "no attempt"
"""Of a task that has none on record: it waits, or is in its first attempt, which is on record when it has ended."""
_TOLD = {"run": "coordinated", "left": "taken over by another coordinator", "step": "step"}


def counted(number: int, singular: str, plural: str | None = None) -> str:
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def summary(counts: Counts) -> list[str]:
    """Runs if there are any; of tasks how many, done, dead and retries always, the rest if there are any; the time."""
    parts = []
    if counts.runs:
        told = [
            f"{number:,} {word}" if counts.runs > 1 else word
            for number, word in (
                (counts.runs_dead, "dead"),
                (counts.runs_cancelled, "cancelled"),
                (counts.runs_open, "open"),
            )
            if number
        ]
        parts.append(counted(counts.runs, "run") + (f" ({', '.join(told)})" if told else ""))
        if counts.resumed:
            parts.append(f"{counts.resumed:,} resumed" if counts.resumed > 1 else "resumed once")
    parts += [counted(counts.tasks, "task"), f"{counts.done:,} done", f"{counts.dead:,} dead"]
    if counts.cancelled:
        parts.append(f"{counts.cancelled:,} cancelled")
    if counts.running:
        parts.append(f"{counts.running:,} running")
    if counts.open:
        parts.append(f"{counts.open:,} open")
    parts.append(counted(counts.retries, "retry", "retries"))
    parts.append(duration(counts.seconds))
    return parts


def began(began_s: float) -> str:
    """The moment that stands at 0 on the axis."""
    moment = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=int(began_s))
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"


def name(track: Track) -> str:
    if track.instances > 1:
        return f"{track.instances:,} more instances"
    return track.lane.name or NO_ATTEMPT


def work(lane: Lane, span_s: float, *, instances: int = 1) -> str:
    """How much a lane did: "206 attempts, busy 97 %". Of several instances together only the attempts."""
    bars = lane.bars
    if not bars:
        return counted(len(lane.strands), "task")
    found = lane.work
    steps = sum(1 for bar in found if bar.kind == "step")
    parts = []
    if len(found) > steps:
        parts.append(counted(len(found) - steps, "attempt"))
    if len(bars) > len(found):
        parts.append(counted(len(bars) - len(found), "run"))
    if steps:
        parts.append(counted(steps, "step"))
    if instances == 1 and found:
        share = busy([one.span for one in found], span_s)
        parts.append(f"busy {'<1' if 0 < share < 0.01 else f'{share * 100:.0f}'} %")
    return ", ".join(parts)


def tally(lane: Lane) -> str:
    """The attempts of a lane by how they ended: "412 done, 3 failed"."""
    kinds = Counter(bar.kind for bar in lane.bars)
    return ", ".join(f"{number:,} {_TOLD.get(kind, kind)}" for kind, number in kinds.items())
