"""One running instance of an agent: its subscriptions and workers, started in order and ended in order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from time import perf_counter_ns
from typing import Any

from roost.bus import Bus
from roost.context import Context
from roost.contracts import BreakerPolicy, Endpoint, StreamEndpoint, Topic, Workflow
from roost.discovery import Card, Load, Part, Presence, Tally, schemas_of
from roost.errors import PermissionDenied, RoostError
from roost.messaging import EndpointServer, StreamServer, TopicReader
from roost.messaging.call import Function
from roost.messaging.endpoints import GROUP, trace_of
from roost.observe import Trace
from roost.permissions import Job, check_rights, serving
from roost.runs import Coordinator, Run
from roost.tasks import Delivery, Ref, Reporter, Worker, end_codec
from roost.tasks.gate import Gate
from roost.tasks.provision import Reported
from roost.tasks.references import allows_large
from roost.transport import Message

FLUSH_S = 1.0


def reported(agent: str, contract: Any, of: Workflow[Any, Any] | str | None) -> Reported:
    """What ``agent.reports(contract, of=of)`` follows."""
    large = allows_large(contract)
    if isinstance(of, Workflow):
        return Reported(agent=agent, name=contract.name, workflow=of.name, large=large)
    return Reported(agent=agent, name=contract.name, run=of or "", large=large)


class Instance:
    """`name` is what timelines and dead letters call it, and whom a request to one instance is for."""

    def __init__(self, bus: Bus, card: Card, deps: Any) -> None:
        self.bus = bus
        self.agent = card.agent
        self.name = card.instance
        self.presence = Presence(bus.link.client, bus.journal, card)
        self._tallies: dict[str, Tally] = {}
        self._deps = deps
        self._functions: list[Function] = []
        self._services: list[TopicReader | EndpointServer] = []
        self._workers: list[Worker | Reporter] = []
        self._stopped = False

    @property
    def handled(self) -> Counter[str]:
        """Calls that ended well, by kind and name: ``handled["task:digest"]``; outcomes reported are `report`."""
        return Counter({key: tally.handled for key, tally in self._tallies.items()})

    async def add(
        self,
        contract: Any,
        function: Callable[..., Any],
        concurrency: int,
        *,
        shared: bool,
        backlog: int | None = None,
        breaker: BreakerPolicy | None = None,
    ) -> None:
        """Begin to serve one contract."""
        call = Function(function, threads=concurrency, yields=isinstance(contract, StreamEndpoint))
        self._functions.append(call)
        client, journal = self.bus.link.client, self.bus.journal
        tally = self._tally(contract.kind, contract.name)
        if isinstance(contract, Topic):
            group = f"{self.bus.namespace}.{self.agent}" if shared else ""
            reader = TopicReader(
                client,
                contract,
                journal,
                self._on_topic(tally, call),
                group=group,
                concurrency=concurrency,
                backlog=backlog,
            )
            self._services.append(reader)
            reader.start()
            self._serves(contract, contract.template.wildcard, group, concurrency, lambda: reader.load)
        elif isinstance(contract, Endpoint):
            server = EndpointServer(
                client,
                self.bus.namespace,
                contract,
                journal,
                self._on_request(tally, call),
                concurrency=concurrency,
                backlog=backlog,
                instance=self.name,
            )
            self._services.append(server)
            server.tally = tally
            server.start()
            self._serves(contract, server.subject, GROUP, concurrency, lambda: server.load)
        elif isinstance(contract, StreamEndpoint):
            streams = StreamServer(
                client,
                self.bus.namespace,
                contract,
                journal,
                self._on_stream(tally, call),
                concurrency=concurrency,
                backlog=backlog,
                instance=self.name,
            )
            self._services.append(streams)
            streams.tally = tally
            streams.start()
            self._serves(contract, streams.subject, GROUP, concurrency, lambda: streams.load)
        elif isinstance(contract, Workflow):
            coordinator = Coordinator(
                self.bus.log,
                contract,
                self._on_workflow(tally, call),
                concurrency=concurrency,
                instance=self.name,
                deps=self._deps,
            )
            self._workers.append(coordinator)
            await coordinator.start()
            source = self.bus.log.subjects.tasks_of(contract.name)
            self._serves(contract, source, "", concurrency, lambda: Load(coordinator.running))
        else:
            worker = Worker(
                self.bus.log,
                contract,
                self._on_task(tally, call),
                concurrency=concurrency,
                instance=self.name,
                gate=Gate(self.bus.log, contract.name, breaker) if breaker is not None else None,
            )
            self._workers.append(worker)
            await worker.start()
            source = self.bus.log.subjects.tasks_of(contract.name)
            self._serves(contract, source, "", concurrency, lambda: Load(worker.running))

    async def follow(self, contract: Any, function: Callable[..., Any], of: Any) -> None:
        """Begin to report the outcomes of one contract, in all runs or in those of `of`."""
        call = Function(function, threads=1)
        self._functions.append(call)

        what = reported(self.agent, contract, of)
        tally = self._tally("report", contract.name)

        async def report(outcome: Any, ref: Ref, message: Message, delivered: int) -> None:
            def context() -> Context[Any]:
                return Context(
                    self.bus,
                    deps=self._deps,
                    subject=message.subject,
                    instance=self.name,
                    trace=trace_of(message),
                    attempt=delivered,
                    idempotency_key=f"{what.durable}/{ref}",
                    parameters={"run": ref.run, "id": ref.id},
                )

            began_ns = perf_counter_ns()
            try:
                await call(outcome, context)
            except Exception as error:
                tally.failed(began_ns, error)
                raise
            tally.done(began_ns)

        codec = end_codec(contract.output, contract.limits)
        reporter = Reporter(self.bus.log, what, codec, report)
        self._workers.append(reporter)
        await reporter.start()
        source = self.bus.log.subjects.ends_of(contract.name)
        self._serves(contract, source, "", 1, lambda: Load(reporter.running), kind="report")

    def _tally(self, kind: str, name: str) -> Tally:
        return self._tallies.setdefault(f"{kind}:{name}", Tally())

    def _serves(
        self,
        contract: Any,
        subject: str,
        group: str,
        limit: int,
        load: Callable[[], Load],
        *,
        kind: str | None = None,
    ) -> None:
        """Tell those who ask that this is served here."""
        kind = kind if kind is not None else str(contract.kind)
        self.presence.parts.append(
            Part(
                kind=kind,
                name=contract.name,
                subject=subject,
                group=group,
                limit=limit,
                schemas=schemas_of(contract),
                tally=self._tally(kind, contract.name),
                load=load,
            )
        )

    async def check(self, job: Job) -> None:
        """Raises PermissionDenied, which lists everything that this user needs for its job and may not do."""
        inbox = self.bus.settings.inbox_prefix
        needed = serving(job, self.bus.namespace, inbox, instance=self.name)
        await check_rights(self.bus.link, needed, self.bus.journal)

    async def ready(self) -> None:
        """Wait until the server knows all subscriptions. Raises PermissionDenied for those that it refuses."""
        await self.bus.link.client.flush()
        denied = [(one.denied, "subscribe") for one in self._services if one.denied]
        denied += [self.presence.denied] if self.presence.denied[0] else []
        if denied:
            raise PermissionDenied(*denied[0], others=denied[1:])
        self.presence.become("ready")

    def _on_topic(
        self, tally: Tally, call: Function
    ) -> Callable[[Any, Message, dict[str, str]], Awaitable[None]]:
        async def handle(value: Any, message: Message, parameters: dict[str, str]) -> None:
            def context() -> Context[Any]:
                return Context(
                    self.bus,
                    deps=self._deps,
                    subject=message.subject,
                    instance=self.name,
                    trace=trace_of(message),
                    parameters=parameters,
                )

            began_ns = perf_counter_ns()
            try:
                await call(value, context)
            except Exception as error:
                tally.failed(began_ns, error)
                raise
            tally.done(began_ns)

        return handle

    def _on_request(self, tally: Tally, call: Function) -> Callable[[Any, Message, float], Awaitable[Any]]:
        async def handle(value: Any, message: Message, deadline: float) -> Any:
            def context() -> Context[Any]:
                return Context(
                    self.bus,
                    deps=self._deps,
                    subject=message.subject,
                    instance=self.name,
                    trace=trace_of(message),
                    deadline=deadline,
                )

            began_ns = perf_counter_ns()
            try:
                answer = await call(value, context)
            except BaseException:
                tally.spent(began_ns)  # the error is counted with its answer
                raise
            tally.done(began_ns)
            return answer

        return handle

    def _on_stream(self, tally: Tally, call: Function) -> Callable[[Any, Message, float], AsyncIterator[Any]]:
        async def generate(value: Any, message: Message, deadline: float) -> AsyncIterator[Any]:
            def context() -> Context[Any]:
                return Context(
                    self.bus,
                    deps=self._deps,
                    subject=message.subject,
                    instance=self.name,
                    trace=trace_of(message),
                    deadline=deadline,
                    caller=message.reply,
                )

            began_ns = perf_counter_ns()
            try:
                async for chunk in (
                    call.function(value, context()) if call.takes_context else call.function(value)
                ):
                    yield chunk
            except BaseException:
                tally.spent(began_ns)
                raise
            tally.done(began_ns)

        return generate

    def _on_task(self, tally: Tally, call: Function) -> Callable[[Any, Delivery], Awaitable[Any]]:
        async def handle(value: Any, delivery: Delivery) -> Any:
            def context() -> Context[Any]:
                return Context(
                    self.bus,
                    deps=self._deps,
                    subject=delivery.subject,
                    instance=self.name,
                    trace=Trace.parse(delivery.trace).child(),
                    attempt=delivery.attempt,
                    idempotency_key=str(delivery.ref),
                    ref=delivery.ref,
                    token=delivery.token,
                    deadline=delivery.deadline,
                )

            began_ns = perf_counter_ns()
            try:
                result = await call(value, context)
            except asyncio.CancelledError:
                if delivery.expired:
                    tally.refused("it took longer than it may")
                tally.spent(began_ns)
                raise
            except Exception as error:
                tally.failed(began_ns, error)
                raise
            tally.done(began_ns)
            return result

        return handle

    def _on_workflow(self, tally: Tally, call: Function) -> Callable[[Any, Run[Any]], Awaitable[Any]]:
        async def execute(value: Any, run: Run[Any]) -> Any:
            began_ns = perf_counter_ns()
            try:
                result = await call(value, lambda: run)
            except Exception as error:
                tally.failed(began_ns, error)
                raise
            tally.done(began_ns)
            return result

        return execute

    async def stop(self, grace_s: float) -> None:
        """Take no new work, let handlers finish within `grace_s` seconds, hand back the rest, send what is left.

        A second call with less grace hurries the first, and so does cancellation, which is raised when all is
        handed back: a stop that ended halfway would leave handlers behind. Once stopped, a call does nothing.
        """
        if self._stopped:
            return
        ends = [asyncio.create_task(self._stop(grace_s), name=f"roost-stop-{self.name}")]
        interrupted: asyncio.CancelledError | None = None
        while pending := [end for end in ends if not end.done()]:
            try:
                await asyncio.wait(pending)
            except asyncio.CancelledError as error:
                if interrupted is None:
                    ends.append(asyncio.create_task(self._stop(0), name=f"roost-stop-{self.name}"))
                interrupted = error
        self._stopped = True
        for end in ends:
            end.result()
        if interrupted is not None:
            raise interrupted

    def quiesce(self) -> None:
        """Take no new work; what runs goes on. `stop` follows."""
        for service in self._services:
            service.quiesce()
        for worker in self._workers:
            worker.quiesce()

    async def _stop(self, grace_s: float) -> None:
        until = asyncio.get_running_loop().time() + grace_s
        self.quiesce()
        self.presence.become("draining")
        await self._flush()  # what was on its way when interest ended has arrived after this
        left_s = max(0.0, until - asyncio.get_running_loop().time())
        ends = [service.stop(left_s) for service in self._services]
        ends += [worker.stop(left_s) for worker in self._workers]
        failures = [one for one in await asyncio.gather(*ends, return_exceptions=True) if one is not None]
        for call in self._functions:
            call.close()
        self.presence.leave()
        await self._flush()
        if failures:
            raise failures[0]

    async def _flush(self) -> None:
        client = self.bus.link.client
        if client.is_connected:
            try:
                await client.flush(FLUSH_S)
            except (RoostError, TimeoutError) as error:
                self.bus.journal.count(f"flush_failed:{type(error).__name__}")
