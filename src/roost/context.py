"""What a handler gets besides its message: where it is, how long it has, and calls that join its trace."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from typing import TYPE_CHECKING, Any, Generic, ParamSpec

from typing_extensions import TypeVar

from roost.codec import Codec
from roost.contracts import Address, Endpoint, StreamEndpoint, Task, Topic, Workflow
from roost.errors import ConfigError, DeadlineExceeded
from roost.observe import Trace
from roost.tasks import Handle, Ref, emit, once
from roost.tasks.once import result_type

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
        "_deadline",
        "_ref",
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
    """1 for the first attempt of a task; always 1 for topics and endpoints."""
    subject: str
    """The subject on which the message came."""
    parameters: Mapping[str, str]
    """The parameters of a topic's template, as they stand in the subject."""
    idempotency_key: str
    """The same for every attempt of one task, different for every task: for effects outside of Roost."""
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
    ) -> None:
        self._bus = bus
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

        A kill between the effect and its record calls again, so give the effect `idempotency_key`. The
        result is decoded by the function's return annotation. Raises what the function raises,
        InvalidMessage for a result that has no JSON, and ConfigError outside of a task.
        """
        if self._ref is None:
            raise ConfigError("only the handler of a task has a record: ctx.once works in tasks")
        codec: Codec[Any] = Codec(result_type(fn))
        result: R = await once(self._bus.log, self._ref, name, lambda: fn(*args, **kwargs), codec)
        return result

    async def emit(self, chunk: Any) -> None:
        """Say something while the task runs: a part of the answer, kept in the log for `Handle.chunks`.

        Any type that has JSON; 256 KiB at most. Raises InvalidMessage, the errors of a publish, and
        ConfigError in the handler of a topic or an endpoint, which has no record to write to.
        """
        if self._ref is None:
            raise ConfigError(
                "only the handler of a task can emit chunks; an endpoint answers, a topic publishes"
            )
        await emit(self._bus.log, self._ref, self.attempt, chunk)

    async def progress(self, note: str) -> None:
        """Say how far a task is, as a chunk of text; `Handle.chunks` of ``str`` reads it, live and later."""
        await self.emit(note)

    async def request(self, endpoint: Endpoint[I, O], value: I, *, timeout_s: float = 5.0) -> O:
        """As `Bus.request`, for at most the time that is left. Raises DeadlineExceeded when none is."""
        remaining_s = self.remaining_s
        if remaining_s is not None:
            if remaining_s <= 0:
                raise DeadlineExceeded(f"a request to {endpoint.name}")
            timeout_s = min(timeout_s, remaining_s)
        return await self._bus._request(endpoint, value, timeout_s=timeout_s, trace=self.trace)

    def stream(
        self, endpoint: StreamEndpoint[I, C], value: I, *, idle_timeout_s: float = 30.0
    ) -> AbstractAsyncContextManager[AsyncIterator[C]]:
        """As `Bus.stream`, for at most the time that is left."""
        return self._bus._stream(
            endpoint, value, idle_timeout_s=idle_timeout_s, timeout_s=self.remaining_s, trace=self.trace
        )

    async def publish(self, to: Topic[M] | Address[M], value: M) -> None:
        """As `Bus.publish`."""
        await self._bus._publish(to, value, trace=self.trace)

    async def submit(
        self, task: Task[I, O], value: I, *, key: str | None = None, timeout_s: float = 10.0
    ) -> Handle[O]:
        """As `Bus.submit`."""
        return await self._bus._submit(task, value, key=key, timeout_s=timeout_s, trace=self.trace)

    async def start(
        self, workflow: Workflow[I, O], value: I, *, key: str | None = None, timeout_s: float = 10.0
    ) -> Handle[O]:
        """As `Bus.start`."""
        return await self._bus._submit(workflow, value, key=key, timeout_s=timeout_s, trace=self.trace)

    async def submit_many(
        self,
        task: Task[I, O],
        values: Sequence[I],
        *,
        keys: Sequence[str] | None = None,
        timeout_s: float = 60.0,
    ) -> list[Handle[O]]:
        """As `Bus.submit_many`."""
        return await self._bus._submit_many(task, values, keys=keys, timeout_s=timeout_s, trace=self.trace)
