"""Fan-out: items become tasks in parts, each part one commit of its tasks and its plan.

A part is stored whole or not at all, under the coordinator's epoch; its plan holds how many items it has
and a hash of them. So a coordinator killed between any two instructions, resumed, finds each part either
planned with all its tasks or not there, submits nothing twice and loses nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable
from typing import Any

from roost.codec import canonical_equal
from roost.errors import ConfigError, InvalidMessage, JetStreamError
from roost.runs.core import Core
from roost.runs.records import StepRecord, chunk_token, encode
from roost.subjects import key_token
from roost.tasks.batch import Write, create_once
from roost.tasks.log import Record
from roost.tasks.outcome import Outcome, decode_outcome, placed
from roost.tasks.records import Ref, end_codec
from roost.transport.jetstream import WRONG_LAST_SEQUENCE

AHEAD = 1000
"""Items that may be submitted and not yet read."""
PART = 200
"""Items of one commit at most: a larger one holds up other writers for longer (26 ms at 1,000)."""
SOON_S = 0.005
"""An asynchronous source that has no item for so long ends the part, so that what is there gets going."""


class Fanout:
    """One ``run.map(...)``."""

    def __init__(
        self,
        core: Core,
        contract: Any,
        items: Iterable[Any] | AsyncIterable[Any],
        *,
        key: Callable[[Any], str] | None,
        name: str,
        ahead: int,
        ordered: bool,
    ) -> None:
        if type(ahead) is not int or ahead < 1:
            raise ConfigError(f"map {name}: ahead = {ahead!r}: must be an int >= 1")
        self._core = core
        self._contract = contract
        self._source = _Source(items)
        self._key = key
        self._name = name
        self._ahead = ahead
        self._ordered = ordered
        self._token = ""
        self._prefix = ""
        self._planned: dict[str, tuple[str, int]] = {}  # id -> key and index, until its outcome is read
        self._count = 0
        self._read = 0
        self._complete = False
        self._stuck = False
        """Whether nothing more will be planned before an outcome is read."""
        self._keys: set[int] = set()  # hashes of the ids so far
        self._arrived: deque[Record] = deque()
        self._waiting: dict[int, Outcome[Any]] = {}  # outcomes that came before their turn
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._producer: asyncio.Task[None] | None = None
        self._codec: Any = None

    async def __aenter__(self) -> AsyncIterator[Outcome[Any]]:
        core = self._core
        await core.alive()
        self._token = core.meet(self._name, "map", self._contract.name)
        await core.alive()
        self._codec = end_codec(self._contract.output, self._contract.limits)
        self._prefix = core.log.subjects.end(Ref(core.run, self._contract.name, f"{self._token}:"))
        self._arrived.extend(core.claim_early(self._prefix))
        core.streams[self._prefix] = self._take
        self._producer = asyncio.get_running_loop().create_task(self._produce(), name="roost-fan-out")
        return self._outcomes()

    async def __aexit__(self, *exc_info: object) -> None:
        core = self._core
        core.streams.pop(self._prefix, None)
        core.hungry.discard(self._prefix)
        if self._producer is not None:
            self._producer.cancel()
            await asyncio.gather(self._producer, return_exceptions=True)
        await self._source.close()

    # Submitting ---------------------------------------------------------------------------------

    async def _produce(self) -> None:
        try:
            number = 0
            while not self._complete:
                await self._wait_for_room()
                await self._part(number)
                number += 1
                self._news.set()
        except asyncio.CancelledError:
            raise
        except BaseException:
            self._news.set()
            raise

    async def _wait_for_room(self) -> None:
        while self._count - self._read >= self._ahead:
            self._stuck = True
            self._news.set()
            self._room.clear()
            await self._room.wait()
        self._stuck = False

    async def _part(self, number: int) -> None:
        core = self._core
        token = chunk_token(self._token, number)
        planned = core.steps.get(token)
        if planned is not None and (planned["kind"] != "map" or planned["contract"] != self._contract.name):
            core.mismatch(
                self._name, f"map {self._contract.name}", f"{planned['kind']} {planned['contract']}"
            )
            await core.never()
        room = min(PART, self._ahead - (self._count - self._read))
        wanted = planned.get("count", 0) if planned is not None else room
        items = await self._source.take(wanted, patient=planned is not None)
        writes, known, hashed = self._tasks(items)
        last = self._source.done
        if planned is not None:
            if planned["input"] != hashed or len(items) != wanted:
                core.mismatch(self._name, "other items", f"{wanted} items in part {number} with another hash")
                await core.never()
            if planned.get("last"):
                last = True
        self._planned.update(known)
        if planned is None:
            record: StepRecord = {
                "kind": "map",
                "op": self._name,
                "contract": self._contract.name,
                "input": hashed,
                "by": core.instance,
                "at": round(core.log.now_s(), 6),
                "chunk": number,
                "count": len(items),
                "last": last,
            }
            await self._store(writes, token, record)
        self._count += len(items)
        self._complete = self._stuck = last

    def _tasks(self, items: list[Any]) -> tuple[list[Write], dict[str, tuple[str, int]], str]:
        """The records of some items, who they are, and a hash of them all."""
        core, contract = self._core, self._contract
        writes = []
        known: dict[str, tuple[str, int]] = {}
        hashed = hashlib.sha256()
        for at, item in enumerate(items):
            index = self._count + at
            key = self._key(item) if self._key is not None else str(index)
            ref = Ref(core.run, contract.name, f"{self._token}:{key_token(key)}")
            if hash(ref.id) in self._keys:
                raise ConfigError(
                    f"map {self._name}: two items have the key {key!r}; nothing of this part was submitted. "
                    "Give each item a key of its own."
                )
            subject = core.log.subjects.task(ref)
            data = contract.input_codec.encode(item, subject=subject)
            writes.append(Write(subject, data, create_once(core.trace.header)))
            known[ref.id] = (key, index)
            self._keys.add(hash(ref.id))
            hashed.update(f"{ref.id}:{len(data)}:".encode())
            hashed.update(data)
        return writes, known, hashed.hexdigest()[:32]

    async def _store(self, writes: list[Write], token: str, record: StepRecord) -> None:
        """Commit the tasks of a part and its plan as one."""
        core = self._core
        subject = core.subjects.step(token)
        while True:
            plan = Write(subject, encode(record), core.fence.guard)
            try:
                await core.commit([*writes, plan], stored=subject)
                return
            except JetStreamError as error:
                if error.err_code != WRONG_LAST_SEQUENCE:
                    raise
                writes = await self._missing(writes)

    async def _missing(self, writes: list[Write]) -> list[Write]:
        """Those tasks of a part that are not there. One that is, from an earlier life of this run, must be equal."""
        there = await self._core.log.newest([write.subject for write in writes])
        missing = []
        for write in writes:
            record = there.get(write.subject)
            if record is None:
                missing.append(write)
            elif record.data != write.data and not canonical_equal(record.data, write.data):
                self._core.mismatch(self._name, "another item", f"{record.subject} with another input")
                await self._core.never()
        return missing

    # Reading ------------------------------------------------------------------------------------

    def _take(self, record: Record) -> None:
        self._arrived.append(record)
        if len(self._arrived) >= PART:
            self._core.hungry.discard(self._prefix)
        self._news.set()

    async def _outcomes(self) -> AsyncIterator[Outcome[Any]]:
        while True:
            outcome = await self._next()
            if outcome is None:
                return
            self._read += 1
            self._room.set()
            yield outcome

    async def _next(self) -> Outcome[Any] | None:
        while True:
            if self._ordered and self._read in self._waiting:
                return self._waiting.pop(self._read)
            found = self._known()
            if found is not None:
                outcome = await self._decode(found)
                if not self._ordered or outcome.index == self._read:
                    return outcome
                self._waiting[outcome.index] = outcome
                continue
            if self._producer is not None and self._producer.done() and not self._producer.cancelled():
                error = self._producer.exception()
                if error is not None:
                    raise error
            if self._complete and self._read == self._count:
                return None
            await self._wait()

    async def _wait(self) -> None:
        """Wait until an outcome, a part or a failure is there. Hungry, so the feed goes on reading."""
        core = self._core
        self._news.clear()
        core.hungry.add(self._prefix)
        core.ends.wake()
        core.resting(1)
        try:
            await self._news.wait()
        finally:
            core.resting(-1)
            if self._arrived:
                core.hungry.discard(self._prefix)

    def _known(self) -> Record | None:
        """The oldest outcome, once this execution has planned its item: so that they repeat in log order.

        A resumed execution may read outcomes before it has planned that far, and then waits. Only when it
        cannot plan further (its look-ahead has become smaller) does it pass over the oldest.
        """
        for at, record in enumerate(self._arrived):
            if record.subject.rsplit(".", 1)[1] in self._planned:
                del self._arrived[at]
                return record
            if not self._stuck:
                return None
        return None

    async def _decode(self, record: Record) -> Outcome[Any]:
        core = self._core
        id = record.subject.rsplit(".", 1)[1]
        key, index = self._planned.pop(id)
        core.seen_s = max(core.seen_s, record.stored_s)
        try:
            outcome = decode_outcome(record, Ref(core.run, self._contract.name, id), key, self._codec)
        except InvalidMessage as error:
            core.mismatch(
                f"{self._name}[{key}]",
                "an output of another type",
                f"one of which {error.field} {error.reason}",
            )
            await core.never()
        return placed(outcome, index)


class _Source:
    """The items, from an iterable of either kind, taken when asked for."""

    def __init__(self, items: Iterable[Any] | AsyncIterable[Any]) -> None:
        self._sync = iter(items) if isinstance(items, Iterable) else None
        self._async = None if isinstance(items, Iterable) else aiter(items)
        self._next: asyncio.Future[Any] | None = None
        self._peeked: Any = _END
        self.done = False

    async def close(self) -> None:
        """Stop asking for the next item."""
        if self._next is not None:
            self._next.cancel()
            await asyncio.gather(self._next, return_exceptions=True)

    async def take(self, count: int, *, patient: bool) -> list[Any]:
        """Up to `count` items; fewer at the end, or when a source that is not waited for has none soon."""
        taken: list[Any] = []
        if self._sync is not None:
            if self._peeked is not _END:
                taken.append(self._peeked)
            for item in self._sync:
                if len(taken) >= count:
                    self._peeked = item
                    return taken
                taken.append(item)
            self._peeked = _END
            self.done = True
            return taken
        while len(taken) < count and not self.done:
            if self._next is None:
                self._next = asyncio.ensure_future(self._advance())
            ready, _ = await asyncio.wait([self._next], timeout=None if patient or not taken else SOON_S)
            if not ready:
                return taken
            item, self._next = self._next.result(), None
            if item is _END:
                self.done = True
            else:
                taken.append(item)
        return taken

    async def _advance(self) -> Any:
        return await anext(self._async, _END) if self._async is not None else _END


_END = object()
