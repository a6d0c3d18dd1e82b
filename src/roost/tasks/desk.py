"""Where one bus hands in its tasks: values become records, and what is stored gets a handle."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence, Sized
from datetime import datetime
from typing import Any, TypeVar

from roost.codec import Codec
from roost.contracts import Task, Workflow, check_kind
from roost.errors import ConfigError, Conflict, StoreFull, SubmissionUnknown
from roost.observe import Trace
from roost.subjects import key_token
from roost.tasks.dead import find_dead, input_of, note_replay, replay_ref
from roost.tasks.deadlines import due
from roost.tasks.delays import begin_at
from roost.tasks.handle import Cancel, Handle, Why
from roost.tasks.log import Log
from roost.tasks.marks import begin_mark, encode_input, marks_of, renewed
from roost.tasks.outcome import DeadLetter
from roost.tasks.records import Ref, end_codec
from roost.tasks.submit import BATCH, Item, Stored, Submitter, new_id
from roost.tasks.waiting import Waiter
from roost.tasks.windows import windows

I = TypeVar("I")
O = TypeVar("O")

AHEAD = 4 * BATCH
"""Values that are read before they are stored."""

_end_codecs: dict[Any, Codec[Any]] = {}
"""By type of the output and its limits; to build one takes longer than many tasks."""


class Desk:
    """`Bus` and `Context` say what each of these does and raises."""

    def __init__(self, log: Log, cancel: Cancel, why: Why) -> None:
        self.waiter = Waiter(log)
        self._log = log
        self._cancel = cancel
        self._why = why
        self._submitter = Submitter(log)

    async def submit(
        self,
        task: Task[I, O] | Workflow[I, O],
        value: I,
        *,
        key: str | None,
        delay_s: float | None = None,
        at: datetime | None = None,
        timeout_s: float,
        trace: Trace,
    ) -> Handle[O]:
        check_kind("bus.submit", task, Task, Workflow)
        ref = _ref(task, key)
        data = encode_input(task, value, self._log.subjects.task(ref))
        covered = self.waiter.covers(task.name)
        begin_ms = await self._begin_ms(delay_s, at, keyed=key is not None, patience_s=timeout_s)
        due_s = await self._due_s(task, begin_ms, patience_s=timeout_s)
        marks = marks_of(task, value, due_s) + begin_mark(begin_ms)
        item = await self._submitter.item(ref, data, trace.header, marks, timeout_s=timeout_s)
        stored = await self._submitter.submit(item, timeout_s=timeout_s)
        created = stored.seq > 0
        return self._handle(task, ref, key, created=created, fresh=created and covered)

    async def submit_many(
        self,
        task: Task[I, O],
        values: Iterable[I] | AsyncIterable[I],
        *,
        keys: Sequence[str] | None,
        key: Callable[[I], str] | None,
        timeout_s: float,
        trace: Trace,
    ) -> list[Handle[O]]:
        if keys is not None:
            if key is not None:
                raise ConfigError("give keys, or a function key that names each value, not both")
            if not isinstance(values, Sized):
                raise ConfigError("keys go with values that have a length; give a function key for others")
            if len(keys) != len(values):
                raise ConfigError(
                    f"{len(values)} values but {len(keys)} keys; give one key for each value, or none"
                )
            left = iter(keys)

            def next_key(value: I) -> str:
                return next(left)

            key = next_key
        each = self.submit_each(task, values, key=key, timeout_s=timeout_s, trace=trace)
        return [handle async for handle in each]

    async def submit_each(
        self,
        task: Task[I, O],
        values: Iterable[I] | AsyncIterable[I],
        *,
        key: Callable[[I], str] | None,
        timeout_s: float,
        trace: Trace,
    ) -> AsyncIterator[Handle[O]]:
        check_kind("bus.submit_many", task, Task, Workflow)
        count = 0
        async for window in windows(values, AHEAD):
            keys = [key(value) for value in window] if key is not None else [None] * len(window)
            due_s = await self._due_s(task, patience_s=timeout_s)
            items: dict[Ref, Item] = {}
            refs: list[Ref] = []
            failure: StoreFull | SubmissionUnknown | None = None
            for value, name in zip(window, keys, strict=True):
                ref = _ref(task, name)
                subject = self._log.subjects.task(ref)
                data = encode_input(task, value, subject)
                if ref not in items:
                    marks = marks_of(task, value, due_s)
                    try:
                        items[ref] = await self._submitter.item(
                            ref, data, trace.header, marks, timeout_s=timeout_s
                        )
                    except (StoreFull, SubmissionUnknown) as error:  # those before it are stored all the same
                        failure = error
                        break
                elif not items[ref].holds(data):
                    raise Conflict(
                        key=name or ref.id,
                        subject=subject,
                        text=f"key {name!r} stands for two different values in one call; neither was stored. Give "
                        "each value a key of its own.",
                    )
                refs.append(ref)
            done: dict[Ref, Stored] = {}
            try:
                await self._submitter.submit_many(list(items.values()), done, timeout_s=timeout_s)
            except (StoreFull, SubmissionUnknown) as error:
                failure = error
            for ref, name in zip(refs, keys, strict=False):
                stored = done.get(ref)
                if stored is None:
                    break
                count += 1
                yield self._handle(task, ref, name, created=stored.seq > 0)
            if isinstance(failure, StoreFull):
                raise StoreFull(
                    stream=failure.stream,
                    used=failure.used,
                    limit=failure.limit,
                    open=failure.open,
                    stored=count,
                    refusal=failure.refusal,
                ) from failure
            if failure is not None:
                raise SubmissionUnknown(failure.ids, stored=count) from failure

    async def replay(
        self, task: Task[I, O], letter: DeadLetter | str, value: I | None, *, timeout_s: float
    ) -> Handle[O]:
        ref = letter.ref if isinstance(letter, DeadLetter) else Ref.parse(letter, task.name)
        if ref.name != task.name:
            raise ConfigError(
                f"dead letter {ref} belongs to task {ref.name!r}, not to {task.name!r}; nothing was submitted"
            )
        current = await find_dead(self._log, ref)
        target = replay_ref(letter if isinstance(letter, DeadLetter) else current)
        subject = self._log.subjects.task(target)
        data = await input_of(self._log, current) if value is None else encode_input(task, value, subject)
        due_s = await self._due_s(task, patience_s=timeout_s)
        marks = renewed(current.marks, due_s) if value is None else marks_of(task, value, due_s)
        item = await self._submitter.item(target, data, Trace.new().header, marks, timeout_s=timeout_s)
        stored = await self._submitter.submit(item, timeout_s=timeout_s)
        await note_replay(self._log, current, target)
        return self._handle(task, target, None, created=stored.seq > 0)

    async def _begin_ms(
        self, delay_s: float | None, at: datetime | None, *, keyed: bool, patience_s: float
    ) -> int | None:
        """When a task that is submitted now may begin, by the server's clock. Raises ConfigError."""
        if delay_s is None and at is None:
            return None
        await self._log.ensure(patience_s=patience_s)
        return begin_at(delay_s, at, now_s=self._log.now_s(), keyed=keyed)

    async def _due_s(
        self, task: Task[Any, Any] | Workflow[Any, Any], begin_ms: int | None = None, *, patience_s: float
    ) -> float | None:
        """When a task that is submitted now must be over; what time it is there is known by the log."""
        if task.deadline_s is None:
            return None
        await self._log.ensure(patience_s=patience_s)
        return due(task, begin_ms / 1000 if begin_ms is not None else self._log.now_s())

    def handle(self, task: Task[I, O] | Workflow[I, O], id: str) -> Handle[O]:
        return self._handle(task, Ref.parse(id, task.name), None, created=False)

    def _handle(
        self,
        task: Task[I, O] | Workflow[I, O],
        ref: Ref,
        key: str | None,
        *,
        created: bool,
        fresh: bool = False,
    ) -> Handle[O]:
        codec = _end_codecs.get((task.output, task.limits))
        if codec is None:
            codec = _end_codecs[task.output, task.limits] = end_codec(task.output, task.limits)
        name = key if key is not None else ref.id
        return Handle(
            ref, name, self._log, self.waiter, codec, self._cancel, self._why, created=created, fresh=fresh
        )


def _ref(task: Task[Any, Any] | Workflow[Any, Any], key: str | None) -> Ref:
    """The reference of a task that stands alone: its run is itself.

    A chosen key counts within its contract, so the contract's name is part of the id.
    """
    if key is not None:
        id = f"{task.name}:{key_token(key)}"
    else:
        id = f"{task.name}:{new_id()}" if isinstance(task, Workflow) else new_id()
    return Ref(id, task.name, id)
