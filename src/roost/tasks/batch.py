"""Atomic batches: several records, each with a guard of its own, stored together or not at all (ADR-50)."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass

from roost.transport import Link
from roost.transport.headers import block
from roost.transport.jetstream import sequence_of

Pairs = tuple[tuple[str, str], ...]

LIMIT = 1000
"""Records that one batch may have."""


@dataclass(frozen=True, slots=True)
class Write:
    """One record to be stored, with its headers: guard and trace."""

    subject: str
    data: bytes
    headers: Pairs


def create_once(trace: str) -> Pairs:
    """The headers of a record that must be the first on its subject."""
    if not trace:
        return (("Nats-Expected-Last-Subject-Sequence", "0"),)
    return (("Nats-Expected-Last-Subject-Sequence", "0"), ("traceparent", trace))


def guarded(subject: str, sequence: int, trace: str = "") -> Pairs:
    """The headers of a record that is stored only while the newest one on `subject` has this sequence."""
    guard = (
        ("Nats-Expected-Last-Subject-Sequence", str(sequence)),
        ("Nats-Expected-Last-Subject-Sequence-Subject", subject),
    )
    return (*guard, ("traceparent", trace)) if trace else guard


async def commit(link: Link, writes: Sequence[Write], *, timeout_s: float) -> int:
    """Store all or nothing; returns the sequence of the last record (they are consecutive).

    Raises JetStreamError: 10071 when a guard did not hold, 10164, 10176 and 10210 when it may be tried
    again; after RequestTimeout or Disconnected it is not known whether all or nothing was stored.
    """
    if len(writes) == 1:
        only = writes[0]
        return await link.jetstream.publish(
            only.subject, only.data, block(*only.headers), timeout_s=timeout_s
        )
    client = link.client
    await client.pressure()
    batch = ("Nats-Batch-Id", secrets.token_hex(8))
    for number, write in enumerate(writes[:-1], 1):
        client.send(
            write.subject, write.data, "", block(*write.headers, batch, ("Nats-Batch-Sequence", str(number)))
        )
    last = writes[-1]
    head = block(*last.headers, batch, ("Nats-Batch-Sequence", str(len(writes))), ("Nats-Batch-Commit", "1"))
    answer = await link.requests.ask(last.subject, last.data, head, timeout_s=timeout_s)
    return sequence_of(answer.data)
