"""Durations and rates as somebody writes them. Pure."""

from __future__ import annotations

import re

from roost._text import quoted
from roost.errors import ConfigError

SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86_400.0}


def parse_duration(text: str, *, option: str) -> float:
    """Seconds in a text such as ``90s``, ``1.5h``, ``1h30m`` or ``2d``; a number alone is seconds. ConfigError."""
    parts = re.findall(r"(\d+(?:\.\d+)?)\s*(ms|min|[smhd]|$)", text.strip())
    whole = re.sub(r"\s", "", text)
    seconds = sum(float(number) * SECONDS[unit or "s"] for number, unit in parts)
    if not whole or "".join(number + unit for number, unit in parts) != whole or seconds <= 0:
        raise ConfigError(f"{option} {quoted(text)}: write a duration such as 30s, 15m, 1h30m or 2d")
    return seconds


def parse_rate(text: str, *, option: str) -> float:
    """How many a second, in a text such as ``10/s``, ``300/min`` or ``10``, which is a second. ConfigError."""
    found = re.fullmatch(r"(\d+(?:\.\d+)?)(?:/(s|m|min|h|d))?", text.strip())
    rate = float(found[1]) / SECONDS[found[2] or "s"] if found is not None else 0.0
    if rate <= 0:
        raise ConfigError(f"{option} {quoted(text)}: write how many in how long, such as 10/s or 300/min")
    return rate
