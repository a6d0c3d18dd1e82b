"""Topics: typed publish, and readers that hand each message to a handler or say why not."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

from roost.contracts import Address, Topic
from roost.discovery import Load
from roost.errors import HandlerSignal, InvalidMessage
from roost.messaging.call import described
from roost.messaging.pool import Pool
from roost.observe import Journal, Trace
from roost.transport import Client, Link, Listener, Message
from roost.transport.headers import block
from roost.transport.strayed import strayed

BACKLOG = 65_536
"""Messages of one topic that may wait in one instance; beyond that new ones are dropped, and counted."""
BACKLOG_BYTES = 64 * 1024 * 1024
"""And how many bytes these may have in all: large messages fill memory long before they are many."""

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
        backlog: int | None = None,
    ) -> None:
        self._client = client
        self._topic = topic
        self._journal = journal
        self._handle = handle
        self._group = group
        self._listener: Listener | None = None
        self._held = 0
        self._pool: Pool[Message] = Pool(
            self._one,
            concurrency=concurrency,
            backlog=BACKLOG if backlog is None else backlog,
            name=f"roost-topic-{topic.subject}",
        )

    def start(self) -> None:
        self._listener = self._client.listen(self._topic.template.wildcard, self._arrived, self._group)

    def _arrived(self, message: Message) -> None:
        size = len(message.data) + len(message.head)
        if self._held + size <= BACKLOG_BYTES and self._pool.put(message):
            self._held += size
            return
        self._journal.record(
            "dropped",
            subject=message.subject,
            reason=f"{self._pool.waiting} messages with {self._held} bytes wait already (policy: drop the newest); "
            "raise the handler's concurrency, or start more instances",
        )

    async def _one(self, message: Message) -> None:
        self._held -= len(message.data) + len(message.head)
        subject = message.subject
        parameters = self._topic.template.match(subject)
        if message.head and strayed(message):
            self._journal.record(
                "message_refused", subject=subject, reason="a record of a log, sent here by no publisher"
            )
            return
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
        except asyncio.CancelledError as error:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
            self._failed(subject, error)
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            self._failed(subject, error)
        else:
            self._journal.count(f"handled:topic:{self._topic.subject}")

    def _failed(self, subject: str, error: BaseException) -> None:
        traceback = None if isinstance(error, HandlerSignal) else error
        self._journal.record("handler_failed", subject=subject, reason=described(error), error=traceback)

    @property
    def load(self) -> Load:
        """How many messages are at work, and how many wait."""
        return Load(self._pool.running, self._pool.waiting)

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
        count = len(lost.waiting) + lost.running
        if count:
            self._journal.record(
                "dropped", subject=self._topic.subject, reason=f"{count} unfinished at shutdown", by=count
            )
