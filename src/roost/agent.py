"""Agents: a named set of handlers with a lifespan. Any number of instances share its work."""

from __future__ import annotations

import inspect
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, Generic, Literal, overload

from typing_extensions import TypeVar

from roost._text import quoted
from roost._version import __version__
from roost.annotations import check_annotations
from roost.bus import Bus
from roost.context import Context
from roost.contracts import BreakerPolicy, Endpoint, Signal, StreamEndpoint, Task, Topic, Workflow
from roost.discovery import HEARTBEAT_S, Card, check_heartbeat, check_version, instance_name
from roost.errors import ConfigError
from roost.instance import Instance, reported
from roost.messaging.call import Function
from roost.permissions import Called, Job
from roost.runs import Run
from roost.subjects import token
from roost.tasks import Outcome, Ref

I = TypeVar("I")
O = TypeVar("O")
M = TypeVar("M")
C = TypeVar("C")
D = TypeVar("D", default=None)

CONCURRENCY = 32
"""Handlers of one contract that one instance runs at once, unless the decorator says otherwise."""
Deliver = Literal["one", "every"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Handler:
    """What one decorator registered."""

    contract: Task[Any, Any] | Workflow[Any, Any] | Endpoint[Any, Any] | StreamEndpoint[Any, Any] | Topic[Any]
    function: Callable[..., Any]
    concurrency: int
    backlog: int | None
    deliver: Deliver
    breaker: BreakerPolicy | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Follower:
    """What `Agent.reports` registered."""

    contract: Task[Any, Any] | Workflow[Any, Any]
    function: Callable[..., Any]
    of: Workflow[Any, Any] | str | None


class Agent(Generic[D]):
    """A named set of handlers. `lifespan` opens what they need; its value is each handler's ``ctx.deps``.

    `version`, a SemVer such as ``1.4.0``, is what `roost agents` shows of it. `calls` are the contracts that its
    handlers submit, ask, publish or signal: only `roost permissions` and the check of permissions at the start look
    at them. Raises UnsafeToken when the name is not made of letters, digits, ``_`` and ``-``, ConfigError for
    another version, and for calls that are no contracts.
    """

    @overload
    def __init__(
        self: Agent[None], name: str, *, version: str = ..., calls: Iterable[Called] = ...
    ) -> None: ...
    @overload
    def __init__(
        self,
        name: str,
        *,
        lifespan: Callable[[], AbstractAsyncContextManager[D]],
        version: str = ...,
        calls: Iterable[Called] = ...,
    ) -> None: ...
    def __init__(
        self,
        name: str,
        *,
        lifespan: Callable[[], AbstractAsyncContextManager[Any]] | None = None,
        version: str = "0.0.0",
        calls: Iterable[Called] = (),
    ) -> None:
        self.name = token(name, name="name")
        self.calls = tuple(calls)
        for one in self.calls:
            if not isinstance(one, Task | Workflow | Endpoint | StreamEndpoint | Topic | Signal):
                raise ConfigError(f"agent {name}: calls = {quoted(one)}: must be contracts")
        self.version = check_version(version, f"agent {self.name}")
        self.handlers: list[Handler] = []
        self.followers: list[Follower] = []
        self._lifespan: Callable[[], AbstractAsyncContextManager[Any]] = lifespan or nullcontext
        if not callable(self._lifespan) or inspect.isasyncgenfunction(self._lifespan):
            raise ConfigError(
                f"agent {name}: lifespan = {quoted(lifespan)}: must be a function decorated with "
                "contextlib.asynccontextmanager"
            )

    @overload
    def handles(
        self, contract: Workflow[I, O], /, *, concurrency: int = ...
    ) -> Callable[
        [Callable[[I, Run[D]], Coroutine[Any, Any, O]]], Callable[[I, Run[D]], Coroutine[Any, Any, O]]
    ]: ...
    @overload
    def handles(
        self, contract: StreamEndpoint[I, C], /, *, concurrency: int = ..., backlog: int | None = ...
    ) -> Callable[
        [Callable[[I, Context[D]], AsyncIterator[C]] | Callable[[I], AsyncIterator[C]]],
        Callable[..., AsyncIterator[C]],
    ]: ...
    @overload
    def handles(
        self, contract: Task[I, O], /, *, concurrency: int = ..., breaker: BreakerPolicy | None = ...
    ) -> Callable[
        [
            Callable[[I, Context[D]], Awaitable[O]]
            | Callable[[I, Context[D]], O]
            | Callable[[I], Awaitable[O]]
            | Callable[[I], O]
        ],
        Callable[..., Any],
    ]: ...
    @overload
    def handles(
        self, contract: Endpoint[I, O], /, *, concurrency: int = ..., backlog: int | None = ...
    ) -> Callable[
        [
            Callable[[I, Context[D]], Awaitable[O]]
            | Callable[[I, Context[D]], O]
            | Callable[[I], Awaitable[O]]
            | Callable[[I], O]
        ],
        Callable[..., Any],
    ]: ...
    @overload
    def handles(
        self,
        contract: Topic[M],
        /,
        *,
        concurrency: int = ...,
        backlog: int | None = ...,
        deliver: Deliver = ...,
    ) -> Callable[
        [
            Callable[[M, Context[D]], Awaitable[None]]
            | Callable[[M, Context[D]], None]
            | Callable[[M], Awaitable[None]]
            | Callable[[M], None]
        ],
        Callable[..., Any],
    ]: ...
    def handles(
        self,
        contract: Any,
        /,
        *,
        concurrency: int = CONCURRENCY,
        backlog: int | None = None,
        deliver: Deliver = "one",
        breaker: BreakerPolicy | None = None,
    ) -> Callable[[Any], Any]:
        """Register a handler: a function of the message, or of the message and its `Context`.

        It stays a plain function that a test can call. A sync function runs on a thread of its own. Up to
        `concurrency` calls run at once in one instance; up to `backlog` more messages wait (None: 65,536 of a
        topic, 1,024 of an endpoint, and 64 MiB of either). Beyond that a request is answered as overloaded, and
        a topic's newest message is dropped and counted. Tasks wait in the log instead. A topic's message goes
        to one instance of the agent, or with ``deliver="every"`` to each.

        With a `breaker`, a task whose handler mostly fails, or is slow, is paused for all instances: tasks wait and
        use up no attempts, until one that is run as a probe is done. Its events have the subject ``task <name>``.

        Raises ConfigError for what cannot be served, and when the agent handles the contract already.
        """
        if not isinstance(contract, Task | Workflow | Endpoint | StreamEndpoint | Topic):
            raise ConfigError(
                f"an agent handles a Task, a Workflow, an Endpoint, a StreamEndpoint or a Topic, not {quoted(contract)}"
            )
        if type(concurrency) is not int or concurrency < 1:
            raise ConfigError(f"concurrency = {quoted(concurrency)}: must be an int >= 1")
        if backlog is not None and (
            type(backlog) is not int or backlog < 0 or isinstance(contract, Task | Workflow)
        ):
            raise ConfigError(
                f"backlog = {quoted(backlog)}: must be an int >= 0, and for a topic or an endpoint only"
            )
        if deliver not in ("one", "every"):
            raise ConfigError(f'deliver = {quoted(deliver)}: must be "one" or "every"')
        if deliver == "every" and not isinstance(contract, Topic):
            raise ConfigError(f'deliver = "every" is for topics; of {contract} one instance takes each')
        if breaker is not None and not (isinstance(breaker, BreakerPolicy) and isinstance(contract, Task)):
            raise ConfigError(
                f"breaker = {quoted(breaker)}: must be roost.BreakerPolicy, and for a task only; an endpoint has its "
                "own in the contract"
            )

        def register(function: Any) -> Any:
            if any(_same(handler.contract, contract) for handler in self.handlers):
                raise ConfigError(f"agent {self.name} handles {contract} already")
            for handler in self.handlers:
                if _share_a_subject(handler.contract, contract):
                    raise ConfigError(
                        f"agent {self.name} handles {handler.contract} already, and {contract} would get its requests "
                        "as well: give one of them another name"
                    )
            # Its shape is checked here, where the mistake is.
            Function(function, threads=1, yields=isinstance(contract, StreamEndpoint))
            check_annotations(function, contract)
            self.handlers.append(
                Handler(
                    contract=contract,
                    function=function,
                    concurrency=concurrency,
                    backlog=backlog,
                    deliver=deliver,
                    breaker=breaker,
                )
            )
            return function

        return register

    def reports(
        self, contract: Task[I, O] | Workflow[I, O], /, *, of: Workflow[Any, Any] | str | None = None
    ) -> Callable[
        [Callable[[Outcome[O], Context[D]], Awaitable[None]]],
        Callable[[Outcome[O], Context[D]], Awaitable[None]],
    ]:
        """Register a reporter: it gets every outcome of the contract at least once, in the order of the log.

        It begins with the first outcome in the log and resumes where it was, on whichever instance; one call
        runs at a time over all of them. With `of`, only outcomes in the runs of that workflow (not in those
        below them) are reported, or in the one run of that id, which `roost runs ls` shows. The place of a
        reporter of one run is kept for a week after its last instance stopped; later it begins anew. That of
        the others is kept until their consumer (``report_<agent>_<contract>``) is deleted.

        An exception repeats the same outcome after 0.2 to 30 s, for as long as it takes, and the others wait
        behind it; `Reject` passes it over, and ``ctx.attempt`` says how often it came. One that does not fit the
        contract's model is passed over too, with an error in the log (``outcome_unreadable``).
        ``ctx.idempotency_key`` is the same when an outcome comes again: after 10 s if a process died with it,
        and those of the last moments if the server crashed. ``ctx.parameters`` has its `run` and `id`.

        Raises ConfigError for what has no outcomes, an `of` that is neither, and when the agent reports the same
        already.
        """
        if not isinstance(contract, Task | Workflow):
            raise ConfigError(f"only a Task or a Workflow has outcomes to report, not {quoted(contract)}")
        if of is not None and not isinstance(of, Workflow) and (not isinstance(of, str) or "/" in of):
            raise ConfigError(
                f"of = {quoted(of)}: must be a Workflow, or the id of a run, which `roost runs ls` shows"
            )
        if isinstance(of, str):
            Ref.parse(of, contract.name)
        what = reported(self.name, contract, of)

        def register(function: Any) -> Any:
            if any(reported(self.name, one.contract, one.of) == what for one in self.followers):
                raise ConfigError(f"agent {self.name} reports {contract} already")
            Function(function, threads=1)
            self.followers.append(Follower(contract=contract, function=function, of=of))
            return function

        return register

    @asynccontextmanager
    async def serve(
        self, bus: Bus, *, grace_s: float, heartbeat_s: float | None = None
    ) -> AsyncIterator[Instance]:
        """One instance of this agent on a bus, for the length of the block. `Bus.serving` calls this."""
        if not self.handlers and not self.followers:
            raise ConfigError(f"agent {self.name} has no handlers; register one with @agent.handles(...)")
        for handler in self.handlers:
            handler.contract.prepare()
        for follower in self.followers:
            follower.contract.prepare()
        card = Card(
            agent=self.name,
            instance=self._instance_name(bus),
            namespace=bus.namespace,
            version=self.version,
            roost=__version__,
            heartbeat_s=_heartbeat_s() if heartbeat_s is None else check_heartbeat(heartbeat_s),
        )
        async with AsyncExitStack() as stack:
            bus.instances.add(card.instance)
            stack.enter_context(bus.loop_watch.running())
            stack.callback(bus.instances.discard, card.instance)
            try:
                deps = await stack.enter_async_context(self._lifespan())
            except Exception as error:
                error.add_note(
                    f"The lifespan of agent {self.name!r} raised this before its first yield; nothing is served."
                )
                raise
            instance = Instance(bus, card, deps)
            try:
                await instance.check(self.job)
                instance.presence.start()
                for handler in self.handlers:
                    await instance.add(
                        handler.contract,
                        handler.function,
                        handler.concurrency,
                        shared=handler.deliver == "one",
                        backlog=handler.backlog,
                        breaker=handler.breaker,
                    )
                for follower in self.followers:
                    await instance.follow(follower.contract, follower.function, follower.of)
                await instance.ready()
                yield instance
            finally:
                await instance.stop(grace_s)

    @property
    def job(self) -> Job:
        """What it does, as far as permissions are concerned."""
        return Job(
            agent=self.name,
            handles=tuple(one.contract for one in self.handlers),
            pauses=tuple(one.contract.name for one in self.handlers if one.breaker is not None),
            reports=tuple(reported(self.name, one.contract, one.of) for one in self.followers),
            calls=self.calls,
        )

    def _instance_name(self, bus: Bus) -> str:
        """As whoever started this process chose (ROOST_INSTANCE), or made here; no two on one bus are equal."""
        given = os.environ.get("ROOST_INSTANCE")
        if not given:
            return instance_name(self.name)
        name = token(given, name="ROOST_INSTANCE")
        return instance_name(name) if name in bus.instances else name

    def __repr__(self) -> str:
        return f"Agent({self.name!r}, {len(self.handlers)} handlers)"


def _heartbeat_s() -> float:
    """Seconds between heartbeats as the environment says (ROOST_HEARTBEAT_S), else five."""
    text = os.environ.get("ROOST_HEARTBEAT_S", "")
    try:
        return check_heartbeat(float(text)) if text else HEARTBEAT_S
    except ValueError as error:
        raise ConfigError(f"ROOST_HEARTBEAT_S = {quoted(text)}: {error}") from error


def _same(one: Any, other: Any) -> bool:
    return type(one) is type(other) and one.name == other.name


def _share_a_subject(one: Any, other: Any) -> bool:
    """Endpoints with one answer and with many go by the same subjects."""
    return (
        all(isinstance(each, Endpoint | StreamEndpoint) for each in (one, other)) and one.name == other.name
    )
