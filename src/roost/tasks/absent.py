"""Nobody answers for a log: has it been removed, or does no server lead it just now?

In a cluster the subjects of a stream are those of its leader. From the death of one to the election of the next,
4 to 9 s later (nats-server, server/raft.go), a write finds nobody who listens, as if there were no such stream.
"""

from __future__ import annotations

import asyncio

from roost.errors import JetStreamError, NoResponders, RoostError, StreamMissing
from roost.tasks.log import Log
from roost.transport.jetstream import STREAM_NOT_FOUND

ANSWER_S = 0.25
"""Seconds within which a server says that there is no such stream. Where nobody leads, there is no answer."""


class Absence:
    """Asks about one log; those who ask at the same time share an answer."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._asking: asyncio.Task[bool] | None = None

    async def check(self, error: StreamMissing | NoResponders) -> None:
        """Returns if the write may be tried again. Raises StreamMissing if the log is not there any more."""
        if self._asking is None:
            self._asking = asyncio.get_running_loop().create_task(self._removed(), name="roost-look-for-log")
        if await asyncio.shield(self._asking):
            raise StreamMissing(self._log.stream) from error

    async def _removed(self) -> bool:
        try:
            await self._log.link.jetstream.call(f"STREAM.INFO.{self._log.stream}", timeout_s=ANSWER_S)
        except JetStreamError as refusal:
            return refusal.err_code == STREAM_NOT_FOUND
        except RoostError:
            return False
        finally:
            self._asking = None
        return False
