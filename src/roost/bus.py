"""The bus: one connection to one namespace, from which everything starts."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Protocol, TypeVar

from roost import messaging
from roost.contracts import Address, Endpoint, Signal, StreamEndpoint, Task, Topic, Workflow
from roost.errors import ConfigError, Conflict, InvalidMessage
from roost.observe import Event, Journal, Trace
from roost.runs import cancel, send_signal
from roost.settings import Settings, resolve
from roost.subjects import key_token
from roost.tasks import (
    DeadLetter,
    Handle,
    Item,
    Log,
    Ref,
    Submitter,
    Waiter,
    end_codec,
    find_dead,
    list_dead,
    new_id,
    note_replay,
    replay_ref,
)
from roost.transport import Link, open_link

I = TypeVar("I")
O = TypeVar("O")
M = TypeVar("M")
C = TypeVar("C")

GRACE_S = 10.0


class Served(Protocol):
    """One running instance of what is served."""

    async def stop(self, grace_s: float) -> None: ...


S = TypeVar("S", bound=Served, covariant=True)


class Servable(Protocol[S]):
    """Something that can be served on a bus: an `Agent`."""

    def serve(self, bus: Bus, *, grace_s: float) -> AbstractAsyncContextManager[S]: ...


class Bus:
    """Made by `connect`. Safe to use from any number of coroutines of the loop that opened it.

    `counters` counts what happened: ``handled:<contract>``, ``message_refused``, ``dropped``,
    ``task_retried``, ``task_dead``, ``connection_lost`` and so on; `watch` tells of events as they happen.
    """

    def __init__(self, link: Link, settings: Settings, journal: Journal) -> None:
        self.link = link
        self.settings = settings
        self.journal = journal
        self.clock = asyncio.get_running_loop().time
        self.log = Log(link, settings.namespace, journal)
        self._submitter = Submitter(self.log)
        self._waiter = Waiter(self.log)
        self._end_codecs: dict[Any, Any] = {}

    @property
    def namespace(self) -> str:
        return self.settings.namespace

    @property
    def counters(self) -> Counter[str]:
        return self.journal.counters

    def watch(self, watcher: Callable[[Event], None]) -> Callable[[], None]:
        """Call `watcher` for each event until what this returns is called. It must not block."""
        return self.journal.watch(watcher)

    # Messages -----------------------------------------------------------------------------------

    async def publish(self, to: Topic[M] | Address[M], value: M) -> None:
        """Publish to whoever listens now; nobody listening is no error.

        Raises InvalidMessage (TooLarge) when the value does not fit the topic's model, UnsafeToken,
        NotConnected; nothing was sent then.
        """
        await self._publish(to, value, trace=Trace.new())

    async def _publish(self, to: Topic[M] | Address[M], value: M, *, trace: Trace) -> None:
        try:
            await messaging.publish(self.link, to, value, trace)
        except InvalidMessage as error:
            self.journal.record("message_refused", subject=error.subject, reason=str(error))
            raise

    async def request(self, endpoint: Endpoint[I, O], value: I, *, timeout_s: float = 5.0) -> O:
        """Ask whichever agent serves the endpoint, and return its answer.

        Raises NoResponders at once when nobody serves it; RequestTimeout when the answer is late;
        RemoteError with the code and message of a handler that failed (Overloaded: at its limit,
        nothing was run); InvalidMessage; NotConnected (nothing was sent); Disconnected (lost in flight).
        """
        return await self._request(endpoint, value, timeout_s=timeout_s, trace=Trace.new())

    async def _request(self, endpoint: Endpoint[I, O], value: I, *, timeout_s: float, trace: Trace) -> O:
        try:
            answer: O = await messaging.ask(
                self.link, self.settings.namespace, endpoint, value, trace, timeout_s=timeout_s
            )
        except InvalidMessage as error:
            self.journal.record("message_refused", subject=error.subject, reason=str(error))
            raise
        return answer

    def stream(
        self, endpoint: StreamEndpoint[I, C], value: I, *, idle_timeout_s: float = 30.0
    ) -> AbstractAsyncContextManager[AsyncIterator[C]]:
        """Ask for a streamed answer: ``async with bus.stream(...) as chunks: async for chunk in chunks``.

        Leaving the block cancels the responder. The iterator ends with the answer; it raises NoResponders
        when nobody serves the endpoint, RequestTimeout when no chunk comes for `idle_timeout_s` seconds,
        RemoteError when the handler failed in mid-stream, InvalidMessage, Disconnected.
        """
        return self._stream(endpoint, value, idle_timeout_s=idle_timeout_s, timeout_s=None, trace=Trace.new())

    def _stream(
        self,
        endpoint: StreamEndpoint[I, C],
        value: I,
        *,
        idle_timeout_s: float,
        timeout_s: float | None,
        trace: Trace,
    ) -> AbstractAsyncContextManager[AsyncIterator[C]]:
        return messaging.open_stream(
            self.link,
            self.settings.namespace,
            endpoint,
            value,
            trace,
            idle_timeout_s=idle_timeout_s,
            timeout_s=timeout_s,
        )

    # Tasks --------------------------------------------------------------------------------------

    async def submit(
        self, task: Task[I, O], value: I, *, key: str | None = None, timeout_s: float = 10.0
    ) -> Handle[O]:
        """Store a task; when this returns, it has exactly one outcome to come.

        With a `key`, repeating the submission finds the task that is there; another value under the same
        key raises Conflict. Raises InvalidMessage, StoreFull, SubmissionUnknown (repeat with the same
        key), NotConnected, ConfigMismatch, StreamMissing.
        """
        return await self._submit(task, value, key=key, timeout_s=timeout_s, trace=Trace.new())

    async def start(
        self, workflow: Workflow[I, O], value: I, *, key: str | None = None, timeout_s: float = 10.0
    ) -> Handle[O]:
        """Start a durable workflow; its handle's ``id`` is the run's.

        With a `key`, starting it twice attaches to the same run; another value under the key raises
        Conflict. Raises as `submit`.
        """
        return await self._submit(workflow, value, key=key, timeout_s=timeout_s, trace=Trace.new())

    async def signal(self, run: str, signal: Signal[M], value: M) -> None:
        """Send a signal to a run, which takes it when it waits for one of this kind, now or later.

        Returns when it is stored. Raises InvalidMessage, UnsafeToken, NotConnected, StreamMissing; after
        RequestTimeout or Disconnected it is not known whether it was stored.
        """
        await send_signal(self.log, run, signal, value)

    async def _submit(
        self, task: Task[I, O] | Workflow[I, O], value: I, *, key: str | None, timeout_s: float, trace: Trace
    ) -> Handle[O]:
        ref = _ref(task, key)
        data = task.input_codec.encode(value, subject=self.log.subjects.task(ref))
        covered = self._waiter.covers(task.name)
        stored = await self._submitter.submit(Item(ref, data, trace.header), timeout_s=timeout_s)
        created = stored.seq > 0
        return self._handle(task, ref, key, created=created, fresh=created and covered)

    async def submit_many(
        self,
        task: Task[I, O],
        values: Sequence[I],
        *,
        keys: Sequence[str] | None = None,
        timeout_s: float = 60.0,
    ) -> list[Handle[O]]:
        """Store many tasks of one contract in atomic batches; one handle for each value, in order.

        Two values under one key are one task if they are equal. Raises as `submit`; each batch of 250 is
        stored whole or not at all, and repeating the call with the same keys stores what is missing.
        """
        return await self._submit_many(task, values, keys=keys, timeout_s=timeout_s, trace=Trace.new())

    async def _submit_many(
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
            subject = self.log.subjects.task(ref)
            data = task.input_codec.encode(value, subject=subject)
            twin = items.setdefault(ref, Item(ref, data, trace.header))
            if twin.data != data:
                raise Conflict(key=key or ref.id, subject=subject)
            refs.append(ref)
        stored = await self._submitter.submit_many(list(items.values()), timeout_s=timeout_s)
        created = {one.ref: one.seq > 0 for one in stored}
        return [
            self._handle(task, ref, keys[number] if keys is not None else None, created=created[ref])
            for number, ref in enumerate(refs)
        ]

    def handle(self, task: Task[I, O] | Workflow[I, O], id: str) -> Handle[O]:
        """A handle on a task submitted earlier, here or elsewhere, by the `id` of its first handle.

        Nothing is asked of the server; an id that does not exist has no outcome. Raises ConfigError for
        text that is no id.
        """
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
        codec = self._end_codecs.get((task.output, task.limits))
        if codec is None:
            codec = self._end_codecs[task.output, task.limits] = end_codec(task.output, task.limits)
        name = key if key is not None else ref.id
        return Handle(ref, name, self.log, self._waiter, codec, self._cancel, created=created, fresh=fresh)

    async def _cancel(self, ref: Ref, reason: str) -> bool:
        await self.log.ensure()
        return await cancel(self.log, ref, by=self.settings.name, reason=reason)

    # Dead letters -------------------------------------------------------------------------------

    async def dead_letters(
        self, task: Task[Any, Any] | None = None, *, limit: int | None = None
    ) -> list[DeadLetter]:
        """The tasks that ended as dead letters, oldest first; of one contract or of all."""
        return await list_dead(self.log, task.name if task is not None else None, limit=limit)

    async def replay(
        self, task: Task[I, O], letter: DeadLetter | str, value: I | None = None, *, timeout_s: float = 10.0
    ) -> Handle[O]:
        """Submit a dead letter's work again, as it was or with another `value`; the letter is kept.

        `letter` may be the id of the dead task: then it is replayed once more. A `DeadLetter` stands for the
        letter as it was when it was read: replaying that again, here or elsewhere, finds the first replay if
        the payloads are equal, and raises Conflict if not. Raises ConfigError when there is no such letter,
        or it belongs to another contract; else as `submit`.
        """
        ref = letter.ref if isinstance(letter, DeadLetter) else self.handle(task, letter).ref
        if ref.name != task.name:
            raise ConfigError(
                f"dead letter {ref} belongs to task {ref.name!r}, not to {task.name!r}; nothing was submitted"
            )
        current = await find_dead(self.log, ref)
        target = replay_ref(letter if isinstance(letter, DeadLetter) else current)
        subject = self.log.subjects.task(target)
        data = current.input if value is None else task.input_codec.encode(value, subject=subject)
        stored = await self._submitter.submit(Item(target, data, Trace.new().header), timeout_s=timeout_s)
        await note_replay(self.log, current, target)
        return self._handle(task, target, None, created=stored.seq > 0)

    # Agents -------------------------------------------------------------------------------------

    @asynccontextmanager
    async def serving(self, *agents: Servable[S], grace_s: float = GRACE_S) -> AsyncIterator[list[S]]:
        """Serve agents in this process for the length of the block; yields their instances.

        At the end all of them stop at once: they take no new work, running handlers have `grace_s` seconds to
        finish, and what is not finished is handed back. Then their lifespans end, the last one's first. Raises
        ConfigMismatch, StreamMissing, PermissionDenied at the start.
        """
        async with AsyncExitStack() as stack:
            instances = [
                await stack.enter_async_context(agent.serve(self, grace_s=grace_s)) for agent in agents
            ]
            try:
                yield instances
            finally:
                await asyncio.gather(*(one.stop(grace_s) for one in instances))

    async def close(self) -> None:
        """Fail what still waits; called by `connect` at the end of its block."""
        self._waiter.close()
        await self.log.close()
        self.journal.close()


def _ref(task: Task[Any, Any] | Workflow[Any, Any], key: str | None) -> Ref:
    """The reference of a task that stands alone: its run is itself.

    A chosen key counts within its contract, so the contract's name is part of the id.
    """
    if key is not None:
        id = f"{task.name}:{key_token(key)}"
    else:
        id = f"{task.name}:{new_id()}" if isinstance(task, Workflow) else new_id()
    return Ref(id, task.name, id)


@asynccontextmanager
async def connect(
    url: str | None = None, *, namespace: str | None = None, name: str | None = None
) -> AsyncIterator[Bus]:
    """Connect to a NATS server: ``async with roost.connect() as bus``.

    `url` may name several servers, separated by commas; without it ``NATS_URL`` is used, then
    nats://127.0.0.1:4222. `namespace` (``ROOST_NAMESPACE``, then "roost") keeps the tasks and endpoints of
    several systems on one server apart. Raises ConnectError within about five seconds.
    """
    settings = resolve(url, namespace=namespace, name=name)
    journal = Journal()

    def observe(kind: str, detail: str) -> None:
        # What went wrong in one try to connect is said by the error, or by the event, that follows it.
        journal.record(
            kind, reason=detail, level=logging.DEBUG if kind == "client_error" else logging.WARNING
        )

    async with open_link(settings, observe) as link:
        bus = Bus(link, settings, journal)
        try:
            yield bus
        finally:
            await bus.close()
