"""The life of a connection as events: a program that watches hears of the first connection and of the end too."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from roost.observe.journal import Journal
from roost.settings import Settings
from roost.transport import Link, open_link

LEVELS = {"client_error": logging.DEBUG, "reconnected": logging.INFO}


@asynccontextmanager
async def open_recorded(settings: Settings, journal: Journal) -> AsyncIterator[Link]:
    """`open_link`, with ``connected``, ``closed`` and all that happens in between in the journal."""

    def observe(kind: str, detail: str) -> None:
        # What went wrong in one try to connect is said by the error, or by the event, that follows it.
        journal.record(kind, reason=detail, level=LEVELS.get(kind, logging.WARNING))

    connected = False
    try:
        async with open_link(settings, observe) as link:
            connected = True
            journal.record("connected", reason=link.server, level=logging.INFO)
            yield link
    finally:
        if connected:
            journal.record("closed", reason="the bus was left", level=logging.DEBUG)
