"""Trace identifiers as in W3C Trace Context, level 1: which calls belong together."""

from __future__ import annotations

import os
import random
import re
from dataclasses import dataclass

_PATTERN = re.compile(r"(?!ff)[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}")
_source = random.Random()
os.register_at_fork(after_in_child=_source.seed)


@dataclass(frozen=True, slots=True)
class Trace:
    """One span of a trace; `header` is its ``traceparent``."""

    trace_id: str
    span_id: str

    @property
    def header(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-01"

    def child(self) -> Trace:
        return Trace(self.trace_id, f"{_source.getrandbits(64):016x}")

    @classmethod
    def new(cls) -> Trace:
        digits = _source.randbytes(24).hex()
        return cls(digits[:32], digits[32:])

    @classmethod
    def parse(cls, header: str | None) -> Trace:
        """The trace in a ``traceparent`` header; a new one when there is none or it is not valid."""
        found = _PATTERN.fullmatch(header) if header else None
        if found is None or found[1] == "0" * 32 or found[2] == "0" * 16:
            return cls.new()
        return cls(found[1], found[2])
