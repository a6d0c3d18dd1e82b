"""What one bus sends: publications, requests and streams, each within the trace that its caller names."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager
from typing import TypeVar

from roost.contracts import Address, Endpoint, StreamEndpoint, Topic, check_kind
from roost.errors import InvalidMessage
from roost.messaging.block import StreamBlock
from roost.messaging.endpoints import ask
from roost.messaging.gather import Answer, ask_all
from roost.messaging.guarded import Guarded
from roost.messaging.streams import Answers, open_stream
from roost.messaging.topics import publish
from roost.observe import Journal, Trace
from roost.transport import Link

I = TypeVar("I")
O = TypeVar("O")
M = TypeVar("M")
C = TypeVar("C")


class Messenger:
    """`Bus` and `Context` say what each of these does and raises."""

    def __init__(self, link: Link, namespace: str, journal: Journal) -> None:
        self._link = link
        self._namespace = namespace
        self._journal = journal
        self._guarded = Guarded(journal)

    async def publish(self, to: Topic[M] | Address[M], value: M, *, trace: Trace) -> None:
        if not isinstance(to, Address):
            check_kind("bus.publish", to, Topic)
        try:
            await publish(self._link, to, value, trace)
        except InvalidMessage as error:
            self._refused(error)
            raise

    async def request(
        self,
        endpoint: Endpoint[I, O],
        value: I,
        *,
        timeout_s: float,
        trace: Trace,
        instance: str | None = None,
    ) -> O:
        check_kind("bus.request", endpoint, Endpoint)
        try:
            if instance is None and (endpoint.idempotent or endpoint.breaker is not None):
                guarded: O = await self._guarded.ask(
                    endpoint,
                    lambda left_s: ask(self._link, self._namespace, endpoint, value, trace, timeout_s=left_s),
                    timeout_s=timeout_s,
                )
                return guarded
            answer: O = await ask(
                self._link, self._namespace, endpoint, value, trace, timeout_s=timeout_s, instance=instance
            )
        except InvalidMessage as error:
            self._refused(error)
            raise
        return answer

    def ask_all(
        self, endpoint: Endpoint[I, O], value: I, *, timeout_s: float, quiet_s: float, trace: Trace
    ) -> AsyncIterator[Answer[O]]:
        check_kind("bus.ask_all", endpoint, Endpoint)
        return ask_all(
            self._link.client,
            self._journal,
            self._namespace,
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
        idle_timeout_s: float,
        timeout_s: float | None,
        trace: Trace,
        answers: Answers | None = None,
        instance: str | None = None,
    ) -> AbstractAsyncContextManager[AsyncIterator[C]]:
        check_kind("bus.stream", endpoint, StreamEndpoint)
        opened = open_stream(
            self._link,
            self._namespace,
            self._journal,
            endpoint,
            value,
            trace,
            idle_timeout_s=idle_timeout_s,
            timeout_s=timeout_s,
            answers=answers,
            instance=instance,
        )
        return StreamBlock(opened)

    def _refused(self, error: InvalidMessage) -> None:
        self._journal.record("message_refused", subject=error.subject, reason=str(error))
