"""How many retries the calls of one endpoint may cost together. Pure.

Each call that tries three times makes three of every request just when the other side can take least: retries turn
a hiccup into an outage, and keep one going. So they are paid for from a bucket of tokens, which first tries fill: in
the long run there are at most a fifth more requests than calls, however many of them fail. Finagle and Linkerd
have the same fifth (`RetryBudget`, https://linkerd.io/2/features/retries-and-timeouts/).
"""

from __future__ import annotations

PER_CALL = 0.2
"""Tokens that each first try adds; a retry takes one."""
BURST = 10.0
"""Tokens in a full bucket, as it is at first: an instance that restarts while little goes on is waited for, and a
quiet day does not save up for a storm."""


class RetryBudget:
    """The bucket of one endpoint."""

    __slots__ = ("tokens",)

    def __init__(self) -> None:
        self.tokens = BURST

    def called(self) -> None:
        """A first try goes out."""
        self.tokens = min(BURST, self.tokens + PER_CALL)

    def spend(self) -> bool:
        """Take the token of one retry; False if there is none, and no retry goes out then."""
        if self.tokens < 1:
            return False
        self.tokens -= 1
        return True
