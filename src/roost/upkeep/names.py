"""Names of what the lease of upkeep is made of. Pure."""

from __future__ import annotations

HOLDER = "holder"
"""The consumer that delivers the marker to one process at a time."""


def lease_stream(namespace: str) -> str:
    """Not ``ROOST_…``: a namespace may have any name, and its log is called so."""
    return f"ROOST-UPKEEP_{namespace}"


def lease_subject(namespace: str) -> str:
    return f"{namespace}.upkeep"
