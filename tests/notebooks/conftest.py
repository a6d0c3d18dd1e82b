"""What a lesson changes in its own kernel must not reach the tests that come after it in this process."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from nats.aio.client import Client

STOCK = Client._send_ping


@pytest.fixture(autouse=True)
def stock_client() -> Iterator[None]:
    """Puts back what `lesson_flush.mend` changes."""
    yield
    Client._send_ping = STOCK  # type: ignore[method-assign]
