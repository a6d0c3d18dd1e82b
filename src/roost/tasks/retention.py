"""How long ended runs stay in the log: a setting of the namespace, so it stands in the metadata of its stream. Pure.

Processes come and go with settings of their own; if one of them said "an hour", it would remove what all others still
want. So only an administrator sets it (`roost provision --retention`), and where nobody has, nothing is ever removed.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from roost._text import quoted
from roost.errors import ConfigError

RETENTION = "roost.retention_s"
DEAD_RETENTION = "roost.dead_retention_s"
"""Keys of the metadata. Their values are seconds; empty: nothing is removed."""
LEAST_S = 1.0
MOST_S = 100 * 365 * 86_400.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Retention:
    """Seconds after its end for which a run is kept; None: for ever. Raises ConfigError."""

    ended_s: float | None = None
    dead_s: float | None = None
    """For a run with a dead letter that nobody has replayed; at least as long as `ended_s`."""

    def __post_init__(self) -> None:
        for name, value in (("retention", self.ended_s), ("dead retention", self.dead_s)):
            if value is not None and not LEAST_S <= value <= MOST_S:
                raise ConfigError(f"{name} = {quoted(value)}: must be from {LEAST_S:g} s to 100 years")
        if self.dead_s is not None and (self.ended_s is None or self.dead_s < self.ended_s):
            raise ConfigError(
                f"dead retention = {self.dead_s:g} s: runs that ended otherwise are kept "
                + (f"{self.ended_s:g} s" if self.ended_s is not None else "for ever")
                + ", and dead letters are never kept for less"
            )

    @classmethod
    def of(cls, config: Mapping[str, Any]) -> Retention:
        """Of a stream's configuration. Raises ConfigError for metadata that is none of Roost's making."""
        metadata = config.get("metadata") or {}
        return cls(ended_s=_seconds(metadata, RETENTION), dead_s=_seconds(metadata, DEAD_RETENTION))


def _seconds(metadata: Mapping[str, Any], name: str) -> float | None:
    text = metadata.get(name, "")
    if not text:
        return None
    try:
        seconds = float(text)
    except (TypeError, ValueError):
        seconds = math.nan
    if not math.isfinite(seconds):
        raise ConfigError(
            f"{name} of the stream is {quoted(text)}: must be a number of seconds; nothing was removed"
        )
    return seconds


def seconds_text(seconds: float | None) -> str:
    """As it stands in the metadata; None: for ever."""
    return "" if seconds is None else f"{seconds:g}" if seconds < 1e6 else f"{seconds:.0f}"
