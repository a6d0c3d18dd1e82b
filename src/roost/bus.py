"""The bus: one connection to one namespace, from which everything starts."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable, Sequence
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from datetime import datetime
from functools import partial
from typing import Any, Protocol, TypeVar

from roost.contracts import Address, Endpoint, Signal, StreamEndpoint, Task, Topic, Workflow, check_kind
from roost.discovery import TIMEOUT_S, AgentInfo, AgentWatch, Capability, find_agents
from roost.messaging import Answer, Answers, Messenger
from roost.observe import Event, Explanation, Journal, LoopWatch, Trace
from roost.observe.explain import explain
from roost.runs import cancel, send_signal, why_open
from roost.settings import Settings
from roost.tasks import DeadLetter, Desk, Handle, Log, Ref, list_dead
from roost.tasks.groups import DeadGroup, dead_groups
from roost.tasks.pausing import pause, resume
from roost.tasks.schedules import Schedule, Schedules
from roost.transport import Link, ServerStatus, read_status
from roost.upkeep import Upkeep

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
        self.loop_watch = LoopWatch(journal)
        self.instances: set[str] = set()  # names of those that this bus serves
        self.log = Log(link, settings.namespace, journal)
        self.messenger = Messenger(link, settings.namespace, journal)
        self.desk = Desk(self.log, self._cancel, partial(why_open, self.log))
        self._schedules = Schedules(self.log)
        self.upkeep = Upkeep(self.log, inbox=settings.inbox_prefix)

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
        stop), ``auth_failed`` (it refuses the credentials, or they have expired),
        ``login_expires_soon`` (in the last tenth of the life of a user JWT, once), ``permission_denied`` (one
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

    async def explain(
        self, subject: str | Address[Any] | Topic[Any], *, timeout_s: float = 2.0
    ) -> Explanation:
        """Who would get a message on this subject now: streams, subscriptions, members of queue groups; `print` it.

        The servers say so themselves; nothing is delivered and nothing is stored. `subject` is taken as it is, and
        need not be Roost's. Servers that are late are left out after `timeout_s` seconds (`complete` is False then).

        Raises ConfigError (wildcards in the subject, a server before 2.11), PermissionDenied (it takes the right to
        publish on the subject, and on one's own inbox, for the answer), RequestTimeout (no server answered),
        NotConnected, Disconnected.
        """
        return await explain(self.link.client, subject, timeout_s=timeout_s)

    async def request(
        self, endpoint: Endpoint[I, O], value: I, *, timeout_s: float = 5.0, instance: str | None = None
    ) -> O:
        """Ask whichever agent serves the endpoint, or one `instance`, and return its answer.

        Raises NoResponders at once when nobody serves it; RequestTimeout when the answer is late;
        RemoteError with the code and message of a handler that failed (Overloaded: at its limit,
        nothing was run); InvalidMessage; NotConnected (nothing was sent); Disconnected (lost in flight). Of an endpoint
        with a breaker also BreakerOpen; one that is `idempotent` is tried again first (`docs/resilience.md`).
        """
        return await self.messenger.request(
            endpoint, value, timeout_s=timeout_s, trace=Trace.new(), instance=instance
        )

    def ask_all(
        self, endpoint: Endpoint[I, O], value: I, *, timeout_s: float = 5.0, quiet_s: float = 0.5
    ) -> AsyncIterator[Answer[O]]:
        """Ask every instance that serves the endpoint: ``async for answer in bus.ask_all(...)``.

        Ends after `timeout_s` seconds, or when an answer has come and none after it for `quiet_s`: where instances may
        take unequally long (language models), set both alike. An answer says which instance gave it (``by``); its
        ``value`` raises what the instance answered instead, an error of one harms no other. Who says nothing in time is
        left out. Raises NoResponders at once when nobody serves it, InvalidMessage, NotConnected, Disconnected.
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

        Leaving the block cancels the responder; one whose reader is killed gives up when that has granted no more
        chunks for 60 s (event ``stream_left``), and holds its slot until then. `answers` are functions for what the
        responder may ask back (`Context.ask`), by the contract of the question; `instance` asks that one and no other.

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
        self,
        task: Task[I, O],
        value: I,
        *,
        key: str | None = None,
        delay_s: float | None = None,
        at: datetime | None = None,
        timeout_s: float = 10.0,
    ) -> Handle[O]:
        """Store a task; when this returns, it has exactly one outcome to come.

        It begins at once, or not before `delay_s` seconds have passed, or not before `at`, a datetime with a time
        zone; a deadline counts from then (docs/schedules.md).

        With a `key`, repeating the submission finds the task that is there, which begins when the first submission
        said; another value under the same key raises Conflict. Raises ConfigError for a delay that is none,
        InvalidMessage, StoreFull, SubmissionUnknown (repeat with the same key), NotConnected, ConfigMismatch,
        StreamMissing.
        """
        return await self.desk.submit(
            task, value, key=key, delay_s=delay_s, at=at, timeout_s=timeout_s, trace=Trace.new()
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
        """Start a durable workflow; its handle's ``id`` is the run's.

        With a `key`, starting it twice attaches to the same run; another value under the key raises
        Conflict. `delay_s`, `at` and what is raised are as of `submit`.
        """
        return await self.desk.submit(
            workflow, value, key=key, delay_s=delay_s, at=at, timeout_s=timeout_s, trace=Trace.new()
        )

    async def signal(self, run: str, signal: Signal[M], value: M) -> None:
        """Send a signal to a run, which takes it when it waits for one of this kind, now or later.

        It may come before the run is started, so a run that is not there is no error. Returns when it is stored.
        Raises InvalidMessage, UnsafeToken, NotConnected, StreamMissing, ConfigError when the run is over; after
        RequestTimeout or Disconnected it is not known whether it was stored.
        """
        check_kind("bus.signal", signal, Signal)
        await send_signal(self.log, run, signal, value)

    async def submit_many(
        self,
        task: Task[I, O],
        values: Iterable[I] | AsyncIterable[I],
        *,
        keys: Sequence[str] | None = None,
        key: Callable[[I], str] | None = None,
        timeout_s: float = 60.0,
    ) -> list[Handle[O]]:
        """Store many tasks of one contract in atomic batches; one handle for each value, in order.

        `values` may be any iterable, async too; they are read a thousand at a time, as they are stored, and
        `timeout_s` is for each thousand. A task is known by its place in `keys`, or by `key` of its value.

        Two values under one key are one task if they are equal. Raises as `submit`; each batch of 250 is
        stored whole or not at all, and repeating the call with the same keys stores what is missing. StoreFull and
        SubmissionUnknown say in `stored` how many of the first values are stored.
        """
        return await self.desk.submit_many(
            task, values, keys=keys, key=key, timeout_s=timeout_s, trace=Trace.new()
        )

    def submit_each(
        self,
        task: Task[I, O],
        values: Iterable[I] | AsyncIterable[I],
        *,
        key: Callable[[I], str] | None = None,
        timeout_s: float = 60.0,
    ) -> AsyncIterator[Handle[O]]:
        """As `submit_many`, for more than may be held: ``async for handle in bus.submit_each(task, rows, key=...)``.

        Each handle comes when its task is stored, also before an error is raised. At most a thousand values are
        read ahead of that, so a source of millions takes no more memory. Leaving the loop stops submitting.
        """
        return self.desk.submit_each(task, values, key=key, timeout_s=timeout_s, trace=Trace.new())

    def handle(self, task: Task[I, O] | Workflow[I, O], id: str) -> Handle[O]:
        """A handle on a task submitted earlier, here or elsewhere, by the `id` of its first handle.

        Nothing is asked of the server; an id that does not exist has no outcome. Raises ConfigError for
        text that is no id.
        """
        return self.desk.handle(task, id)

    async def pause(self, task: Task[Any, Any] | Workflow[Any, Any], *, for_s: float | None = None) -> None:
        """Deliver no task of this contract to any worker for so many seconds, or until `resume`.

        What runs is finished, submissions go on, and it outlasts restarts of workers and of the server. Another
        pause is replaced. Raises ConfigError, ConfigMismatch, PermissionDenied (it takes an administrator).
        """
        await self.log.ensure_consumer(task)
        await pause(self.log, task.name, for_s)

    async def resume(self, task: Task[Any, Any] | Workflow[Any, Any]) -> bool:
        """End the pause of a contract; whether it was paused. What has waited is delivered within 2 s.

        Raises ConfigError when no worker of it was ever started, PermissionDenied, StreamMissing.
        """
        return await resume(self.log, task.name)

    # Schedules ----------------------------------------------------------------------------------

    async def schedule(
        self,
        contract: Task[I, Any] | Workflow[I, Any],
        value: I,
        *,
        name: str,
        cron: str | None = None,
        every_s: int | None = None,
        timezone: str | None = None,
    ) -> Schedule:
        """Submit a task, or start a workflow, again and again, each time with this `value`. The server keeps the times.

        `cron` has six fields (second minute hour day-of-month month day-of-week) and counts by the clocks of
        `timezone` (UTC); `every_s` is a whole number of seconds instead. A schedule of this `name` that is there gets
        this definition, and stays paused if it is; one that is the same already is left as it is. Docs/schedules.md
        says what becomes of times that pass while nobody can fire.

        Raises ConfigError (nothing was scheduled): a bad expression, interval or zone, a `name` that belongs to
        another contract, a server before 2.14. InvalidMessage, UnsafeToken, ConfigMismatch, StreamMissing and
        PermissionDenied (schedules are a right of their own), and the errors of a write.
        """
        return await self._schedules.put(
            contract, value, name=name, cron=cron, every_s=every_s, timezone=timezone
        )

    async def schedules(self) -> list[Schedule]:
        """All schedules of the namespace, by name: what for, when next, when last. It reads the log."""
        return await self._schedules.list()

    async def pause_schedule(self, name: str) -> Schedule:
        """Fire no more until `resume_schedule`; what has been fired is done. Raises ConfigError if there is none."""
        return await self._schedules.pause(name)

    async def resume_schedule(self, name: str) -> Schedule:
        """Fire again, from the next time on; times that have passed are not made up for. Raises as `pause_schedule`."""
        return await self._schedules.resume(name)

    async def cancel_schedule(self, name: str) -> None:
        """Remove a schedule, with what it has fired and no worker has taken. Raises as `pause_schedule`."""
        await self._schedules.cancel(name)

    async def _cancel(self, ref: Ref, reason: str) -> bool:
        await self.log.ensure()
        return await cancel(self.log, ref, by=self.settings.name, reason=reason)

    # Dead letters -------------------------------------------------------------------------------

    async def dead_letters(
        self, task: Task[Any, Any] | None = None, *, limit: int | None = None
    ) -> list[DeadLetter]:
        """The tasks that ended as dead letters, oldest first; of one contract or of all."""
        return await list_dead(self.log, task.name if task is not None else None, limit=limit)

    async def dead_groups(self, task: Task[Any, Any] | None = None) -> list[DeadGroup]:
        """The dead letters of one contract, or of all, by contract and error; the largest group first.

        Errors that differ only in numbers and ids are one group.
        """
        return await dead_groups(self.log, task.name if task is not None else None)

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

        They say how they are every `heartbeat_s` seconds (``ROOST_HEARTBEAT_S``, then 5). Meanwhile this process takes
        part in the upkeep of the namespace (`docs/retention.md`), if its user may.

        At the end all of them stop at once: they take no new work, running handlers have `grace_s` seconds to
        finish, and what is not finished is handed back. Then their lifespans end, the last one's first. Raises
        ConfigMismatch, StreamMissing, PermissionDenied at the start.
        """
        async with AsyncExitStack() as stack:
            instances = [
                await stack.enter_async_context(agent.serve(self, grace_s=grace_s, heartbeat_s=heartbeat_s))
                for agent in agents
            ]
            await stack.enter_async_context(self.upkeep.running())
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
        within two of its heartbeats; so are all when this connection is lost. Entering raises NotConnected,
        Disconnected, PermissionDenied.
        """
        return AgentWatch(self.link, self.namespace, self.journal, agent=agent, capability=capability)

    async def close(self) -> None:
        """Fail what still waits; called by `connect` at the end of its block."""
        self.desk.waiter.close()
        await self.log.close()
        self.journal.close()
