"""What the acknowledgement subject of a delivery says of it (ADR-15, both forms). Pure."""

from __future__ import annotations

from typing import NamedTuple


class AckInfo(NamedTuple):
    """Stream sequence, how often it was delivered, when it was stored (server time), how many wait behind it."""

    stream_seq: int
    delivered: int
    timestamp_s: float
    pending: int


def parse_ack(reply: str) -> AckInfo:
    """Parse ``$JS.ACK.<stream>.<consumer>.<delivered>.<sseq>.<cseq>.<time>.<pending>``, or the form with a
    domain and an account hash before the stream. Raises ValueError for anything else."""
    words = reply.split(".")
    if len(words) == 9:
        at = 4
    elif len(words) >= 11:
        at = 6
    else:
        raise ValueError(f"not an acknowledgement subject: {reply[:80]!r}")
    if words[0] != "$JS" or words[1] != "ACK":
        raise ValueError(f"not an acknowledgement subject: {reply[:80]!r}")
    return AckInfo(int(words[at + 1]), int(words[at]), int(words[at + 3]) / 1e9, int(words[at + 4]))
