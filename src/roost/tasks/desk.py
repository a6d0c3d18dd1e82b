"""Where one bus hands in its tasks: values become records, and what is stored gets a handle."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeVar

from roost.codec import Codec
from roost.contracts import Task, Workflow
from roost.errors import ConfigError, Conflict
from roost.observe import Trace
from roost.subjects import key_token
from roost.tasks.dead import find_dead, note_replay, replay_ref
from roost.tasks.handle import Cancel, Handle
from roost.tasks.log import Log
from roost.tasks.marks import marks_of
from roost.tasks.outcome import DeadLetter
from roost.tasks.records import Ref, end_codec
from roost.tasks.submit import Item, Submitter, new_id
from roost.tasks.waiting import Waiter

I = TypeVar("I")
O = TypeVar("O")

_end_codecs: dict[Any, Codec[Any]] = {}
"""By type of the output and its limits; to build one takes longer than many tasks."""


class Desk:
    """`Bus` and `Context` say what each of these does and raises."""

    def __init__(self, log: Log, cancel: Cancel) -> None:
        self.waiter = Waiter(log)
        self._log = log
        self._cancel = cancel
        self._submitter = Submitter(log)

    async def submit(
        self, task: Task[I, O] | Workflow[I, O], value: I, *, key: str | None, timeout_s: float, trace: Trace
    ) -> Handle[O]:
        ref = _ref(task, key)
        data = task.input_codec.encode(value, subject=self._log.subjects.task(ref))
        covered = self.waiter.covers(task.name)
        stored = await self._submitter.submit(
            Item(ref, data, trace.header, marks_of(task, value)), timeout_s=timeout_s
        )
        created = stored.seq > 0
        return self._handle(task, ref, key, created=created, fresh=created and covered)

    async def submit_many(
        self,
        task: Task[I, O],
        values: Sequence[I],
        *,
        keys: Sequence[str] | None,
        timeout_s: float,
        trace: Trace,
    ) -> list[Handle[O]]:
        if keys is not None and len(keys) != len(values):
            raise ConfigError(
                f"{len(values)} values but {len(keys)} keys; give one key for each value, or none"
            )
        items: dict[Ref, Item] = {}
        refs: list[Ref] = []
        for number, value in enumerate(values):
            key = keys[number] if keys is not None else None
            ref = _ref(task, key)
            subject = self._log.subjects.task(ref)
            data = task.input_codec.encode(value, subject=subject)
            twin = items.setdefault(ref, Item(ref, data, trace.header, marks_of(task, value)))
            if twin.data != data:
                raise Conflict(
                    key=key or ref.id,
                    subject=subject,
                    text=f"key {key!r} stands for two different values in one call; nothing was stored. Give each "
                    "value a key of its own.",
                )
            refs.append(ref)
        stored = await self._submitter.submit_many(list(items.values()), timeout_s=timeout_s)
        created = {one.ref: one.seq > 0 for one in stored}
        return [
            self._handle(task, ref, keys[number] if keys is not None else None, created=created[ref])
            for number, ref in enumerate(refs)
        ]

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
        data = current.input if value is None else task.input_codec.encode(value, subject=subject)
        marks = current.marks if value is None else marks_of(task, value)
        item = Item(target, data, Trace.new().header, marks)
        stored = await self._submitter.submit(item, timeout_s=timeout_s)
        await note_replay(self._log, current, target)
        return self._handle(task, target, None, created=stored.seq > 0)

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
        return Handle(ref, name, self._log, self.waiter, codec, self._cancel, created=created, fresh=fresh)


def _ref(task: Task[Any, Any] | Workflow[Any, Any], key: str | None) -> Ref:
    """The reference of a task that stands alone: its run is itself.

    A chosen key counts within its contract, so the contract's name is part of the id.
    """
    if key is not None:
        id = f"{task.name}:{key_token(key)}"
    else:
        id = f"{task.name}:{new_id()}" if isinstance(task, Workflow) else new_id()
    return Ref(id, task.name, id)
