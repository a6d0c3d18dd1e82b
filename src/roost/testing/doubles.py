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
from typing import Any, ParamSpec, TypeVar, cast

from typing_extensions import TypeVar as DefaultTypeVar

from roost.context import Context
from roost.contracts import Address, Endpoint, Signal, StreamEndpoint, Task, Topic, Workflow
from roost.errors import ConfigError, DeadlineExceeded, NoResponders, Reject, RequestTimeout
from roost.runs import Run
from roost.tasks import Cancelled, Dead, DeadLetter, Done, Handle, Outcome, Ref
from roost.tasks.outcome import placed, value_of

I = TypeVar("I")
O = TypeVar("O")
M = TypeVar("M")
C = TypeVar("C")
R = TypeVar("R")
P = ParamSpec("P")
D = DefaultTypeVar("D", default=None)

_NOTHING: Any = None

Canned = Callable[[Any], Any]
"""What stands for a handler: a function of the input that returns the output or an `Outcome`, or raises."""


class FakeRun(Run[D]):
    """A `Run` for a unit test.

    `outcomes` maps a contract, or the name of one operation, to a function that stands for its handler: it
    returns a value or an `Outcome`, and what it raises becomes a dead letter. `signals` maps a signal to
    those that will come. `steps` maps names of steps to results, for steps that shall not run. `now` is
    the clock, in seconds since 1970; `advance` moves it, and so does a wait that times out.
    `operations` lists what the workflow did, as (kind, name).
    """

    def __init__(
        self,
        deps: D = _NOTHING,
        *,
        outcomes: Mapping[Task[Any, Any] | Workflow[Any, Any] | str, Canned] | None = None,
        signals: Mapping[Signal[Any], Sequence[Any]] | None = None,
        steps: Mapping[str, Any] | None = None,
        id: str = "test-run",
        now_s: float = 1_700_000_000.0,
    ) -> None:
        self.deps = deps
        self.operations: list[tuple[str, str]] = []
        self._name = id
        self._clock = now_s
        self._numbers = random.Random(id)
        self._outcomes = dict(outcomes or {})
        self._coming = {signal.name: list(values) for signal, values in (signals or {}).items()}
        self._steps = dict(steps or {})
        self._used: set[str] = set()

    @property
    def id(self) -> str:
        return self._name

    def now(self) -> float:
        return self._clock

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        self._clock += seconds

    def random(self) -> float:
        return self._numbers.random()

    async def step(self, name: str, fn: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        self._meet("step", name)
        if name in self._steps:
            return cast(R, self._steps[name])
        return await fn(*args, **kwargs)

    async def call(self, contract: Task[I, O] | Workflow[I, O], value: I, *, name: str | None = None) -> O:
        op = name if name is not None else contract.name
        self._meet("call", op)
        ref = Ref(self._name, contract.name, op)
        result: O = value_of(await self._canned(contract, value, op, op, ref), ref)
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
        self._meet("map", op)

        async def outcomes() -> AsyncIterator[Outcome[O]]:
            index = 0
            async for item in _each(items):
                this = key(item) if key is not None else str(index)
                ref = Ref(self._name, contract.name, f"{op}:{this}")
                yield placed(await self._canned(contract, item, op, this, ref), index)
                index += 1

        @asynccontextmanager
        async def fan_out() -> AsyncIterator[AsyncIterator[Outcome[O]]]:
            yield outcomes()

        return fan_out()

    async def wait_for(
        self, signal: Signal[M], *, timeout_s: float | None = None, name: str | None = None
    ) -> M:
        self._meet("signal", name if name is not None else signal.name)
        coming = self._coming.get(signal.name, [])
        if coming:
            return cast(M, coming.pop(0))
        if timeout_s is None:
            raise AssertionError(
                f"the workflow waits for signal {signal.name!r}, which never comes: give one in signals={{...}}"
            )
        self.advance(timeout_s)
        raise RequestTimeout(f"signal {signal.name}", timeout_s)

    def _meet(self, kind: str, name: str) -> None:
        if name in self._used:
            raise ConfigError(f"operation {name!r} is ambiguous: this workflow has used the name before")
        self._used.add(name)
        self.operations.append((kind, name))

    async def _canned(self, contract: Any, value: Any, op: str, key: str, ref: Ref) -> Outcome[Any]:
        canned = self._outcomes.get(op) or self._outcomes.get(contract)
        if canned is None:
            raise AssertionError(
                f"the test has no outcome for {op!r}: give one in outcomes={{{contract.name}: ...}}"
            )
        try:
            result = canned(value)
            if inspect.isawaitable(result):
                result = await result
        except Exception as error:
            reason = error.reason if isinstance(error, Reject) else f"{type(error).__name__}: {error}"
            return Dead(DeadLetter(reason=reason, attempts=1, name=ref.name, run=ref.run, id=ref.id), key=key)
        return result if isinstance(result, Done | Dead | Cancelled) else Done(result, key)


class FakeContext(Context[D]):
    """A `Context` for a unit test. `answers` maps endpoints to functions of the request.

    What the handler sends is kept: `published` (subject, value), `submitted` (contract, value, key),
    `emitted`. `results` of ``once`` can be given beforehand.
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
        remaining_s: float | None = None,
    ) -> None:
        self.deps = deps
        self.attempt = attempt
        self.subject = subject
        self.parameters = parameters or {}
        self.idempotency_key = idempotency_key
        self.instance = "test-instance"
        self.published: list[tuple[str, Any]] = []
        self.submitted: list[tuple[Any, Any, str | None]] = []
        self.emitted: list[Any] = []
        self._answers = dict(answers or {})
        self._results = dict(results or {})
        self._remaining = remaining_s

    @property
    def remaining_s(self) -> float | None:
        return self._remaining

    async def once(self, name: str, fn: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        if name not in self._results:
            self._results[name] = await fn(*args, **kwargs)
        return cast(R, self._results[name])

    async def emit(self, chunk: Any) -> None:
        self.emitted.append(chunk)

    async def request(self, endpoint: Endpoint[I, O], value: I, *, timeout_s: float = 5.0) -> O:
        if self._remaining is not None and self._remaining <= 0:
            raise DeadlineExceeded(f"a request to {endpoint.name}")
        answer = self._answers.get(endpoint)
        if answer is None:
            raise NoResponders(endpoint.name)
        result = answer(value)
        return cast(O, await result if inspect.isawaitable(result) else result)

    def stream(
        self, endpoint: StreamEndpoint[I, C], value: I, *, idle_timeout_s: float = 30.0
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
        self, task: Task[I, O], value: I, *, key: str | None = None, timeout_s: float = 10.0
    ) -> Handle[O]:
        self.submitted.append((task, value, key))
        return self._handle(task, key)

    async def start(
        self, workflow: Workflow[I, O], value: I, *, key: str | None = None, timeout_s: float = 10.0
    ) -> Handle[O]:
        self.submitted.append((workflow, value, key))
        return self._handle(workflow, key)

    async def submit_many(
        self,
        task: Task[I, O],
        values: Sequence[I],
        *,
        keys: Sequence[str] | None = None,
        timeout_s: float = 60.0,
    ) -> list[Handle[O]]:
        return [
            await self.submit(task, value, key=keys[number] if keys is not None else None)
            for number, value in enumerate(values)
        ]

    def _handle(self, contract: Any, key: str | None) -> Handle[Any]:
        id = key if key is not None else f"test-{len(self.submitted)}"
        nothing: Any = None
        return Handle(Ref(id, contract.name, id), id, nothing, nothing, nothing, nothing, created=True)


async def _each(items: Iterable[I] | AsyncIterable[I]) -> AsyncIterator[I]:
    if isinstance(items, AsyncIterable):
        async for item in items:
            yield item
    else:
        for item in items:
            yield item
