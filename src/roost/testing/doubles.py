"""Contexts and runs for unit tests: no server, no waiting, a clock that the test moves.

A handler or workflow is a plain function; a test calls it with one of these and canned outcomes.

    run = FakeRun(outcomes={digest: lambda page: Digest(words=3)}, signals={approval: [Decision(ok=True)]})
    assert (await plan(Folder(path="docs"), run)).words == 30
"""

from __future__ import annotations

import inspect
import random
from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import Any, Generic, ParamSpec, TypeVar, cast

from typing_extensions import TypeVar as DefaultTypeVar

from roost.context import Context
from roost.contracts import Address, Endpoint, Signal, StreamEndpoint, Task, Topic, Workflow
from roost.errors import ConfigError, DeadlineExceeded, NoResponders, RequestTimeout
from roost.messaging import Answer, Answers
from roost.observe import Trace
from roost.runs import Run
from roost.runs.functions import call, codec_of, encoded, returned_type
from roost.tasks import Handle, Outcome, Ref
from roost.tasks.outcome import placed, value_of
from roost.testing._canned import Canned, CannedOutcomes, Clock, FakeHandle, outcome_of

I = TypeVar("I")
O = TypeVar("O")
M = TypeVar("M")
C = TypeVar("C")
R = TypeVar("R")
P = ParamSpec("P")
D = DefaultTypeVar("D", default=None)

_NOTHING: Any = None


class FakeRun(Run[D]):
    """A `Run` for a unit test.

    `outcomes` maps a contract, or the name of one operation, to a function that stands for its handler: it
    returns a value or an `Outcome`, and what it raises becomes a dead letter at once, without retries. `signals`
    maps a signal to those that will come; `send` sends one later. `steps` maps names of steps to results, for
    steps that shall not run. `operations` lists what the workflow did, as (kind, name).

    `now` is the clock, in seconds since 1970, and `advance` moves it. A wait for which no signal is there times
    out at once and moves the clock by its limit. With ``wait_by_hand=True`` it waits instead, until the test
    sends a signal or moves the clock past the limit.
    """

    def __init__(
        self,
        deps: D = _NOTHING,
        *,
        outcomes: CannedOutcomes | None = None,
        signals: Mapping[Signal[Any], Sequence[Any]] | None = None,
        steps: Mapping[str, Any] | None = None,
        id: str = "test-run",
        now_s: float = 1_700_000_000.0,
        wait_by_hand: bool = False,
    ) -> None:
        self.deps = deps
        self.operations: list[tuple[str, str]] = []
        self._name = id
        self._clock = Clock(now_s)
        self._numbers = random.Random(id)
        self._outcomes = dict(outcomes or {})
        self._coming = {signal.name: list(values) for signal, values in (signals or {}).items()}
        self._steps = dict(steps or {})
        self._by_hand = wait_by_hand
        self._used: set[str] = set()

    @property
    def id(self) -> str:
        return self._name

    def now(self) -> float:
        return self._clock.now_s

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._clock.advance(seconds)

    def send(self, signal: Signal[M], value: M) -> None:
        """Send a signal, as `Bus.signal` does."""
        self._coming.setdefault(signal.name, []).append(value)
        self._clock.wake()

    async def until_waiting(self) -> None:
        """Until the workflow waits for a signal, with ``wait_by_hand=True``: then send it, or move the clock."""
        await self._clock.until_waiting()

    def random(self) -> float:
        return self._numbers.random()

    async def step(self, name: str, fn: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        codec = codec_of(returned_type(fn))
        self._meet("step", name)
        if name in self._steps:
            return cast(R, self._steps[name])
        try:
            value = encoded(codec, await call(fn, args, kwargs), subject=name)
        except BaseException:  # it left no record, so its name may be used again
            self._used.discard(name)
            raise
        return cast(R, codec.decode(value, subject=name))

    async def call(self, contract: Task[I, O] | Workflow[I, O], value: I, *, name: str | None = None) -> O:
        op = name if name is not None else contract.name
        self._meet("call", op)
        ref = Ref(self._name, contract.name, op)
        outcome = await outcome_of(self._outcomes, contract, value, ref, op=op, key=op)
        result: O = value_of(outcome, ref)
        return result

    def map(
        self,
        contract: Task[I, O] | Workflow[I, O],
        items: Iterable[I] | AsyncIterable[I],
        *,
        key: Callable[[I], str] | None = None,
        name: str | None = None,
        ahead: int = 1000,
        ordered: bool = False,
    ) -> AbstractAsyncContextManager[AsyncIterator[Outcome[O]]]:
        op = name if name is not None else contract.name
        if type(ahead) is not int or ahead < 1:
            raise ConfigError(f"map {op}: ahead = {ahead!r}: must be an int >= 1")

        async def outcomes() -> AsyncIterator[Outcome[O]]:
            index, keys = 0, set[str]()
            async for item in _each(items):
                this = key(item) if key is not None else str(index)
                if this in keys:
                    raise ConfigError(f"map {op}: item {index} has the key {this!r}, which another item has")
                keys.add(this)
                ref = Ref(self._name, contract.name, f"{op}:{this}")
                found = await outcome_of(self._outcomes, contract, item, ref, op=op, key=this)
                yield placed(found, index)
                index += 1

        @asynccontextmanager
        async def fan_out() -> AsyncIterator[AsyncIterator[Outcome[O]]]:
            self._meet("map", op)
            found = _Outcomes(op, outcomes())
            try:
                yield found
            finally:
                found.closed = True

        return fan_out()

    async def wait_for(
        self, signal: Signal[M], *, timeout_s: float | None = None, name: str | None = None
    ) -> M:
        self._meet("signal", name if name is not None else signal.name)
        until = None if timeout_s is None else self.now() + timeout_s
        while True:
            coming = self._coming.get(signal.name, [])
            if coming:
                value = signal.codec.encode(coming.pop(0), subject=signal.name)
                return signal.codec.decode(value, subject=signal.name)
            if until is not None and timeout_s is not None and (self.now() >= until or not self._by_hand):
                self.advance(max(0.0, until - self.now()))
                raise RequestTimeout(f"signal {signal.name}", timeout_s)
            if not self._by_hand:
                raise AssertionError(
                    f"the workflow waits for signal {signal.name!r}, which never comes: give one in signals={{...}}"
                )
            await self._clock.news()

    def _meet(self, kind: str, name: str) -> None:
        if name in self._used:
            raise ConfigError(f"operation {name!r} is ambiguous: this workflow has used the name before")
        self._used.add(name)
        self.operations.append((kind, name))


class FakeContext(Context[D]):
    """A `Context` for a unit test. `answers` maps endpoints to functions of the request.

    What the handler sends is kept: `published` (subject, value), `submitted` (contract, value, key),
    `emitted`. `results` of ``once`` can be given beforehand. `outcomes`, as for `FakeRun`, are what submitted
    tasks come to. `advance` lets time pass, which `remaining_s` is of.
    """

    def __init__(
        self,
        deps: D = _NOTHING,
        *,
        attempt: int = 1,
        subject: str = "test",
        parameters: Mapping[str, str] | None = None,
        idempotency_key: str = "test-task",
        answers: Mapping[Endpoint[Any, Any] | StreamEndpoint[Any, Any], Canned] | None = None,
        results: Mapping[str, Any] | None = None,
        outcomes: CannedOutcomes | None = None,
        remaining_s: float | None = None,
    ) -> None:
        self.deps = deps
        self.attempt = attempt
        self.subject = subject
        self.parameters = parameters or {}
        self.idempotency_key = idempotency_key
        self.instance = "test-instance"
        self.trace = Trace.new()
        self.published: list[tuple[str, Any]] = []
        self.submitted: list[tuple[Any, Any, str | None]] = []
        self.emitted: list[Any] = []
        self._answers = dict(answers or {})
        self._results = dict(results or {})
        self._outcomes = dict(outcomes or {})
        self._remaining = remaining_s

    @property
    def remaining_s(self) -> float | None:
        return self._remaining

    def advance(self, seconds: float) -> None:
        """Let time pass: the handler may take so much less."""
        if self._remaining is not None:
            self._remaining = max(0.0, self._remaining - seconds)

    async def once(self, name: str, fn: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        if name not in self._results:
            self._results[name] = await fn(*args, **kwargs)
        return cast(R, self._results[name])

    async def emit(self, chunk: Any) -> None:
        self.emitted.append(chunk)

    async def progress(self, note: str) -> None:
        self.emitted.append(note)

    async def request(
        self, endpoint: Endpoint[I, O], value: I, *, timeout_s: float = 5.0, instance: str | None = None
    ) -> O:
        if self._remaining is not None and self._remaining <= 0:
            raise DeadlineExceeded(f"a request to {endpoint.name}")
        answer = self._answers.get(endpoint)
        if answer is None:
            raise NoResponders(endpoint.name)
        result = answer(value)
        return cast(O, await result if inspect.isawaitable(result) else result)

    async def ask(self, question: Endpoint[I, O], value: I, *, timeout_s: float = 60.0) -> O:
        same: Any = question
        return cast(O, await self.request(same, value, timeout_s=timeout_s))

    async def ask_all(
        self, endpoint: Endpoint[I, O], value: I, *, timeout_s: float = 5.0, quiet_s: float = 0.5
    ) -> AsyncIterator[Answer[O]]:
        found: O = await self.request(endpoint, value, timeout_s=timeout_s)
        yield Answer("fake", found)

    def stream(
        self,
        endpoint: StreamEndpoint[I, C],
        value: I,
        *,
        idle_timeout_s: float = 30.0,
        answers: Answers | None = None,
        instance: str | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[C]]:
        answer = self._answers.get(endpoint)

        @asynccontextmanager
        async def chunks() -> AsyncIterator[AsyncIterator[C]]:
            if answer is None:
                raise NoResponders(endpoint.name)
            yield _each(answer(value))

        return chunks()

    async def publish(self, to: Topic[M] | Address[M], value: M) -> None:
        address = to.at() if isinstance(to, Topic) else to
        self.published.append((address.subject, value))

    async def submit(
        self,
        task: Task[I, O],
        value: I,
        *,
        key: str | None = None,
        delay_s: float | None = None,
        at: datetime | None = None,
        timeout_s: float = 10.0,
    ) -> Handle[O]:
        self.submitted.append((task, value, key))
        return self._handle(task, value, key)

    async def start(
        self,
        workflow: Workflow[I, O],
        value: I,
        *,
        key: str | None = None,
        delay_s: float | None = None,
        at: datetime | None = None,
        timeout_s: float = 10.0,
    ) -> Handle[O]:
        self.submitted.append((workflow, value, key))
        return self._handle(workflow, value, key)

    async def submit_many(
        self,
        task: Task[I, O],
        values: Iterable[I] | AsyncIterable[I],
        *,
        keys: Sequence[str] | None = None,
        key: Callable[[I], str] | None = None,
        timeout_s: float = 60.0,
    ) -> list[Handle[O]]:
        left = iter(keys) if keys is not None else None
        name = key if left is None else lambda value: next(left)
        return [handle async for handle in self.submit_each(task, values, key=name, timeout_s=timeout_s)]

    async def submit_each(
        self,
        task: Task[I, O],
        values: Iterable[I] | AsyncIterable[I],
        *,
        key: Callable[[I], str] | None = None,
        timeout_s: float = 60.0,
    ) -> AsyncIterator[Handle[O]]:
        async for value in _each(values):
            yield await self.submit(task, value, key=key(value) if key is not None else None)

    def _handle(self, contract: Any, value: Any, key: str | None) -> Handle[Any]:
        id = key if key is not None else f"test-{len(self.submitted)}"
        ref = Ref(id, contract.name, id)
        return FakeHandle(
            ref, lambda: outcome_of(self._outcomes, contract, value, ref, op=contract.name, key=id)
        )


class _Outcomes(Generic[O]):
    """The outcomes of a fan-out, inside of its block."""

    def __init__(self, op: str, found: AsyncIterator[Outcome[O]]) -> None:
        self.closed = False
        self._op = op
        self._found = found

    def __aiter__(self) -> AsyncIterator[Outcome[O]]:
        return self

    async def __anext__(self) -> Outcome[O]:
        if self.closed:
            raise ConfigError(f"map {self._op}: its outcomes can be read inside of its block only")
        return await anext(self._found)


async def _each(items: Iterable[I] | AsyncIterable[I]) -> AsyncIterator[I]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
