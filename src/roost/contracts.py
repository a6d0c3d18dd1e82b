"""Contracts: what two agents agree on, as values in a light module that both import.

A caller that imports a worker's code to call it also imports its dependencies, its settings and its mistakes. A
contract carries a name, the models and the policy, and nothing that runs. Contracts are immutable, compared and
hashed by value, and cheap to make: validators are built at first use. `prepare()` builds them, so that whoever
serves a contract learns of an unusable type before work arrives.

Two contracts of one kind and name in one namespace are one contract to the server, so a name once deployed keeps
its meaning. Names are safe tokens; UnsafeToken otherwise. ConfigError names any other field that is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Generic, TypeVar, overload

from roost._breaker import BreakerPolicy
from roost._contract import DEFAULT_LIMITS, Contract, Upgrade, check_upgrade, check_version
from roost._retry import GiveUp, Retry, TryAgain, Verdict
from roost._text import quoted
from roost.codec import Codec, Limits
from roost.errors import ConfigError
from roost.subjects import Template

__all__ = [
    "Address",
    "BreakerPolicy",
    "Contract",
    "Endpoint",
    "GiveUp",
    "Limits",
    "Retry",
    "Signal",
    "StreamEndpoint",
    "Task",
    "Topic",
    "TryAgain",
    "Verdict",
    "Workflow",
]

I = TypeVar("I")
O = TypeVar("O")
M = TypeVar("M")
C = TypeVar("C")
J = TypeVar("J")  # the input of a task without output: a checker wants a variable of its own there

_DEFAULT_RETRY = Retry()
_NO_UPGRADE: Mapping[int, Upgrade] = {}
MAX_OPEN = 20_000
"""Tasks of one contract that may be running or in backoff at once, over all instances. Tasks in backoff
hold a slot, so this bounds how many may wait before fresh ones have to."""
_LEAST_ACK_WAIT_S = 0.5  # below that, a pause of the garbage collector looks like a dead worker


@dataclass(frozen=True)
class Address(Generic[M]):
    """One subject of a topic, all its parameters filled in. Made by `Topic.at`."""

    topic: Topic[M]
    subject: str


@dataclass(frozen=True, init=False)
class Topic(Contract, Generic[M]):
    """Publish and subscribe: a subject template and the model of its messages. At most once, as NATS has it.

    `subject`, such as `team.{agent}.status`, stands on the wire as it is written here, without the namespace, so
    that any NATS client can take part; `{parameter}` stands for one token.
    """

    model: type[M]
    template: Template = field(repr=False)

    kind: ClassVar[str] = "topic"
    _roles: ClassVar[Mapping[str, str]] = {"model": "codec"}

    def __init__(self, subject: str, model: type[M], *, limits: Limits = DEFAULT_LIMITS) -> None:
        _set(self, name=subject, model=model, template=Template(subject), limits=limits)
        self._check()

    @property
    def subject(self) -> str:
        """The template as it was written; also the topic's `name`."""
        return self.name

    @cached_property
    def codec(self) -> Codec[M]:
        return self._codec("model")

    def at(self, **tokens: str) -> Address[M]:
        """Where to publish. ConfigError if a parameter is missing or unknown, UnsafeToken if a value is unsafe."""
        return Address(topic=self, subject=self.template.render(**tokens))

    def pattern(self, **tokens: str) -> str:
        """The subject to subscribe to: these parameters fixed, the others free. Raises like `at`."""
        return self.template.pattern(**tokens)


@dataclass(frozen=True)
class Endpoint(Contract, Generic[I, O]):
    """Request and one reply. At most once; nobody listening is an error at once.

    `breaker` guards the callers: each bus has one circuit breaker for the endpoint, whose events have the subject
    ``endpoint <name>``, and while it is open a request raises `BreakerOpen` at once. `idempotent` says that handling
    a request twice does no harm: then it is tried again within the caller's time. Neither is for requests to one
    `instance`, nor for `ask_all`.
    """

    input: type[I]
    output: type[O]
    breaker: BreakerPolicy | None = field(default=None, kw_only=True)
    idempotent: bool = field(default=False, kw_only=True)

    kind: ClassVar[str] = "endpoint"
    _roles: ClassVar[Mapping[str, str]] = {"input": "input_codec", "output": "output_codec"}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.breaker is not None and not isinstance(self.breaker, BreakerPolicy):
            raise ConfigError(f"{self}: breaker = {quoted(self.breaker)}: must be roost.BreakerPolicy.")
        if type(self.idempotent) is not bool:
            raise ConfigError(f"{self}: idempotent = {quoted(self.idempotent)}: must be True or False.")

    @cached_property
    def input_codec(self) -> Codec[I]:
        return self._codec("input")

    @cached_property
    def output_codec(self) -> Codec[O]:
        return self._codec("output")


@dataclass(frozen=True)
class StreamEndpoint(Contract, Generic[I, C]):
    """Request and a stream of chunks as reply; leaving the stream cancels the responder."""

    input: type[I]
    chunk: type[C]

    kind: ClassVar[str] = "stream_endpoint"
    _roles: ClassVar[Mapping[str, str]] = {"input": "input_codec", "chunk": "chunk_codec"}

    @cached_property
    def input_codec(self) -> Codec[I]:
        return self._codec("input")

    @cached_property
    def chunk_codec(self) -> Codec[C]:
        return self._codec("chunk")


@dataclass(frozen=True, init=False)
class Task(Contract, Generic[I, O]):
    """Durable work with one recorded outcome; its handler may run more than once. No `output` means None.

    `attempt_timeout_s` bounds one run of the handler. The default is long enough for a model call with retries of
    its own. With None a handler that hangs keeps its slot for ever, since its heartbeats go on.

    `deadline_s` bounds everything from submission to outcome, also while no worker of it runs
    (`docs/resilience.md`). With None, the default, a task has as much time as the run that calls it, or waits for as
    long as no worker runs.

    `ack_wait_s` is how long the server waits for a sign of life before it gives the task to another worker;
    heartbeats go out at a third of it. At least 0.5.

    `version` goes up when workers of today could not do what is submitted from now on. A worker hands back tasks of
    a later version than its own, until one comes that knows it. Tasks of an earlier one pass through `upgrade`,
    which has under *n* a function that makes of the JSON of version *n* that of *n + 1*; without one they are
    taken as they are. What then does not fit the input model is a dead letter.

    `order_key` of an input names what it belongs to, such as a conversation: tasks with the same key run one at a
    time, in the order in which they were submitted, on whichever instance. None: in no order.

    `max_running` is how many of these tasks run at once in all processes together; None: as many as those have
    hands. A task in backoff holds its place, and so does one whose process died, until its ack wait is over.
    """

    input: type[I]
    output: type[O]
    retry: Retry
    attempt_timeout_s: float | None
    deadline_s: float | None
    ack_wait_s: float
    version: int
    max_running: int | None
    upgrade: Mapping[int, Upgrade] = field(compare=False, repr=False)
    order_key: Callable[[I], str | None] | None = field(compare=False, repr=False)

    kind: ClassVar[str] = "task"
    _roles: ClassVar[Mapping[str, str]] = {"input": "input_codec", "output": "output_codec"}

    @overload
    def __init__(
        self,
        name: str,
        input: type[I],
        output: type[O],
        *,
        retry: Retry = ...,
        attempt_timeout_s: float | None = ...,
        deadline_s: float | None = ...,
        ack_wait_s: float = ...,
        version: int = ...,
        upgrade: Mapping[int, Upgrade] = ...,
        order_key: Callable[[I], str | None] | None = ...,
        max_running: int | None = ...,
        limits: Limits = ...,
    ) -> None: ...
    @overload
    def __init__(
        self: Task[J, None],
        name: str,
        input: type[J],
        output: None = None,
        *,
        retry: Retry = ...,
        attempt_timeout_s: float | None = ...,
        deadline_s: float | None = ...,
        ack_wait_s: float = ...,
        version: int = ...,
        upgrade: Mapping[int, Upgrade] = ...,
        order_key: Callable[[J], str | None] | None = ...,
        max_running: int | None = ...,
        limits: Limits = ...,
    ) -> None: ...
    def __init__(
        self,
        name: str,
        input: type[Any],
        output: type[Any] | None = None,
        *,
        retry: Retry = _DEFAULT_RETRY,
        attempt_timeout_s: float | None = 300,
        deadline_s: float | None = None,
        ack_wait_s: float = 30,
        version: int = 1,
        upgrade: Mapping[int, Upgrade] = _NO_UPGRADE,
        order_key: Callable[[Any], str | None] | None = None,
        max_running: int | None = None,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        _set(self, name=name, input=input, output=type(None) if output is None else output, retry=retry)
        _set(self, version=version, upgrade=upgrade, order_key=order_key, max_running=max_running)
        _set(
            self,
            attempt_timeout_s=attempt_timeout_s,
            deadline_s=deadline_s,
            ack_wait_s=ack_wait_s,
            limits=limits,
        )
        self.__post_init__()
        if not isinstance(retry, Retry):
            raise ConfigError(f"{self}: retry = {quoted(retry)}: must be roost.Retry.")
        self._check_optional_seconds("attempt_timeout_s")
        self._check_optional_seconds("deadline_s")
        self._check_seconds("ack_wait_s", least=_LEAST_ACK_WAIT_S)
        check_version(self, version)
        check_upgrade(self, version, upgrade)
        if order_key is not None and not callable(order_key):
            raise ConfigError(f"{self}: order_key = {quoted(order_key)}: must be a function of an input.")
        if max_running is not None and (type(max_running) is not int or not 1 <= max_running <= MAX_OPEN):
            raise ConfigError(
                f"{self}: max_running = {quoted(max_running)}: must be an int from 1 to {MAX_OPEN}, or None."
            )

    @cached_property
    def input_codec(self) -> Codec[I]:
        return self._codec("input")

    @cached_property
    def output_codec(self) -> Codec[O]:
        return self._codec("output")


@dataclass(frozen=True)
class Workflow(Contract, Generic[I, O]):
    """A durable workflow of several agents: begun once per key, resumed on any instance.

    `retry` counts exceptions of the workflow itself, not crashes of its processes. `deadline_s` bounds
    everything from its start to its outcome, and all that the run calls (`docs/resilience.md`); None, the default,
    does not. `ack_wait_s` is how long a coordinator may be silent before another instance takes the run over.
    `version` and `upgrade` are as for a task, of the workflow's input.
    """

    input: type[I]
    output: type[O]
    retry: Retry = field(default=_DEFAULT_RETRY, kw_only=True)
    deadline_s: float | None = field(default=None, kw_only=True)
    ack_wait_s: float = field(default=30, kw_only=True)
    version: int = field(default=1, kw_only=True)
    upgrade: Mapping[int, Upgrade] = field(default_factory=dict, kw_only=True, compare=False, repr=False)

    kind: ClassVar[str] = "workflow"
    _roles: ClassVar[Mapping[str, str]] = {"input": "input_codec", "output": "output_codec"}
    attempt_timeout_s: ClassVar[float | None] = None
    """An execution has no bound of its own: it may wait for days."""
    order_key: ClassVar[None] = None
    """Runs wait for days; what they call may have an order."""
    max_running: ClassVar[None] = None
    """A run that waits is delivered all the while; what runs call may have a limit."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if not isinstance(self.retry, Retry):
            raise ConfigError(f"{self}: retry = {quoted(self.retry)}: must be roost.Retry.")
        self._check_optional_seconds("deadline_s")
        self._check_seconds("ack_wait_s", least=_LEAST_ACK_WAIT_S)
        check_version(self, self.version)
        check_upgrade(self, self.version, self.upgrade)

    @cached_property
    def input_codec(self) -> Codec[I]:
        return self._codec("input")

    @cached_property
    def output_codec(self) -> Codec[O]:
        return self._codec("output")


@dataclass(frozen=True)
class Signal(Contract, Generic[M]):
    """An event that a running workflow waits for, such as a person's approval."""

    model: type[M]

    kind: ClassVar[str] = "signal"
    _roles: ClassVar[Mapping[str, str]] = {"model": "codec"}

    @cached_property
    def codec(self) -> Codec[M]:
        return self._codec("model")


def _set(contract: Contract, **values: object) -> None:
    """Sets fields of a contract with a constructor of its own, as dataclasses do for the others."""
    for name, value in values.items():
        object.__setattr__(contract, name, value)


_CALLS = {
    "topic": "bus.publish",
    "endpoint": "bus.request and bus.ask_all",
    "stream_endpoint": "bus.stream",
    "task": "bus.submit",
    "workflow": "bus.start",
    "signal": "bus.signal",
}


def check_kind(call: str, contract: object, *kinds: type[Contract]) -> None:
    """Raises ConfigError for a contract of another kind than a call takes; it names the call that is right."""
    if isinstance(contract, kinds):
        return
    if isinstance(contract, Contract):
        raise ConfigError(f"{contract} is for {_CALLS[contract.kind]}, not for {call}. Nothing was sent.")
    takes = " or ".join(f"{'an' if kind is Endpoint else 'a'} {kind.__name__}" for kind in kinds)
    raise ConfigError(f"{call} takes {takes}, and was given {quoted(contract)}. Nothing was sent.")
