"""Room in the log: new work is refused early enough that accepted work can still finish.

A task that is open will need room for its outcome. When small tasks fill the store, what is left above 80 %
is less than their outcomes take, and none of them could ever end. So two marks hold: 80 % of `max_bytes`, and
room for the outcomes of all open tasks.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from roost.errors import JetStreamError, StoreFull
from roost.observe import Journal
from roost.tasks.provision import RESERVE, consumer_name, timetable_stream
from roost.tasks.records import Subjects
from roost.transport.jetstream import STREAM_NOT_FOUND, JetStream, is_at_its_limit

LOOK_INTERVAL_S = 1.0
"""How old the known fill level of the stream may be, in seconds, before a submission asks again."""
FRESH_S = 0.05
"""How old it may be, in seconds, when a submission is refused for it."""
OUTCOME_BYTES = 1024
"""What an open task still needs: its outcome (550 bytes and a small value) and a note or two of 200 bytes."""
NO_SUBJECTS = 10**9
"""An offset behind all subjects: the server then answers with their number alone."""


class Room:
    """How full the log of one namespace is, as one process knows it."""

    def __init__(
        self, jetstream: JetStream, subjects: Subjects, journal: Journal, look: Callable[[], Awaitable[Any]]
    ) -> None:
        """`look` asks for the stream's information and hands it to `found`."""
        self.used = 0
        self.limit = -1
        self._jetstream = jetstream
        self._subjects = subjects
        self._journal = journal
        self._look = look
        self._flying = 0
        self._open = 0
        self._messages = 0
        self._names: set[str] = set()
        self._hidden = False
        self._looked_at = 0.0
        self._looking: asyncio.Task[None] | None = None

    async def take(self, name: str, count: int, size: int, *, share: float = RESERVE) -> None:
        """Count on `size` bytes for `count` new tasks of contract `name`, or raise StoreFull. `landed` follows.

        `share` of `max_bytes` may be used then; the rest is reserved.

        The fill level is that of a second ago at most, plus what was taken here since then: a large fan-out
        would otherwise write the reserve full before the next look. Nobody is refused without a fresh look.
        """
        self._names.add(name)
        now = asyncio.get_running_loop().time()
        if now - self._looked_at > LOOK_INTERVAL_S:
            self._begin_look()
        if not self._fits(count, size, share):
            if now - self._looked_at > FRESH_S:
                await asyncio.shield(self._begin_look())
            if not self._fits(count, size, share):
                raise self._full()
        self._flying += size
        self._open += count

    def landed(self, size: int, *, stored: bool = True) -> None:
        """What was taken is stored, or will not be."""
        self._flying -= size
        if stored:
            self.used += size

    def _fits(self, count: int, size: int, share: float) -> bool:
        if self.limit <= 0:
            return True
        used = self.used + self._flying + size
        return used <= share * self.limit and used + (self._open + count) * OUTCOME_BYTES <= self.limit

    def _full(self, refusal: str = "") -> StoreFull:
        return StoreFull(
            stream=self._subjects.stream,
            used=self.used,
            limit=self.limit,
            open=self._open,
            refusal=refusal,
        )

    async def refused(self, error: JetStreamError) -> StoreFull:
        """What to raise for a write that the server refused with one of `STORE_FULL`: it tells who has no room."""
        if asyncio.get_running_loop().time() - self._looked_at > FRESH_S:
            await asyncio.shield(self._begin_look())
        return self._full("" if is_at_its_limit(error) else f"{error.description}, error {error.err_code}")

    async def open_tasks(self, names: Iterable[str]) -> int:
        """Tasks that have no outcome yet; `names` are contracts that may have tasks and no worker."""
        self._names.update(names)
        return await self._count_open()

    def found(self, info: Any) -> None:
        """Take over the fill level from the stream's information."""
        self.used = int(info["state"]["bytes"])
        self.limit = int(info["config"].get("max_bytes", -1))
        self._messages = int(info["state"]["messages"])

    async def close(self) -> None:
        if self._looking is not None:
            self._looking.cancel()
            await asyncio.gather(self._looking, return_exceptions=True)

    def _begin_look(self) -> asyncio.Task[None]:
        if self._looking is None:
            self._looking = asyncio.get_running_loop().create_task(self._again(), name="roost-fill-level")
        return self._looking

    async def _again(self) -> None:
        try:
            await self._look()
            # While every record could be an open task's, there is no need to know how many are.
            close = self.limit > 0 and self.used + self._messages * OUTCOME_BYTES > self.limit / 2
            self._open = await self._count_open() if close else self._messages
        except Exception as error:  # the fill level stays as it was known; the write itself will tell
            self._journal.count(f"fill_level_unknown:{type(error).__name__}")
        finally:
            self._looked_at = asyncio.get_running_loop().time()
            self._looking = None

    async def _count_open(self) -> int:
        """Tasks that have no outcome yet: what the consumers have before them, and what nobody serves."""
        stream, served, count, offset = self._subjects.stream, set[str](), 0, 0
        while True:
            page = await self._jetstream.call(f"CONSUMER.LIST.{stream}", {"offset": offset})
            for one in page["consumers"] or ():
                if one["name"].startswith(consumer_name("")):
                    served.add(one["name"])
                    count += int(one["num_pending"]) + int(one["num_ack_pending"])
            offset += len(page["consumers"] or ())
            if not page["consumers"] or offset >= int(page["total"]):
                break
        for name in sorted(self._names):
            if consumer_name(name) not in served:
                count += await self._subjects_under(self._subjects.tasks_of(name))
        # Tasks with an order key wait outside of any consumer until it is their turn.
        places = await self._subjects_under(self._subjects.all_places)
        turns = await self._subjects_under(self._subjects.all_turns) if places else 0
        return count + max(0, places - turns) + await self._count_later()

    async def _count_later(self) -> int:
        """Tasks that may not begin yet, which wait outside as well, where this user may see schedules."""
        namespace = self._subjects.namespace
        if self._hidden:
            return 0
        try:
            return await self._subjects_under(f"{namespace}.sched.at.>", timetable_stream(namespace))
        except PermissionError:
            self._hidden = True
        except JetStreamError as error:
            if error.err_code != STREAM_NOT_FOUND:
                raise
        return 0

    async def _subjects_under(self, pattern: str, stream: str = "") -> int:
        query = {"subjects_filter": pattern, "offset": NO_SUBJECTS}
        info = await self._jetstream.call(f"STREAM.INFO.{stream or self._subjects.stream}", query)
        return int(info.get("total", 0))
