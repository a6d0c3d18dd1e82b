"""What an acknowledgement subject says about a delivery.

It has nine tokens, or with the account-aware form (ADR-15; `feature_flags { js_ack_fc_v2: true }` in
nats-server 2.15, announced as a future default) eleven or more:

    $JS.ACK.<stream>.<consumer>.<delivered>.<stream seq>.<consumer seq>.<time ns>.<pending>
    $JS.ACK.<domain or _>.<account hash>.<stream>.<consumer>.<delivered>.….<pending>[.<more>]

nats-py's key-value watch reads fixed positions of the first form and dies of the second.
"""

from __future__ import annotations

from typing import NamedTuple


class AckInfo(NamedTuple):
    """One delivery, as the server numbers it."""

    stream_seq: int
    delivered: int  # 1 for the first delivery
    timestamp_s: float  # when the message was stored, by the server's clock, in seconds since 1970
    pending: int  # messages that wait in the consumer behind this one


def parse_ack(reply: str) -> AckInfo:
    """Read the reply subject of a delivered message. Raises ValueError when it is no acknowledgement subject."""
    words = reply.split(".")
    count = len(words)
    if words[:2] == ["$JS", "ACK"]:
        if count == 9:
            _, _, _, _, delivered, stream_seq, _, time_ns, pending = words
            return AckInfo(int(stream_seq), int(delivered), int(time_ns) / 1e9, int(pending))
        if count >= 11:
            delivered, stream_seq, _, time_ns, pending = words[6:11]
            return AckInfo(int(stream_seq), int(delivered), int(time_ns) / 1e9, int(pending))
    raise ValueError(f"not an acknowledgement subject: {reply[:200]!r}")
