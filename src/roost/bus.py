"""The bus: one connection to one namespace, from which everything starts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from typing import Any, Protocol, TypeVar

from roost.contracts import Address, Endpoint, Signal, StreamEndpoint, Task, Topic, Workflow
from roost.discovery import TIMEOUT_S, AgentInfo, AgentWatch, Capability, find_agents
from roost.messaging import Answer, Answers, Messenger
from roost.observe import Event, Journal, Trace
from roost.runs import cancel, send_signal
from roost.settings import Settings
from roost.tasks import DeadLetter, Desk, Handle, Log, Ref, list_dead
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
        self.messenger = Messenger(link, settings.namespace, journal)
        self.desk = Desk(self.log, self._cancel)

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
        await self.messenger.publish(to, value, trace=Trace.new())

    async def request(
        self, endpoint: Endpoint[I, O], value: I, *, timeout_s: float = 5.0, instance: str | None = None
    ) -> O:
        """Ask whichever agent serves the endpoint, or one `instance`, and return its answer.

        Raises NoResponders at once when nobody serves it; RequestTimeout when the answer is late;
        RemoteError with the code and message of a handler that failed (Overloaded: at its limit,
        nothing was run); InvalidMessage; NotConnected (nothing was sent); Disconnected (lost in flight).
        """
        return await self.messenger.request(
            endpoint, value, timeout_s=timeout_s, trace=Trace.new(), instance=instance
        )

    def ask_all(
        self, endpoint: Endpoint[I, O], value: I, *, timeout_s: float = 5.0, quiet_s: float = 0.5
    ) -> AsyncIterator[Answer[O]]:
        """Ask every instance that serves the endpoint: ``async for answer in bus.ask_all(...)``.

        Ends when no answer has come for `quiet_s` seconds, or after `timeout_s`. An answer says which instance
        gave it (``by``); its ``value`` raises what the instance answered instead, an error of one harms no other.
        Raises NoResponders at once when nobody serves it, InvalidMessage, NotConnected, Disconnected.
        """
        return self.messenger.ask_all(
            endpoint, value, timeout_s=timeout_s, quiet_s=quiet_s, trace=Trace.new()
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
        return self.messenger.stream(
            endpoint,
            value,
            idle_timeout_s=idle_timeout_s,
            timeout_s=None,
            trace=Trace.new(),
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
        return await self.desk.submit(task, value, key=key, timeout_s=timeout_s, trace=Trace.new())

    async def start(
        self, workflow: Workflow[I, O], value: I, *, key: str | None = None, timeout_s: float = 10.0
    ) -> Handle[O]:
        """Start a durable workflow; its handle's ``id`` is the run's.

        With a `key`, starting it twice attaches to the same run; another value under the key raises
        Conflict. Raises as `submit`.
        """
        return await self.desk.submit(workflow, value, key=key, timeout_s=timeout_s, trace=Trace.new())

    async def signal(self, run: str, signal: Signal[M], value: M) -> None:
        """Send a signal to a run, which takes it when it waits for one of this kind, now or later.

        Returns when it is stored. Raises InvalidMessage, UnsafeToken, NotConnected, StreamMissing; after
        RequestTimeout or Disconnected it is not known whether it was stored.
        """
        await send_signal(self.log, run, signal, value)

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
        return await self.desk.submit_many(task, values, keys=keys, timeout_s=timeout_s, trace=Trace.new())

    def handle(self, task: Task[I, O] | Workflow[I, O], id: str) -> Handle[O]:
        """A handle on a task submitted earlier, here or elsewhere, by the `id` of its first handle.

        Nothing is asked of the server; an id that does not exist has no outcome. Raises ConfigError for
        text that is no id.
        """
        return self.desk.handle(task, id)

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
        return await self.desk.replay(task, letter, value, timeout_s=timeout_s)

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
        self.desk.waiter.close()
        await self.log.close()
        self.journal.close()
