"""What a timeline says in words: the summary, the lines beside lanes, the alternative text. Pure."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from roost.pictures._axis import duration
from roost.pictures._lanes import Counts, Lane, busy
from roost.pictures._tracks import Track


def counted(number: int, singular: str, plural: str | None = None) -> str:
    return f"{number:,} {singular if number == 1 else plural or singular + 's'}"


def summary(counts: Counts) -> list[str]:
    """Tasks, done, dead and retries always; cancelled, running and open only if there are any; then the time."""
    parts = [counted(counts.tasks, "task"), f"{counts.done:,} done", f"{counts.dead:,} dead"]
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
    return track.lane.name or "not begun"


def work(lane: Lane, span_s: float, *, instances: int = 1) -> str:
    """How much a lane did: "206 attempts, busy 97 %". Of several instances together only the attempts."""
    bars = lane.bars
    if instances > 1:
        return counted(len(bars), "attempt")
    if not bars:
        return counted(len(lane.strands), "task")
    share = busy([one.span for one in bars], span_s)
    percent = "<1" if 0 < share < 0.01 else f"{share * 100:.0f}"
    return f"{counted(len(bars), 'attempt')}, busy {percent} %"


def tally(lane: Lane) -> str:
    """The attempts of a lane by how they ended: "412 done, 3 failed"."""
    kinds = [bar.kind for bar in lane.bars]
    return ", ".join(f"{kinds.count(kind):,} {kind}" for kind in dict.fromkeys(kinds))
