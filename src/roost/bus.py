"""The bus: one connection to one namespace, from which everything starts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Protocol, TypeVar

from roost import messaging
from roost.contracts import Address, Endpoint, Signal, StreamEndpoint, Task, Topic, Workflow
from roost.discovery import TIMEOUT_S, AgentInfo, AgentWatch, Capability, find_agents
from roost.errors import ConfigError, Conflict, InvalidMessage
from roost.messaging import Answer, Answers
from roost.observe import Event, Journal, Trace, open_recorded
from roost.runs import cancel, send_signal
from roost.settings import TLS, Credentials, Settings, resolve
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
    marks_of,
    new_id,
    note_replay,
    replay_ref,
)
from roost.transport import Link, ServerStatus, read_status

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

    def serve(
        self, bus: Bus, *, grace_s: float, heartbeat_s: float | None = None
    ) -> AbstractAsyncContextManager[S]: ...


class Bus:
    """Made by `connect`. Safe to use from any number of coroutines of the loop that opened it.

    `counters` counts what happened: ``handled:<kind>:<name>``, ``message_refused``, ``dropped``,
    ``task_retried``, ``task_dead``, ``connection_lost`` and so on; `watch` tells of events as they happen.
    """

    def __init__(self, link: Link, settings: Settings, journal: Journal) -> None:
        self.link = link
        self.settings = settings
        self.journal = journal
        self.clock = asyncio.get_running_loop().time
        self.instances: set[str] = set()  # names of those that this bus serves
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
        """Call `watcher` for each event until what this returns is called. It must not block.

        Of the connection tell: ``connected`` and ``closed`` (the first and the last; `connect` has a `watch` for
        those), ``connection_lost``, ``reconnect_failed``, ``reconnected``, ``lame_duck`` (the server is about to
        stop), ``auth_failed`` (it refuses the credentials, or they have expired), ``permission_denied`` (one
        subject), ``server_error``, ``slow_consumer``, ``close_unflushed``.
        """
        return self.journal.watch(watcher)

    async def status(self, *, timeout_s: float = 5.0) -> ServerStatus:
        """Which server this is, its version, JetStream and its limits, the round trip; `print` it for a card.

        Raises NotConnected, Disconnected, TimeoutError.
        """
        return await read_status(self.link, self.settings, timeout_s=timeout_s)

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

    async def request(
        self, endpoint: Endpoint[I, O], value: I, *, timeout_s: float = 5.0, instance: str | None = None
    ) -> O:
        """Ask whichever agent serves the endpoint, or one `instance`, and return its answer.

        Raises NoResponders at once when nobody serves it; RequestTimeout when the answer is late;
        RemoteError with the code and message of a handler that failed (Overloaded: at its limit,
        nothing was run); InvalidMessage; NotConnected (nothing was sent); Disconnected (lost in flight).
        """
        return await self._request(endpoint, value, timeout_s=timeout_s, trace=Trace.new(), instance=instance)

    async def _request(
        self,
        endpoint: Endpoint[I, O],
        value: I,
        *,
        timeout_s: float,
        trace: Trace,
        instance: str | None = None,
    ) -> O:
        try:
            answer: O = await messaging.ask(
                self.link,
                self.settings.namespace,
                endpoint,
                value,
                trace,
                timeout_s=timeout_s,
                instance=instance,
            )
        except InvalidMessage as error:
            self.journal.record("message_refused", subject=error.subject, reason=str(error))
            raise
        return answer

    def ask_all(
        self, endpoint: Endpoint[I, O], value: I, *, timeout_s: float = 5.0, quiet_s: float = 0.5
    ) -> AsyncIterator[Answer[O]]:
        """Ask every instance that serves the endpoint: ``async for answer in bus.ask_all(...)``.

        Ends when no answer has come for `quiet_s` seconds, or after `timeout_s`. An answer says which instance
        gave it (``by``); its ``value`` raises what the instance answered instead, an error of one harms no other.
        Raises NoResponders at once when nobody serves it, InvalidMessage, NotConnected, Disconnected.
        """
        return self._ask_all(endpoint, value, timeout_s=timeout_s, quiet_s=quiet_s, trace=Trace.new())

    def _ask_all(
        self, endpoint: Endpoint[I, O], value: I, *, timeout_s: float, quiet_s: float, trace: Trace
    ) -> AsyncIterator[Answer[O]]:
        return messaging.ask_all(
            self.link.client,
            self.journal,
            self.settings.namespace,
            endpoint,
            value,
            trace,
            timeout_s=timeout_s,
            quiet_s=quiet_s,
        )

    def stream(
        self,
        endpoint: StreamEndpoint[I, C],
        value: I,
        *,
        idle_timeout_s: float = 30.0,
        answers: Answers | None = None,
        instance: str | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[C]]:
        """Ask for a streamed answer: ``async with bus.stream(...) as chunks: async for chunk in chunks``.

        Leaving the block cancels the responder. `answers` are functions for what the responder may ask back
        (`Context.ask`), by the contract of the question; `instance` asks that one and no other.

        It ends with the answer, and raises NoResponders, RequestTimeout (no chunk for `idle_timeout_s` seconds),
        RemoteError when the handler failed in mid-stream, InvalidMessage, Disconnected.
        """
        return self._stream(
            endpoint,
            value,
            idle_timeout_s=idle_timeout_s,
            timeout_s=None,
            trace=Trace.new(),
            answers=answers,
            instance=instance,
        )

    def _stream(
        self,
        endpoint: StreamEndpoint[I, C],
        value: I,
        *,
        idle_timeout_s: float,
        timeout_s: float | None,
        trace: Trace,
        answers: Answers | None = None,
        instance: str | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[C]]:
        return messaging.open_stream(
            self.link,
            self.settings.namespace,
            self.journal,
            endpoint,
            value,
            trace,
            idle_timeout_s=idle_timeout_s,
            timeout_s=timeout_s,
            answers=answers,
            instance=instance,
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
        marks = current.marks if value is None else marks_of(task, value)
        item = Item(target, data, Trace.new().header, marks)
        stored = await self._submitter.submit(item, timeout_s=timeout_s)
        await note_replay(self.log, current, target)
        return self._handle(task, target, None, created=stored.seq > 0)

    # Agents -------------------------------------------------------------------------------------

    @asynccontextmanager
    async def serving(
        self, *agents: Servable[S], grace_s: float = GRACE_S, heartbeat_s: float | None = None
    ) -> AsyncIterator[list[S]]:
        """Serve agents in this process for the length of the block; yields their instances.

        They say how they are every `heartbeat_s` seconds (``ROOST_HEARTBEAT_S``, then 5).

        At the end all of them stop at once: they take no new work, running handlers have `grace_s` seconds to
        finish, and what is not finished is handed back. Then their lifespans end, the last one's first. Raises
        ConfigMismatch, StreamMissing, PermissionDenied at the start.
        """
        async with AsyncExitStack() as stack:
            instances = [
                await stack.enter_async_context(agent.serve(self, grace_s=grace_s, heartbeat_s=heartbeat_s))
                for agent in agents
            ]
            try:
                yield instances
            finally:
                await asyncio.gather(*(one.stop(grace_s) for one in instances))

    async def agents(
        self, *, agent: str | None = None, capability: Capability | None = None, timeout_s: float = TIMEOUT_S
    ) -> list[AgentInfo]:
        """Who is there now, by name of the instance: of one `agent`, or able to do `capability` (a contract, or
        the name of one).

        Answers are waited for until no more come, `timeout_s` seconds at most. Who is frozen or blocks its event
        loop is not among them (`watch_agents` shows it as silent). Raises NotConnected, Disconnected,
        PermissionDenied, ConfigError.
        """
        client = self.link.client
        return await find_agents(client, self.namespace, self.journal, agent, capability, timeout_s)

    def watch_agents(self, *, agent: str | None = None, capability: Capability | None = None) -> AgentWatch:
        """Follow who is there: ``async with bus.watch_agents() as watch: async for change in watch: ...``.

        ``change.kind`` is joined, changed (state, load), silent, left or gone, ``watch.agents`` who is there.
        The first changes are those that are there already. Who is killed is gone, who is frozen is silent,
        within two of its heartbeats. Entering raises NotConnected, Disconnected, PermissionDenied.
        """
        return AgentWatch(self.link, self.namespace, self.journal, agent=agent, capability=capability)

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
    url: str | None = None,
    *,
    namespace: str | None = None,
    name: str | None = None,
    context: str | None = None,
    credentials: Credentials | Callable[[], Credentials] | None = None,
    tls: TLS | None = None,
    inbox_prefix: str | None = None,
    insecure: bool | None = None,
    connect_timeout_s: float = 5.0,
    watch: Callable[[Event], None] | None = None,
) -> AsyncIterator[Bus]:
    """Connect to a NATS server: ``async with roost.connect() as bus``.

    `url` may name several servers, separated by commas. Without it the first of these decides: `context` (a context
    of the `nats` tool), ``NATS_URL``, ``NATS_CONTEXT``, the context that is selected, nats://127.0.0.1:4222.
    `credentials` and `tls` default to what comes with that place (see `roost.settings.resolve`); they are read again
    for each connection, so replace a file and the next reconnect uses it.

    A server that is not on this machine must offer TLS and be given credentials or a certificate, unless `insecure`
    (``ROOST_INSECURE=1``) says that neither matters. `inbox_prefix` (``ROOST_INBOX_PREFIX``), such as ``_INBOX_ann``,
    keeps others from reading the answers. `namespace` (``ROOST_NAMESPACE``, then "roost") keeps the tasks and
    endpoints of several systems on one server apart. `watch` is `Bus.watch` from before the first connection on.

    Raises ConnectError within `connect_timeout_s` seconds, ConfigError.
    """
    settings = resolve(
        url,
        namespace=namespace,
        name=name,
        context=context,
        credentials=credentials,
        tls=tls,
        inbox_prefix=inbox_prefix,
        insecure=insecure,
        connect_timeout_s=connect_timeout_s,
    )
    journal = Journal()
    if watch is not None:
        journal.watch(watch)
    async with open_recorded(settings, journal) as link:
        bus = Bus(link, settings, journal)
        try:
            yield bus
        finally:
            await bus.close()
