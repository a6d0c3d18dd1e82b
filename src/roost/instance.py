"""One running instance of an agent: its subscriptions and workers, started in order and ended in order."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from roost.bus import Bus
from roost.context import Context
from roost.contracts import Endpoint, StreamEndpoint, Task, Topic, Workflow
from roost.errors import PermissionDenied, RoostError
from roost.messaging import EndpointServer, StreamServer, TopicReader
from roost.messaging.call import Function
from roost.messaging.endpoints import trace_of
from roost.observe import Trace
from roost.runs import Coordinator, Run
from roost.subjects import key_token
from roost.tasks import Delivery, Ref, Reporter, Worker, end_codec
from roost.transport import Message

FLUSH_S = 1.0


def report_suffix(of: Workflow[Any, Any] | str | None) -> str:
    """What the consumer of an agent's reports is called after: everything, one workflow, or one run."""
    if of is None:
        return ""
    return f"run_{key_token(of)}" if isinstance(of, str) else f"of_{of.name}"


class Instance:
    """`name` is what timelines and dead letters call it; `handled` counts finished calls per contract."""

    def __init__(self, bus: Bus, agent: str, name: str, deps: Any) -> None:
        self.bus = bus
        self.agent = agent
        self.name = name
        self.handled: Counter[str] = Counter()
        self._deps = deps
        self._functions: list[Function] = []
        self._services: list[TopicReader | EndpointServer] = []
        self._workers: list[Worker | Reporter] = []
        self._stopped = False

    async def add(
        self,
        contract: Any,
        function: Callable[..., Any],
        concurrency: int,
        *,
        shared: bool,
        backlog: int | None = None,
    ) -> None:
        """Begin to serve one contract."""
        call = Function(function, threads=concurrency, yields=isinstance(contract, StreamEndpoint))
        self._functions.append(call)
        client, journal = self.bus.link.client, self.bus.journal
        if isinstance(contract, Topic):
            reader = TopicReader(
                client,
                contract,
                journal,
                self._on_topic(contract, call),
                group=f"{self.bus.namespace}.{self.agent}" if shared else "",
                concurrency=concurrency,
                backlog=backlog,
            )
            self._services.append(reader)
            reader.start()
        elif isinstance(contract, Endpoint):
            server = EndpointServer(
                client,
                self.bus.namespace,
                contract,
                journal,
                self._on_request(contract, call),
                concurrency=concurrency,
                backlog=backlog,
            )
            self._services.append(server)
            server.start()
        elif isinstance(contract, StreamEndpoint):
            streams = StreamServer(
                client,
                self.bus.namespace,
                contract,
                journal,
                self._on_stream(contract, call),
                concurrency=concurrency,
                backlog=backlog,
            )
            self._services.append(streams)
            streams.start()
        elif isinstance(contract, Workflow):
            coordinator = Coordinator(
                self.bus.log,
                contract,
                self._on_workflow(contract, call),
                concurrency=concurrency,
                instance=self.name,
                deps=self._deps,
            )
            self._workers.append(coordinator)
            await coordinator.start()
        else:
            worker = Worker(
                self.bus.log,
                contract,
                self._on_task(contract, call),
                concurrency=concurrency,
                instance=self.name,
            )
            self._workers.append(worker)
            await worker.start()

    async def follow(self, contract: Any, function: Callable[..., Any], of: Any) -> None:
        """Begin to report the outcomes of one contract, in all runs or in those of `of`."""
        call = Function(function, threads=1)
        self._functions.append(call)

        def wants(run: str) -> bool:
            if of is None:
                return True
            return run == of if isinstance(of, str) else run.startswith(f"{of.name}:")

        async def report(outcome: Any, ref: Ref, message: Message) -> None:
            def context() -> Context[Any]:
                return Context(
                    self.bus,
                    deps=self._deps,
                    subject=message.subject,
                    instance=self.name,
                    trace=trace_of(message),
                    idempotency_key=str(ref),
                )

            await call(outcome, context)
            self.handled[contract.name] += 1

        codec = end_codec(contract.output, contract.limits)
        reporter = Reporter(
            self.bus.log, self.agent, contract.name, codec, report, suffix=report_suffix(of), wants=wants
        )
        self._workers.append(reporter)
        await reporter.start()

    async def ready(self) -> None:
        """Wait until the server knows all subscriptions. Raises PermissionDenied for one that it refuses."""
        await self.bus.link.client.flush()
        for service in self._services:
            if service.denied:
                raise PermissionDenied(service.denied, "subscribe")

    def _on_topic(
        self, topic: Topic[Any], call: Function
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

            await call(value, context)
            self.handled[topic.subject] += 1

        return handle

    def _on_request(
        self, endpoint: Endpoint[Any, Any], call: Function
    ) -> Callable[[Any, Message, float], Awaitable[Any]]:
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

            answer = await call(value, context)
            self.handled[endpoint.name] += 1
            return answer

        return handle

    def _on_stream(
        self, endpoint: StreamEndpoint[Any, Any], call: Function
    ) -> Callable[[Any, Message, float], AsyncIterator[Any]]:
        async def generate(value: Any, message: Message, deadline: float) -> AsyncIterator[Any]:
            def context() -> Context[Any]:
                return Context(
                    self.bus,
                    deps=self._deps,
                    subject=message.subject,
                    instance=self.name,
                    trace=trace_of(message),
                    deadline=deadline,
                )

            async for chunk in (
                call.function(value, context()) if call.takes_context else call.function(value)
            ):
                yield chunk
            self.handled[endpoint.name] += 1

        return generate

    def _on_task(self, task: Task[Any, Any], call: Function) -> Callable[[Any, Delivery], Awaitable[Any]]:
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
                    deadline=delivery.deadline,
                )

            result = await call(value, context)
            self.handled[task.name] += 1
            return result

        return handle

    def _on_workflow(
        self, workflow: Workflow[Any, Any], call: Function
    ) -> Callable[[Any, Run[Any]], Awaitable[Any]]:
        async def execute(value: Any, run: Run[Any]) -> Any:
            result = await call(value, lambda: run)
            self.handled[workflow.name] += 1
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

    async def _stop(self, grace_s: float) -> None:
        until = asyncio.get_running_loop().time() + grace_s
        for service in self._services:
            service.quiesce()
        for worker in self._workers:
            worker.quiesce()
        await self._flush()  # what was on its way when interest ended has arrived after this
        left_s = max(0.0, until - asyncio.get_running_loop().time())
        ends = [service.stop(left_s) for service in self._services]
        ends += [worker.stop(left_s) for worker in self._workers]
        failures = [one for one in await asyncio.gather(*ends, return_exceptions=True) if one is not None]
        for call in self._functions:
            call.close()
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
