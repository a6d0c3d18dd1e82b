"""What a handler gets besides its message: where it is, how long it has, and calls that join its trace."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Awaitable, Callable, Iterable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import TYPE_CHECKING, Any, Generic, ParamSpec

from typing_extensions import TypeVar

from roost import messaging
from roost.contracts import Address, Endpoint, StreamEndpoint, Task, Topic, Workflow
from roost.errors import ConfigError, DeadlineExceeded
from roost.messaging import Answer, Answers
from roost.observe import Trace
from roost.runs.functions import call, codec_of, returned_type
from roost.tasks import Effects, Emitter, Handle, Ref, once

if TYPE_CHECKING:
    from roost.bus import Bus

I = TypeVar("I")
O = TypeVar("O")
M = TypeVar("M")
C = TypeVar("C")
R = TypeVar("R")
P = ParamSpec("P")
D = TypeVar("D", default=None)


class Context(Generic[D]):
    """The surroundings of one handler call.

    Calls made through it belong to the same trace, and a request never waits longer than the handler
    itself may run.
    """

    __slots__ = (
        "_bus",
        "_caller",
        "_deadline",
        "_effects",
        "_emitter",
        "_ref",
        "_token",
        "attempt",
        "deps",
        "idempotency_key",
        "instance",
        "parameters",
        "subject",
        "trace",
    )

    deps: D
    """What the agent's lifespan yielded."""
    attempt: int
    """One more than the attempts that are on record; always 1 for topics and endpoints.

    A first attempt whose process died within a third of the contract's `ack_wait_s` is not on record, unless
    ``Retry(attempts=1)``: then the next is 1 again. So it does not tell whether effects may have happened; what does
    is `once`, or the other side by `idempotency_key`. For a reporter, 1 the first time that an outcome is reported."""
    subject: str
    """The subject on which the message came."""
    parameters: Mapping[str, str]
    """The parameters of a topic's template, as they stand in the subject. A reporter's are `run` and `id`: of the
    task whose outcome it got."""
    idempotency_key: str
    """The same for every attempt of one task, different for every task: for effects outside of Roost. A task with
    several effects adds their names. A reporter's is the same when its outcome comes again."""
    instance: str
    """Which instance of the agent this is."""

    def __init__(
        self,
        bus: Bus,
        *,
        deps: D,
        subject: str,
        instance: str,
        trace: Trace,
        attempt: int = 1,
        idempotency_key: str = "",
        parameters: Mapping[str, str] | None = None,
        deadline: float | None = None,
        ref: Ref | None = None,
        caller: str = "",
        token: str = "",
    ) -> None:
        self._bus = bus
        self._token = token  # of this execution of the handler
        self._emitter: Emitter | None = None
        self._effects: Effects | None = None
        self._caller = caller
        self._ref = ref
        self._deadline = deadline
        self.deps = deps
        self.subject = subject
        self.instance = instance
        self.trace = trace
        self.attempt = attempt
        self.idempotency_key = idempotency_key
        self.parameters = parameters if parameters is not None else {}

    @property
    def remaining_s(self) -> float | None:
        """Seconds that this call may still take; None when it has no limit."""
        if self._deadline is None:
            return None
        return max(0.0, self._deadline - self._bus.clock())  # also on the thread of a sync handler

    async def once(self, name: str, fn: Callable[P, Awaitable[R]], *args: P.args, **kwargs: P.kwargs) -> R:
        """The result of ``fn(*args, **kwargs)``, recorded once for this task: later attempts read it.

        `name` is any text and stands for one effect of the task: a second call under it returns what is on
        record, whatever its arguments, so an effect per item has the item in its name. A kill between the effect
        and its record calls again, and so may an outage there that is longer than the contract's `ack_wait_s`:
        give the effect `idempotency_key`. A dead letter that is replayed is another task, with a record and a key
        of its own.

        The result is what the function is annotated to return (without that, plain JSON), 256 KiB at most. It is
        recorded through outages, and while the store is full, for as long as the attempt may take. Raises what
        the function raises, InvalidMessage (TooLarge) for a result that cannot be kept (the effect has happened
        then: a handler that fails of it is not tried again, its task is a dead letter at once), JetStreamError when
        the server refuses the record, ConfigError when what is on record is of another type, when an effect calls
        itself by its name, and outside of a task.
        """
        if self._ref is None:
            raise ConfigError("only the handler of a task has a record: ctx.once works in tasks")
        if self._effects is None:
            self._effects = Effects()
        codec = codec_of(returned_type(fn))
        async with self._effects.alone(name):
            result: R = await once(self._bus.log, self._ref, name, lambda: call(fn, args, kwargs), codec)
        return result

    async def emit(self, chunk: Any) -> None:
        """Say something while the task runs: a part of the answer, kept in the log for `Handle.chunks`.

        Any type that has JSON, 256 KiB at most; each is kept until the run is removed. Chunks are stored in the
        order of the calls, and through outages of up to 30 s. Raises InvalidMessage (TooLarge), StoreFull when 90 %
        of the store are used or open tasks need the rest, JetStreamError, NotConnected, Disconnected,
        RequestTimeout or StreamMissing after an outage of 30 s, and ConfigError where there is no record to write
        to: in handlers of topics and endpoints, and in reporters.
        """
        await self._emits().say("chunk", chunk)

    async def progress(self, note: str) -> None:
        """Say how far a task is, in words; `Handle.progress` reads it, live and later. Raises as `emit`."""
        await self._emits().say("progress", note)

    def _emits(self) -> Emitter:
        if self._ref is None:
            raise ConfigError(
                "only the handler of a task can emit chunks and progress; an endpoint answers, a topic publishes"
            )
        if self._emitter is None:
            self._emitter = Emitter(self._bus.log, self._ref, self.attempt, self._token)
        return self._emitter

    async def ask(self, question: Endpoint[I, O], value: I, *, timeout_s: float = 60.0) -> O:
        """Ask the caller of a streamed answer something before going on; for at most the time that is left.

        The caller says what it answers: ``bus.stream(..., answers={question: function})``. Raises RemoteError
        (``unknown``) when it does not answer this one or (``failed``) its function raised, NoResponders when it
        has gone, RequestTimeout, DeadlineExceeded, InvalidMessage, and ConfigError outside of a StreamEndpoint.
        """
        if not self._caller:
            raise ConfigError(
                "only a handler of a StreamEndpoint can ask its caller back: ctx.ask works there"
            )
        timeout_s = self._within(timeout_s, f"a question to the caller ({question.name})")
        answer: O = await messaging.ask_back(
            self._bus.link, self._caller, question, value, self.trace, timeout_s=timeout_s
        )
        return answer

    async def request(
        self, endpoint: Endpoint[I, O], value: I, *, timeout_s: float = 5.0, instance: str | None = None
    ) -> O:
        """As `Bus.request`, for at most the time that is left. Raises DeadlineExceeded when none is."""
        timeout_s = self._within(timeout_s, f"a request to {endpoint.name}")
        return await self._bus.messenger.request(
            endpoint, value, timeout_s=timeout_s, trace=self.trace, instance=instance
        )

    def ask_all(
        self, endpoint: Endpoint[I, O], value: I, *, timeout_s: float = 5.0, quiet_s: float = 0.5
    ) -> AsyncIterator[Answer[O]]:
        """As `Bus.ask_all`, for at most the time that is left. Raises DeadlineExceeded when none is."""
        timeout_s = self._within(timeout_s, f"a question to all of {endpoint.name}")
        return self._bus.messenger.ask_all(
            endpoint, value, timeout_s=timeout_s, quiet_s=quiet_s, trace=self.trace
        )

    def _within(self, timeout_s: float, what: str) -> float:
        """No call waits longer than the handler itself may run."""
        remaining_s = self.remaining_s
        if remaining_s is None:
            return timeout_s
        if remaining_s <= 0:
            raise DeadlineExceeded(what)
        return min(timeout_s, remaining_s)

    def stream(
        self,
        endpoint: StreamEndpoint[I, C],
        value: I,
        *,
        idle_timeout_s: float = 30.0,
        answers: Answers | None = None,
        instance: str | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[C]]:
        """As `Bus.stream`, for at most the time that is left."""
        return self._bus.messenger.stream(
            endpoint,
            value,
            idle_timeout_s=idle_timeout_s,
            timeout_s=self.remaining_s,
            trace=self.trace,
            answers=answers,
            instance=instance,
        )

    async def publish(self, to: Topic[M] | Address[M], value: M) -> None:
        """As `Bus.publish`."""
        await self._bus.messenger.publish(to, value, trace=self.trace)

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
        """As `Bus.submit`."""
        return await self._bus.desk.submit(
            task, value, key=key, delay_s=delay_s, at=at, timeout_s=timeout_s, trace=self.trace
        )

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
        """As `Bus.start`."""
        return await self._bus.desk.submit(
            workflow, value, key=key, delay_s=delay_s, at=at, timeout_s=timeout_s, trace=self.trace
        )

    async def submit_many(
        self,
        task: Task[I, O],
        values: Iterable[I] | AsyncIterable[I],
        *,
        keys: Sequence[str] | None = None,
        key: Callable[[I], str] | None = None,
        timeout_s: float = 60.0,
    ) -> list[Handle[O]]:
        """As `Bus.submit_many`."""
        return await self._bus.desk.submit_many(
            task, values, keys=keys, key=key, timeout_s=timeout_s, trace=self.trace
        )

    def submit_each(
        self,
        task: Task[I, O],
        values: Iterable[I] | AsyncIterable[I],
        *,
        key: Callable[[I], str] | None = None,
        timeout_s: float = 60.0,
    ) -> AsyncIterator[Handle[O]]:
        """As `Bus.submit_each`."""
        return self._bus.desk.submit_each(task, values, key=key, timeout_s=timeout_s, trace=self.trace)
