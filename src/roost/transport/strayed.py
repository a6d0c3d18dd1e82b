"""Answers of the server that somebody has had sent to a subject of their choice.

Whoever asks for a stored record chooses the subject of the answer, and no permission looks at that: so a record of
one's own making would arrive on a topic on which one may not publish. The server marks such an answer with the
stream that it is from (ADR-31), and that mark comes last, behind whatever a publisher wrote.
"""

from __future__ import annotations

from roost.transport.message import Message

_MARK = b"\r\nNats-Stream:"
_OURS = "ROOST_"
"""How the streams of all logs begin. Their republished records come on the live feed only, which nobody believes."""


def strayed(message: Message) -> bool:
    """Whether a message on a topic, or a heartbeat, is a record read from a log, and not published by anybody."""
    return _MARK in message.head and message.headers.get("Nats-Stream", "").startswith(_OURS)
