"""Topics: typed publish, and readers that hand each message to a handler or say why not."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from typing import Any

from roost.contracts import Address, Topic
from roost.errors import InvalidMessage
from roost.messaging.pool import Pool
from roost.observe import Journal, Trace
from roost.transport import Client, Link, Listener, Message
from roost.transport.headers import block

log = logging.getLogger("roost.messaging")

BACKLOG = 65_536
"""Messages of one topic that may wait in one process; beyond that new ones are dropped, and counted."""

Handle = Callable[[Any, Message, dict[str, str]], Awaitable[None]]


async def publish(link: Link, to: Topic[Any] | Address[Any], value: Any, trace: Trace) -> None:
    """Publish a value on a topic's subject: at most once, to whoever listens now.

    Raises InvalidMessage, TooLarge, UnsafeToken, NotConnected (nothing was sent).
    """
    address = to.at() if isinstance(to, Topic) else to
    data = address.topic.codec.encode(value, subject=address.subject)
    client = link.client
    client.send(address.subject, data, "", block(("traceparent", trace.header)))
    if client.backlog > client.PRESSURE:
        await client.pressure()


class TopicReader:
    """One subscription of one agent instance to a topic."""

    def __init__(
        self,
        client: Client,
        topic: Topic[Any],
        journal: Journal,
        handle: Handle,
        *,
        group: str,
        concurrency: int,
    ) -> None:
        self._client = client
        self._topic = topic
        self._journal = journal
        self._handle = handle
        self._group = group
        self._listener: Listener | None = None
        self._pool: Pool[Message] = Pool(
            self._one, concurrency=concurrency, backlog=BACKLOG, name=f"roost-topic-{topic.subject}"
        )

    def start(self) -> None:
        self._listener = self._client.listen(self._topic.template.wildcard, self._arrived, self._group)

    def _arrived(self, message: Message) -> None:
        if not self._pool.put(message):
            self._journal.record(
                "dropped",
                subject=message.subject,
                reason=f"{BACKLOG} messages wait already (policy: drop the newest); raise the handler's concurrency",
            )

    async def _one(self, message: Message) -> None:
        subject = message.subject
        parameters = self._topic.template.match(subject)
        if parameters is None:
            self._journal.record(
                "message_refused", subject=subject, reason="its subject does not fit the template"
            )
            return
        try:
            value = self._topic.codec.decode(message.data, subject=subject)
        except InvalidMessage as error:
            self._journal.record("message_refused", subject=subject, reason=str(error))
            return
        try:
            await self._handle(value, message, parameters)
        except Exception as error:
            self._journal.record("handler_failed", subject=subject, reason=f"{type(error).__name__}: {error}")
            log.debug("a handler of topic %s failed", self._topic.subject, exc_info=True)
            return
        self._journal.count(f"handled:{self._topic.subject}")

    @property
    def denied(self) -> str:
        """The subject that the server does not let us subscribe to, or nothing."""
        return self._listener.subject if self._listener is not None and self._listener.denied else ""

    def quiesce(self) -> None:
        """Take no new messages; those on their way still count."""
        if self._listener is not None:
            self._client.end_interest(self._listener)

    async def stop(self, grace_s: float) -> None:
        if self._listener is not None:
            self._client.unlisten(self._listener)
        lost = await self._pool.close(grace_s)
        if lost:
            self._journal.record(
                "dropped", subject=self._topic.subject, reason=f"{lost} unfinished at shutdown"
            )
