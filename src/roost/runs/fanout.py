"""Fan-out: items become tasks in parts, each part one commit of its tasks and its plan.

A part is stored whole or not at all, under the coordinator's epoch; its plan holds how many items it has
and a hash of them. So a coordinator killed between any two instructions, resumed, finds each part either
planned with all its tasks or not there, submits nothing twice and loses nothing.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from roost._text import quoted
from roost.codec import canonical_equal
from roost.errors import ConfigError, InvalidMessage, JetStreamError
from roost.runs.arrivals import FEW, Arrivals
from roost.runs.core import RECORD_BYTES, Core
from roost.runs.functions import outcome_codec
from roost.runs.records import StepRecord, chunk_token, encode
from roost.runs.source import Source, SourceEnded
from roost.subjects import key_token
from roost.tasks.batch import Pairs, Write, create_once
from roost.tasks.deadlines import deadline_subject, due
from roost.tasks.log import Record
from roost.tasks.marks import encode_input, marks_of
from roost.tasks.order import place_of
from roost.tasks.outcome import Cancelled, Outcome, decode_outcome, whole
from roost.tasks.records import Ref
from roost.tasks.references import Reference, is_large
from roost.transport.jetstream import WRONG_LAST_SEQUENCE

AHEAD = 1000
"""Items that may be submitted and not yet read."""
PART = 200
"""Items of one commit at most: a larger one holds up other writers for longer (26 ms at 1,000)."""
PART_BYTES = 1024 * 1024
"""Of one commit, but for its first item: what is sent beyond the client's buffer would break off the commit."""
TURNS = 3
"""Turns of the loop after which a question is on the wire: the feed wakes, asks, and the client writes."""


@dataclass(frozen=True, slots=True)
class _Item:
    value: Any
    id: str
    key: str
    index: int
    write: Write
    behind: tuple[str, ...]
    """Subjects of the empty records behind it: its place in the queue of its order key, its deadline in the index."""


class Fanout:
    """One ``run.map(...)``: its block, and the outcomes in it."""

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
            raise ConfigError(f"map {name}: ahead = {quoted(ahead)}: must be an int >= 1")
        self._core = core
        self._contract = contract
        self._source = Source(items)
        self._key = key
        self._name = name
        self._ahead = ahead
        self._ordered = ordered
        self._token = ""
        self._stream = ("", "")
        self._codec: Any = None
        self._planned: dict[str, tuple[str, int]] = {}  # id -> key and index, until its outcome is taken
        self._cancelled: set[str] = set()  # ids whose tasks are gone, so that nothing refuses a second one
        self._number = 0  # of the part to be planned next
        self._count = 0  # items planned
        self._read = 0  # outcomes handed out
        self._complete = False
        self._behind = (
            False  # an outcome has come whose item is on record and not planned by this execution yet
        )
        self._arrivals = Arrivals()
        self._waiting: dict[int, Outcome[Any]] = {}  # outcomes that came before their turn
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._producer: asyncio.Task[None] | None = None
        self._closed = False
        self._told = False  # of the producer's failure
        self._asked = False  # for the next page, just now

    async def __aenter__(self) -> AsyncIterator[Outcome[Any]]:
        core, contract = self._core, self._contract
        self._token = await core.meet(self._name, "map", contract.name)
        self._codec = outcome_codec(contract)
        self._stream = (contract.name, self._token)
        core.inbox.streams[self._stream] = self._take
        if self._token in core.places:
            core.inbox.ends.rewind(core.places[self._token])
        self._producer = asyncio.get_running_loop().create_task(self._produce(), name="roost-fan-out")
        return self

    async def __aexit__(self, *exc_info: object) -> None:
        core = self._core
        self._closed = True
        self._news.set()
        core.inbox.streams.pop(self._stream, None)
        core.inbox.hungry.discard(self._token)
        if self._producer is not None:
            self._producer.cancel()
            await asyncio.gather(self._producer, return_exceptions=True)
            error = self._producer.exception() if not self._producer.cancelled() else None
            if error is not None and not self._told:
                core.log.journal.record("fan_out_failed", subject=f"{core.run} {self._name}", error=error)
        await self._source.close()

    # Submitting ---------------------------------------------------------------------------------

    async def _produce(self) -> None:
        try:
            while not self._complete:
                await self._wait_for_room()
                await self._part()
                self._news.set()
                await asyncio.sleep(0)  # parts on record need no server: others get their turn
        except SystemExit as error:  # it would end the loop
            raise SourceEnded(f"the items or their key called sys.exit({error.code!r})") from error
        finally:
            self._news.set()

    def _on_record(self) -> StepRecord | None:
        """The plan of the next part, if an earlier execution has stored it."""
        return self._core.steps.get(chunk_token(self._token, self._number))

    async def _wait_for_room(self) -> None:
        """Until there is room for a part that is worth its commit, not for each outcome that is read."""
        enough = min(PART, max(1, self._ahead // 2))
        while self._ahead - (self._count - self._read) < enough:
            if self._behind and self._on_record() is not None:
                return  # its tasks are there already, and an outcome among them is next
            self._room.clear()
            await self._room.wait()

    async def _part(self) -> None:
        token = chunk_token(self._token, self._number)
        planned = self._on_record()
        if planned is not None:
            await self._replay(planned)
            del self._core.steps[token]
        else:
            await self._plan(token)
        self._number += 1

    async def _replay(self, planned: StepRecord) -> None:
        """A part that an earlier execution has stored: the items must be the same."""
        wanted = planned.get("count", 0)
        values = await self._source.take(wanted, patient=True)
        what = f"part {self._number} of {wanted} items"
        if len(values) < wanted:
            await self._core.mismatch(self._name, f"{len(values)} items there", what)
        places = self._recognised(values, planned["input"])
        if places is None:
            items = list(self._items(values))
            await self._compare(items)
            places = {item.id: (item.key, item.index) for item in items}
        if planned.get("last") and not await self._source.over():
            await self._core.mismatch(self._name, "more items", f"{what}, which is the last")
        self._planned.update(places)
        self._count += wanted
        self._behind = False
        self._complete = bool(planned.get("last"))

    async def _plan(self, token: str) -> None:
        """Submit the next items, and that they are, in one commit."""
        core = self._core
        values = await self._source.take(min(PART, self._ahead - (self._count - self._read)), patient=False)
        items = _cut(self._items(values))
        self._source.put_back(values[len(items) :])
        self._refuse_equal_keys(items)
        writes = [await self._written(item.write) for item in items]
        await core.make_room(
            self._contract.name, len(items), sum(len(write.data) + RECORD_BYTES for write in writes)
        )
        last = self._source.done
        record: StepRecord = {
            "kind": "map",
            "op": self._name,
            "contract": self._contract.name,
            "input": _digest((item.id, item.write.data) for item in items),
            "by": core.instance,
            "at": round(core.log.now_s(), 6),
            "chunk": self._number,
            "count": len(items),
            "last": last,
        }
        self._planned.update({item.id: (item.key, item.index) for item in items})  # outcomes may be quick
        try:
            writes += [Write(subject, b"", ()) for item in items for subject in item.behind]
            await core.commit(writes, core.subjects.step(token), encode(record))
        except JetStreamError as error:
            if error.err_code == WRONG_LAST_SEQUENCE:
                raise await self._taken(items) from error
            raise
        self._count += len(items)
        self._complete = last

    def _recognised(self, values: list[Any], input: str) -> dict[str, tuple[str, int]] | None:
        """The next items' keys and indices by id, if they are byte for byte those of which `input` is the hash.

        Then they were checked before they were stored, and are not checked again: most of a long resumption.
        None if they are others, or cannot be told. Raises UnsafeToken, and what `key` raises.
        """
        dump = self._contract.input_codec.dump
        places: dict[str, tuple[str, int]] = {}
        dumped: list[tuple[str, bytes]] = []
        for index, value in enumerate(values, self._count):
            key = self._key(value) if self._key is not None else str(index)
            id = f"{self._token}:{key_token(key)}"
            data = dump(value)
            if data is None:
                return None
            places[id] = (key, index)
            dumped.append((id, data))
        return places if _digest(dumped) == input else None

    async def _written(self, write: Write) -> Write:
        """The record of an item as it is stored: it refers to a large input."""
        data, large = await self._core.given(write.subject, write.data)
        return Write(write.subject, data, (*write.headers, *large))

    def _items(self, values: list[Any]) -> Iterator[_Item]:
        """The next items as records to be stored, each when it is asked for.

        Raises InvalidMessage, UnsafeToken, and what `key` raises.
        """
        core, contract = self._core, self._contract
        header = create_once(core.trace.header)
        due_s = due(contract, core.log.now_s(), core.due_s)
        for index, value in enumerate(values, self._count):
            key = self._key(value) if self._key is not None else str(index)
            id = f"{self._token}:{key_token(key)}"
            ref = Ref(core.run, contract.name, id)
            subject = core.log.subjects.task(ref)
            data = encode_input(contract, value, subject)
            marks = marks_of(contract, value, due_s)
            behind = self._beside(ref, marks) if marks else ()
            yield _Item(value, id, key, index, Write(subject, data, (*header, *marks)), behind)

    def _beside(self, ref: Ref, marks: Pairs) -> tuple[str, ...]:
        """What has its deadline from the run alone is found through the run: it has no record in the index."""
        subjects = self._core.log.subjects
        place = place_of(subjects, ref, marks)
        deadline = deadline_subject(subjects, ref, marks) if self._contract.deadline_s is not None else ""
        return tuple(one for one in (place, deadline) if one)

    def _refuse_equal_keys(self, items: list[_Item]) -> None:
        seen: set[str] = set()
        for item in items:
            if item.id in seen or item.id in self._planned or item.id in self._cancelled:
                raise self._ambiguous(item)
            seen.add(item.id)

    async def _taken(self, items: list[_Item]) -> ConfigError:
        """Why the server has refused to create these tasks: one is there, and no plan of this run has it."""
        core = self._core
        there = await core.read(lambda: core.log.newest([item.write.subject for item in items]))
        first = next((item for item in items if item.write.subject in there), items[0])
        return self._ambiguous(first)

    def _ambiguous(self, item: _Item) -> ConfigError:
        return ConfigError(
            f"map {self._name}: item {item.index} has the key {quoted(item.key)}, which another item has; nothing of "
            "its part was submitted. Give each item a key of its own."
        )

    async def _compare(self, items: list[_Item]) -> None:
        """Items whose bytes differ from those on record may still be equal: a set has no order."""
        core = self._core
        subjects = [item.write.subject for item in items]
        there = await core.read(lambda: core.log.newest(subjects, leader=True))
        ends = [core.log.subjects.end(Ref(core.run, self._contract.name, item.id)) for item in items]
        gone = [end for end, subject in zip(ends, subjects, strict=True) if subject not in there]
        cancelled = await core.read(lambda: core.log.newest(gone, leader=True)) if gone else {}
        for item, end in zip(items, ends, strict=True):
            record = there.get(item.write.subject)
            if record is None and end not in cancelled:
                await core.mismatch(
                    self._name, f"an item with the key {quoted(item.key)}", "none with this key"
                )
            if record is not None and not await same_input(
                core, self._contract, record, item.write.data, item.value
            ):
                await core.mismatch(
                    self._name,
                    f"another input for the key {quoted(item.key)}",
                    f"the one in {record.subject}",
                )

    # Reading ------------------------------------------------------------------------------------

    def _take(self, record: Record) -> None:
        if self._arrivals.offer(record):
            self._news.set()
        if not self._arrivals.few:
            self._core.inbox.hungry.discard(self._token)

    def __aiter__(self) -> AsyncIterator[Outcome[Any]]:
        return self

    async def __anext__(self) -> Outcome[Any]:
        core = self._core
        while True:
            if core.over:
                await core.alive()
            if self._producer is None:
                raise ConfigError(
                    f"map {self._name} was not begun: write `async with run.map(...) as outcomes`, then "
                    "`async for outcome in outcomes`"
                )
            if self._closed:
                raise ConfigError(f"map {self._name}: its outcomes can be read inside of its block only")
            outcome = await self._next()
            if outcome is not None:
                self._read += 1
                self._room.set()
                return outcome
            producer = self._producer
            if producer is not None and producer.done() and not self._complete:
                self._told = True
                if producer.cancelled():
                    raise SourceEnded(
                        "the items or their key raised CancelledError although nobody cancelled them"
                    )
                raise producer.exception() or AssertionError("a fan-out stopped planning before its end")
            if self._complete and self._read == self._count:
                raise StopAsyncIteration
            await self._wait()

    async def _next(self) -> Outcome[Any] | None:
        """The next outcome, None if it is not there."""
        while True:
            if self._ordered and self._read in self._waiting:
                return self._waiting.pop(self._read)
            if len(self._arrivals.records) == FEW and not self._asked:
                await self._read_on()
                continue
            self._asked = False
            record = self._known()
            if record is None:
                return None
            outcome = await self._decode(record)
            if not self._ordered or outcome.index == self._read:
                return outcome
            self._waiting[outcome.index] = outcome

    def _known(self) -> Record | None:
        """The oldest outcome, once this execution has planned its item: so that they repeat in log order."""
        records = self._arrivals.records
        while records:
            if records[0].subject.rsplit(".", 1)[1] in self._planned:
                return records.popleft()
            if self._on_record() is not None:
                self._behind = True
                self._room.set()
                return None
            stranger = records.popleft()
            self._core.log.journal.record(
                "foreign_record", subject=stranger.subject, reason="an outcome of no item of this fan-out"
            )
        return None

    async def _read_on(self) -> None:
        """Ask for the next page, which comes while these are worked on.

        Outcomes that are there are handed out without a pause; so nothing would be asked until the last of them.
        """
        self._asked = True
        self._want_more()
        for _ in range(TURNS):
            await asyncio.sleep(0)

    def _want_more(self) -> None:
        inbox = self._core.inbox
        missed = self._arrivals.resume()
        if missed:
            inbox.ends.rewind(missed)
        inbox.hungry.add(self._token)
        inbox.ends.wake()

    async def _wait(self) -> None:
        """Wait until an outcome, a part or a failure is there."""
        core = self._core
        self._news.clear()
        core.activity.wait_begins()
        try:
            if not self._arrivals.records:  # else the next one waits for its item to be planned
                self._want_more()
            await self._news.wait()
        finally:
            core.activity.wait_ends()
            if not self._arrivals.few:
                core.inbox.hungry.discard(self._token)

    async def _decode(self, record: Record) -> Outcome[Any]:
        core = self._core
        id = record.subject.rsplit(".", 1)[1]
        key, index = self._planned.pop(id)
        core.saw_at(record.stored_s)
        try:
            ref = Ref(core.run, self._contract.name, id)
            record = await whole(core.log, record, self._codec)
            outcome = decode_outcome(record, ref, key, self._codec, index)
        except InvalidMessage as error:
            await core.mismatch(
                f"{self._name}[{key}]",
                "an output of another type",
                f"one of which {error.field} {error.reason}",
            )
        if isinstance(outcome, Cancelled):
            self._cancelled.add(id)
        return outcome


async def same_input(core: Core, contract: Any, record: Record, data: bytes, value: Any) -> bool:
    """Whether what is on record is what is asked for now, in whatever order its sets were written."""
    recorded = record.data
    if is_large(record.marks):
        try:
            if Reference.of(recorded, subject=record.subject).fits(data):
                return True
            recorded = await core.log.objects.fetch(record.subject, recorded)
        except InvalidMessage:  # it is lost
            return False
    if recorded == data or canonical_equal(recorded, data):
        return True
    try:
        return bool(contract.input_codec.decode(recorded, subject="") == value)
    except (InvalidMessage, TypeError, ValueError):
        return False


def _digest(items: Iterable[tuple[str, bytes]]) -> str:
    """A hash of items, each an id and what it was encoded to."""
    hashed = hashlib.sha256()
    for id, data in items:
        hashed.update(b"%b:%d:%b" % (id.encode(), len(data), data))
    return hashed.hexdigest()[:32]


def _cut(items: Iterable[_Item]) -> list[_Item]:
    """As many items as one commit should have: no more of them are encoded at once."""
    size = 0
    cut: list[_Item] = []
    for item in items:
        size += len(item.write.data) + RECORD_BYTES
        if cut and size > PART_BYTES:
            break
        cut.append(item)
    return cut
