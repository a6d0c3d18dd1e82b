"""What a workflow function gets besides its input: its durable operations."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager
from typing import Any, Generic, ParamSpec, TypeVar

from pydantic_core import to_json
from typing_extensions import TypeVar as DefaultTypeVar

from roost.codec import Codec, Limits, canonical_equal
from roost.contracts import Signal, Task, Workflow
from roost.errors import InvalidMessage, RequestTimeout
from roost.runs.core import Core
from roost.runs.fanout import AHEAD, Fanout
from roost.runs.inputs import input_digest
from roost.runs.records import StepRecord
from roost.tasks.batch import Write, guarded
from roost.tasks.once import result_type
from roost.tasks.outcome import Outcome, decode_outcome, value_of
from roost.tasks.records import Ref, end_codec

I = TypeVar("I")
O = TypeVar("O")
M = TypeVar("M")
R = TypeVar("R")
P = ParamSpec("P")
D = DefaultTypeVar("D", default=None)

VALUE_LIMITS = Limits(max_bytes=256 * 1024)


class Run(Generic[D]):
    """One execution of a workflow.

    Each operation has a name, its contract's or function's unless ``name=`` says another, and is on record
    under it: after a crash the function runs from its start again and each operation on record returns
    what is recorded. So between operations a workflow may compute, but not ask the clock, the dice or the
    world: `now`, `random` and `step` do that.
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
        """Seconds since 1970, server time, of the newest record this execution has used: the same on every resume."""
        return self._core.seen_s

    def random(self) -> float:
        """A random number from 0 to 1; the n-th call returns the same on every resume."""
        return self._dice.random()

    async def step(self, name: str, fn: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """The result of ``fn(*args, **kwargs)``: called until it has once returned, then read from the record.

        The result is decoded by the function's return annotation, the first time as well. What the
        function raises is raised here and leaves no record. A kill between effect and record repeats the
        call. Raises ConfigError for an ambiguous name, InvalidMessage for a result that is no JSON or
        larger than 256 KiB.
        """
        core = self._core
        await core.alive()
        token = core.meet(name, "step", "")
        await core.alive()
        given = input_digest(args, kwargs)
        codec: Codec[Any] = Codec(result_type(fn), limits=VALUE_LIMITS)
        subject = core.subjects.step(token)
        there = core.steps.get(token)
        if there is not None:
            if there["input"] != given:
                core.mismatch(name, "another input", "an input with another hash")
                await core.never()
            core.saw(there)
            recorded: R = await self._recorded(name, codec, there.get("value"), subject)
            return recorded
        started = core.log.now_s()
        core.working(1)
        try:
            result = await fn(*args, **kwargs)
            value = codec.encode(result, subject=subject)
        except BaseException:
            core.unmeet(token)
            raise
        finally:
            core.working(-1)
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
            self._core.mismatch(
                name, "a result of another type", f"one of which {error.field} {error.reason}"
            )
            await self._core.never()

    async def call(self, contract: Task[I, O] | Workflow[I, O], value: I, *, name: str | None = None) -> O:
        """Submit a task, or start a workflow below this one, and return its value.

        Raises TaskDead or TaskCancelled when it has none; InvalidMessage; ConfigError for an ambiguous name.
        """
        core = self._core
        await core.alive()
        op = name if name is not None else contract.name
        token = core.meet(op, "call", contract.name)
        await core.alive()
        ref = Ref(core.run, contract.name, token)
        subject = core.log.subjects.task(ref)
        data = contract.input_codec.encode(value, subject=subject)
        if token in core.calls:
            there = await core.log.last(subject, leader=True)
            if there is not None and there.data != data and not canonical_equal(there.data, data):
                core.mismatch(op, "another input", "an input with another hash")
                await core.never()
        else:
            headers = guarded(core.subjects.epoch, core.fence.seq, core.trace.header)
            await core.commit([Write(subject, data, headers)], stored=subject)
        return value_of(await self._outcome(contract, ref, op), ref)

    async def _outcome(self, contract: Task[I, O] | Workflow[I, O], ref: Ref, name: str) -> Outcome[O]:
        record = await self._core.end(ref)
        try:
            return decode_outcome(record, ref, name, end_codec(contract.output, contract.limits))
        except InvalidMessage as error:
            self._core.mismatch(
                name, "an output of another type", f"one of which {error.field} {error.reason}"
            )
            await self._core.never()

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
        await core.alive()
        op = name if name is not None else signal.name
        token = core.meet(op, "signal", signal.name)
        await core.alive()
        subject = core.subjects.step(token)
        there = core.steps.get(token)
        if there is not None:
            core.saw(there)
            if not there.get("seq"):
                raise RequestTimeout(f"signal {signal.name}", timeout_s or 0.0)
            value: M = await self._recorded(op, signal.codec, there.get("value"), subject)
            return value
        until = await self._until(op, token, signal.name, timeout_s)
        record: StepRecord = {
            "kind": "signal",
            "op": op,
            "contract": signal.name,
            "input": "",
            "by": core.instance,
            "at": round(core.log.now_s(), 6),
            "seq": 0,
        }
        while True:
            left_s = None if until is None else max(0.0, until - core.log.now_s())
            try:
                async with asyncio.timeout(left_s):
                    sent = await core.signal(signal.name)
            except TimeoutError as error:
                record["at"] = round(core.log.now_s(), 6)
                await core.record(token, record)
                raise RequestTimeout(f"signal {signal.name}", timeout_s or 0.0) from error
            core.taken.add(sent.seq)
            try:
                decoded = signal.codec.decode(sent.data, subject=sent.subject)
            except InvalidMessage as error:
                core.log.journal.record("message_refused", subject=sent.subject, reason=str(error))
                continue
            record["seq"] = sent.seq
            record["at"] = round(core.log.now_s(), 6)
            await core.record(token, record, sent.data)
            return decoded

    async def _until(self, op: str, token: str, contract: str, timeout_s: float | None) -> float | None:
        """Server time at which a wait ends; on record, so that a resumed wait does not begin anew."""
        if timeout_s is None:
            return None
        core = self._core
        mark = f"{token}:wait"
        there = core.steps.get(mark)
        if there is not None and "until" in there:
            return there["until"]
        until = core.log.now_s() + timeout_s
        record: StepRecord = {
            "kind": "wait",
            "op": op,
            "contract": contract,
            "input": "",
            "by": core.instance,
            "at": round(core.log.now_s(), 6),
            "until": until,
        }
        await core.record(mark, record)
        return until
