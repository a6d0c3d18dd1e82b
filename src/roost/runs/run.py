"""What a workflow function gets besides its input: its durable operations."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, ParamSpec, TypeVar

from pydantic_core import to_json
from typing_extensions import TypeVar as DefaultTypeVar

from roost._text import quoted
from roost.codec import Codec
from roost.contracts import Signal, Task, Workflow
from roost.errors import InvalidMessage, RequestTimeout
from roost.runs.core import Core
from roost.runs.fanout import AHEAD, Fanout, same_input
from roost.runs.functions import call, codec_of, encoded, outcome_codec, returned_type
from roost.runs.inbox import Awaited
from roost.runs.inputs import input_digest
from roost.runs.newest import newest_under
from roost.runs.records import StepRecord
from roost.tasks.batch import Write
from roost.tasks.deadlines import deadline_subject, due
from roost.tasks.log import Record
from roost.tasks.marks import encode_input, marks_of
from roost.tasks.outcome import Outcome, decode_outcome, value_of, whole
from roost.tasks.records import Ref

I = TypeVar("I")
O = TypeVar("O")
M = TypeVar("M")
R = TypeVar("R")
P = ParamSpec("P")
D = DefaultTypeVar("D", default=None)


class Run(Generic[D]):
    """One execution of a workflow.

    Each operation has a name, its contract's or function's unless ``name=`` says another, and is on record
    under it: after a crash the function runs from its start again and each operation on record returns
    what is recorded. So between operations a workflow may compute, but not ask the clock, the dice or the
    world: `now`, `random` and `step` do that. (`asyncio.timeout` asks the clock: give the task or the wait
    a limit of its own instead.)

    A run that may not go on here, because another coordinator has taken it over or its code does not fit the
    record, is cancelled: each operation raises CancelledError from then on.
    """

    __slots__ = ("_core", "_dice", "deps")

    deps: D
    """What the agent's lifespan yielded."""

    def __init__(self, core: Core, deps: D) -> None:
        self._core = core
        self._dice = random.Random(core.run)
        self.deps = deps

    @property
    def id(self) -> str:
        """The id of this run: what `Bus.signal` and ``roost runs show`` take."""
        return self._core.run

    def now(self) -> float:
        """Seconds since 1970, server time, of the newest record that this execution has used.

        It repeats on resume, except between operations that run side by side: there ask in a step.
        """
        return self._core.seen_s

    def random(self) -> float:
        """A random number from 0 to 1; the n-th call returns the same on every resume."""
        return self._dice.random()

    async def step(self, name: str, fn: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """The result of ``fn(*args, **kwargs)``: called until it has once returned, then read from the record.

        The result is decoded by the function's return annotation, the first time as well; without one it is
        what its JSON is read as. What the function raises is raised here and leaves no record. A kill between
        effect and record repeats the call. `fn` is async (a sync one is run on a thread). Raises ConfigError for an
        ambiguous name and a type that has no JSON, before anything is called; InvalidMessage (TooLarge) for a result
        that is no JSON or larger than 256 KiB: a workflow that fails of it is a dead letter at once.
        """
        core = self._core
        codec = codec_of(returned_type(fn))
        token = await core.meet(name, "step", "")
        given = input_digest(args, kwargs)
        subject = core.subjects.step(token)
        there = core.steps.pop(token, None)
        if there is not None:
            if there["input"] != given:
                await core.mismatch(name, "another input", "an input with another hash")
            core.saw(there)
            recorded: R = await self._recorded(name, codec, there.get("value"), subject)
            return recorded
        try:
            await core.activity.step_begins()
            try:
                await core.certain()
                started = core.log.now_s()
                result = await call(fn, args, kwargs)
                try:
                    value = encoded(codec, result, subject=subject)
                except InvalidMessage as error:
                    raise error.of_result(f"step {quoted(name)}") from error
            finally:
                core.activity.step_ends()
        except BaseException:
            core.unmeet(token)
            raise
        record: StepRecord = {
            "kind": "step",
            "op": name,
            "contract": "",
            "input": given,
            "by": core.instance,
            "at": round(started, 6),
            "s": round(core.log.now_s() - started, 6),
        }
        await core.record(token, record, value)
        decoded: R = codec.decode(value, subject=subject)
        return decoded

    async def _recorded(self, name: str, codec: Codec[Any], value: Any, subject: str) -> Any:
        """A recorded value as the code's type; a value that does not fit it parks the run."""
        try:
            return codec.decode(to_json(value), subject=subject)
        except InvalidMessage as error:
            reason = f"one of which {error.field} {error.reason}"
            await self._core.mismatch(name, "a result of another type", reason)

    async def call(self, contract: Task[I, O] | Workflow[I, O], value: I, *, name: str | None = None) -> O:
        """Submit a task, or start a workflow below this one, and return its value.

        Raises TaskDead or TaskCancelled when it has none; InvalidMessage; ConfigError for an ambiguous name.
        """
        core = self._core
        op = name if name is not None else contract.name
        ref = Ref(core.run, contract.name, await core.meet(op, "call", contract.name))
        subject = core.log.subjects.task(ref)
        data = encode_input(contract, value, subject)
        awaited = core.inbox.expect(ref)
        try:
            there = None if core.fresh else await core.called(ref.id)
            if there is None:
                record_data, large = await core.given(subject, data)
                await core.make_room(contract.name, 1, len(record_data))
                marks = marks_of(contract, value, due(contract, core.log.now_s(), core.due_s)) + large
                deadline = (
                    deadline_subject(core.log.subjects, ref, marks) if contract.deadline_s is not None else ""
                )
                index = [Write(deadline, b"", ())] if deadline else []
                await core.commit(index, subject, record_data, trace=core.trace.header, marks=marks)
            elif there[0] != contract.name:
                await core.mismatch(op, f"call {contract.name}", f"call {there[0]}")
            else:
                await self._recall(contract, op, ref, there[1], data, value, awaited)
            record = await awaited.record()
            core.saw_at(record.stored_s)
        finally:
            awaited.over()
        try:
            codec = outcome_codec(contract)
            record = await whole(core.log, record, codec)
            outcome: Outcome[O] = decode_outcome(record, ref, op, codec)
        except InvalidMessage as error:
            reason = f"one of which {error.field} {error.reason}"
            await core.mismatch(op, "an output of another type", reason)
        return value_of(outcome, ref)

    async def _recall(
        self, contract: Any, op: str, ref: Ref, newest: Record, data: bytes, value: Any, awaited: Awaited
    ) -> None:
        """A call that is on record, with `newest` of what is known of it: its input must be the same."""
        core = self._core
        subject = core.log.subjects.task(ref)
        task: Record | None = newest
        if newest.subject != subject:
            end = await core.read(lambda: newest_under(core.log, core.log.subjects.end(ref)))
            if end is not None:
                awaited.found(end)
            task = await core.read(lambda: core.log.last(subject, leader=True))
        # The task of a cancelled call is gone.
        if task is not None and not await same_input(core, contract, task, data, value):
            await core.mismatch(op, "another input", f"the one in {subject}")

    def map(
        self,
        contract: Task[I, O] | Workflow[I, O],
        items: Iterable[I] | AsyncIterable[I],
        *,
        key: Callable[[I], str] | None = None,
        name: str | None = None,
        ahead: int = AHEAD,
        ordered: bool = False,
    ) -> AbstractAsyncContextManager[Any]:
        """Fan out: ``async with run.map(task, items) as outcomes: async for outcome in outcomes: ...``.

        Items are taken while at most `ahead` of them are submitted and not yet read, so they may be
        millions. Outcomes are values, with `key` (of the item, or its index as text) and `index`; they
        come as they land, or with `ordered` in the order of the items. Leaving the block early stops
        submitting; what was submitted goes on. On resume `items` must be the same in the same order.
        """
        return Fanout(
            self._core, contract, items, key=key, name=name or contract.name, ahead=ahead, ordered=ordered
        )

    async def wait_for(
        self, signal: Signal[M], *, timeout_s: float | None = None, name: str | None = None
    ) -> M:
        """The next signal of this kind, oldest first; sent by `Bus.signal`, before or during the wait.

        A wait holds no slot of the agent's concurrency and may last for days. Raises RequestTimeout when
        none came within `timeout_s` seconds of the wait's first begin, InvalidMessage never: a signal that
        does not fit is counted and passed over.
        """
        core = self._core
        op = name if name is not None else signal.name
        token = await core.meet(op, "signal", signal.name)
        subject = core.subjects.step(token)
        there = core.steps.pop(token, None)
        until = await self._until(op, token, signal.name, timeout_s, ended=there is not None)
        if there is not None:
            core.saw(there)
            if not there.get("seq"):
                raise _no_signal(core.run, signal.name, timeout_s or 0.0)
            value: M = await self._recorded(op, signal.codec, there.get("value"), subject)
            return value
        record: StepRecord = {
            "kind": "signal",
            "op": op,
            "contract": signal.name,
            "input": "",
            "by": core.instance,
            "at": 0.0,
            "seq": 0,
        }
        while True:
            sent = await self._sent(signal.name, until)
            record["at"] = round(core.log.now_s(), 6)
            if sent is None:
                await core.record(token, record)
                raise _no_signal(core.run, signal.name, timeout_s or 0.0)
            core.inbox.take_signal(sent.seq)
            try:
                decoded = signal.codec.decode(sent.data, subject=sent.subject)
            except InvalidMessage as error:
                core.log.journal.record("message_refused", subject=sent.subject, reason=str(error))
                continue
            record["seq"] = sent.seq
            await core.record(token, record, sent.data)
            return decoded

    async def _sent(self, name: str, until: float | None) -> Record | None:
        """The next signal of a name; None when there is none by `until`, server time."""
        core = self._core
        if until is None:
            return await core.inbox.signal(name)
        try:
            async with asyncio.timeout(max(0.0, until - core.log.now_s())):
                return await core.inbox.signal(name)
        except TimeoutError:  # it may have come in time, while this run was not at work
            return await core.inbox.signal_until(name, until)

    async def _until(
        self, op: str, token: str, contract: str, timeout_s: float | None, *, ended: bool
    ) -> float | None:
        """Server time at which a wait ends; on record, so that a resumed wait does not begin anew."""
        core = self._core
        mark = f"{token}:wait"
        there = core.steps.pop(mark, None)
        if there is not None:
            core.saw(there)
        if timeout_s is None or ended:
            return None
        if there is not None and "until" in there:
            return there["until"]
        now = core.log.now_s()
        record: StepRecord = {
            "kind": "wait",
            "op": op,
            "contract": contract,
            "input": "",
            "by": core.instance,
            "at": round(now, 6),
            "until": now + timeout_s,
        }
        await core.record(mark, record)
        return now + timeout_s


def _no_signal(run: str, name: str, timeout_s: float) -> RequestTimeout:
    return RequestTimeout(
        f"signal {name}",
        timeout_s,
        f"no signal {name!r} was sent to run {run} within {timeout_s:g} s of its wait",
    )
