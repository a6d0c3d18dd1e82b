"""Endpoints: typed request and reply, with a deadline that travels and errors that say what they are.

The wire is that of NATS micro services (ADR-32): an error answer has `Nats-Service-Error-Code` and
`Nats-Service-Error`; beside them `Roost-Error` holds a code word. `Roost-Timeout-Ms` is what is left of
the caller's time: a duration, because the clocks of two machines differ.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import Any

from roost._text import clean
from roost.contracts import Endpoint, StreamEndpoint
from roost.discovery import Load, Tally
from roost.errors import (
    ConfigError,
    DeadlineExceeded,
    HandlerSignal,
    InvalidMessage,
    Overloaded,
    Reject,
    RemoteError,
    RequestTimeout,
    RoostError,
)
from roost.messaging.call import described
from roost.messaging.pool import Pool
from roost.observe import Journal, Trace
from roost.subjects import endpoint_subject, every_subject, instance_subject
from roost.transport import Client, Link, Listener, Message
from roost.transport.headers import block

INBOX = "_INBOX"
"""What the subject of an answer has to begin with; private prefixes are `_INBOX_<identity>`."""
GROUP = "roost"
"""Queue group of every endpoint: all instances of all agents that serve it share its requests."""
BY = "Roost-By"
"""Which instance answered a question that went to all of them."""
STREAM = "Roost-Stream"
"""On a request for a stream: how many chunks its reader is ready for."""
_ASKS_FOR_MANY = STREAM.encode()
BACKLOG = 1024
"""Requests of one endpoint that may wait in one instance; beyond that they are answered as overloaded."""
BACKLOG_BYTES = 64 * 1024 * 1024
"""And how many bytes these may have in all."""
ERROR_TEXT = 500
MAX_TIMEOUT_S = 86_400.0

STATUS = {
    "invalid": 400,
    "unknown": 404,
    "silent": 408,
    "rejected": 422,
    "overloaded": 429,
    "failed": 500,
    "deadline": 504,
}
"""Code words and the numbers (of HTTP) that stand for them in `Nats-Service-Error-Code`."""

Handle = Callable[[Any, Message, float], Awaitable[Any]]


async def ask(
    link: Link,
    namespace: str,
    endpoint: Endpoint[Any, Any],
    value: Any,
    trace: Trace,
    *,
    timeout_s: float,
    instance: str | None = None,
) -> Any:
    """One typed request, to any instance or to one.

    Raises NoResponders at once when nobody serves it, RequestTimeout when the time is over, whichever side
    notices, RemoteError (Overloaded) with the code and message of the handler's side, InvalidMessage for a
    value or an answer that does not fit, Disconnected, NotConnected, ConfigError for an impossible time.
    """
    if not timeout_s <= MAX_TIMEOUT_S:
        raise ConfigError(f"timeout_s = {timeout_s!r}: must be a number of at most {MAX_TIMEOUT_S:g} seconds")
    subject = request_subject(namespace, endpoint.name, instance)
    data = endpoint.input_codec.encode(value, subject=subject)
    answer = await link.requests.ask(subject, data, head_of(trace, timeout_s), timeout_s=timeout_s)
    if answer.head:
        raise_error(answer, subject, timeout_s)
    return endpoint.output_codec.decode(answer.data, subject=subject)


def request_subject(namespace: str, name: str, instance: str | None) -> str:
    """Where a request goes: to any instance, or to one."""
    if instance is None:
        return endpoint_subject(namespace, name)
    return instance_subject(namespace, instance, name)


def head_of(trace: Trace, timeout_s: float, *more: tuple[str, str]) -> bytes:
    """The headers of a request: its trace, and what is left of the caller's time."""
    left = ("Roost-Timeout-Ms", str(int(max(timeout_s, 0.001) * 1000)))
    return block(("traceparent", trace.header), left, *more)


def raise_error(answer: Message, subject: str, timeout_s: float) -> None:
    """Raise what an error answer says; nothing when it is none."""
    headers = answer.headers
    number = headers.get("Nats-Service-Error-Code")
    if number is None:
        return
    code = headers.get("Roost-Error") or number
    message = headers.get("Nats-Service-Error", "")
    try:
        body = json.loads(answer.data) if answer.data else {}
        message = str(body["message"]) if isinstance(body, dict) and "message" in body else message
    except (ValueError, RecursionError):
        pass  # the header has the message as well
    if code == "overloaded":
        raise Overloaded(message, subject=subject)
    if code == "deadline":
        raise RequestTimeout(subject, timeout_s)
    raise RemoteError(code, message, subject=subject)


def refuse(client: Client, message: Message, code: str, text: str, *more: tuple[str, str]) -> None:
    """Answer a request with an error."""
    short = clean(text, ERROR_TEXT)
    head = block(
        ("Nats-Service-Error-Code", str(STATUS[code])),
        ("Nats-Service-Error", short.encode("ascii", "replace").decode()),
        ("Roost-Error", code),
        *more,
    )
    client.send(message.reply, json.dumps({"code": code, "message": short}).encode(), "", head)


class EndpointServer:
    """One agent instance's service of one endpoint."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        endpoint: Endpoint[Any, Any] | StreamEndpoint[Any, Any],
        journal: Journal,
        handle: Handle,
        *,
        concurrency: int,
        backlog: int | None = None,
        instance: str,
    ) -> None:
        self._client = client
        self._endpoint = endpoint
        self._journal = journal
        self._handle = handle
        self._instance = instance
        self.subject = endpoint_subject(namespace, endpoint.name)
        self._every = every_subject(namespace, endpoint.name)
        self._own = instance_subject(namespace, instance, endpoint.name)
        self._listeners: list[Listener] = []
        self.tally = Tally()
        self._held = 0
        self._pool: Pool[tuple[Message, float]] = Pool(
            self._one,
            concurrency=concurrency,
            backlog=BACKLOG if backlog is None else backlog,
            name=f"roost-endpoint-{endpoint.name}",
        )

    def start(self) -> None:
        """Listen where all instances share requests, where all get each of them, and where only this one does."""
        self._listeners = [
            self._client.listen(self.subject, self.arrived, GROUP),
            self._client.listen(self._every, self.arrived),
            self._client.listen(self._own, self.arrived),
        ]

    def arrived(self, message: Message) -> None:
        """Take a request; it is answered, whatever becomes of it."""
        if not message.reply.startswith(INBOX):
            # Whoever chooses the reply chooses what we publish to: only inboxes are answered.
            self._journal.record(
                "request_refused", subject=self.subject, reason=f"no inbox to answer: {message.reply!r}"
            )
            return
        arrived = asyncio.get_running_loop().time()
        size = len(message.data) + len(message.head)
        if self._held + size <= BACKLOG_BYTES and self._pool.put((message, arrived)):
            self._held += size
            return
        text = f"{self._pool.waiting} requests with {self._held} bytes wait already"
        self._journal.record("request_refused", subject=self.subject, reason=f"overloaded: {text}")
        self._error(message, "overloaded", text)

    async def _one(self, item: tuple[Message, float]) -> None:
        message, arrived = item
        self._held -= len(message.data) + len(message.head)
        deadline = arrived + _timeout_s(message)
        if deadline <= asyncio.get_running_loop().time():
            text = "the time was over before its turn came"
            self._journal.record("request_expired", subject=self.subject, reason=text)
            self._error(message, "deadline", text)
            return
        other = self._other_kind(message)
        if other:
            self._journal.record("message_refused", subject=self.subject, reason=other)
            self._error(message, "invalid", other)
            return
        try:
            value = self._endpoint.input_codec.decode(message.data, subject=self.subject)
        except InvalidMessage as error:
            self._journal.record("message_refused", subject=self.subject, reason=str(error))
            self._error(message, "invalid", f"{error.field or 'payload'}: {error.reason}")
            return
        scope = asyncio.timeout_at(deadline)
        try:
            async with scope:
                output = await self._handle(value, message, deadline)
        except asyncio.CancelledError as error:
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                self._error(message, "failed", "the instance is shutting down")
                raise
            self._failed(message, error, "failed", "the handler was cancelled")
        except KeyboardInterrupt:
            self._error(message, "failed", "the instance is shutting down")
            raise
        except BaseException as error:
            if isinstance(error, TimeoutError) and scope.expired():
                self._failed(message, error, "deadline", "the caller's time was over")
            elif isinstance(error, Reject):
                self._failed(message, error, "rejected", error.reason)
            elif isinstance(error, DeadlineExceeded):
                self._failed(message, error, "deadline", str(error))
            else:
                self._failed(message, error, "failed", described(error))
        else:
            self._answer(message, output)

    def _answer(self, message: Message, output: Any) -> None:
        assert isinstance(self._endpoint, Endpoint)
        try:
            data = self._endpoint.output_codec.encode(output, subject=self.subject)
            signed = self._signed(message)
            self._client.send(message.reply, data, "", block(*signed) if signed else b"")
        except InvalidMessage as error:
            self._journal.record("message_refused", subject=self.subject, reason=f"an answer: {error}")
            self._error(
                message, "failed", f"the answer does not fit: {error.field or 'payload'}: {error.reason}"
            )
        except RoostError as error:
            self._journal.record("answer_not_sent", subject=self.subject, reason=str(error))
        else:
            self._journal.count(f"handled:{self._endpoint.kind}:{self._endpoint.name}")

    def _failed(self, message: Message, error: BaseException, code: str, text: str) -> None:
        expected = code == "deadline" or isinstance(error, HandlerSignal)
        self._journal.record(
            "handler_failed", subject=self.subject, reason=text, error=None if expected else error
        )
        self._error(message, code, text)

    def _error(self, message: Message, code: str, text: str) -> None:
        self.tally.refused(f"{code}: {text}")
        try:
            refuse(self._client, message, code, text, *self._signed(message))
        except RoostError as error:
            self._journal.record("answer_not_sent", subject=self.subject, reason=str(error))

    def _other_kind(self, message: Message) -> str:
        """Why a request was meant for an endpoint of the other kind, or nothing: both have the same subjects."""
        name = self._endpoint.name
        asks_for_many = _ASKS_FOR_MANY in message.head
        if asks_for_many == isinstance(self._endpoint, StreamEndpoint):
            return ""
        if asks_for_many:
            return f"{name} is an Endpoint, which has one answer, and was asked for a stream: use bus.request"
        return f"{name} is a StreamEndpoint, and was asked for one answer: use bus.stream"

    def _signed(self, message: Message) -> tuple[tuple[str, str], ...]:
        """Only where several answer is it worth a header to say who does."""
        return ((BY, self._instance),) if message.subject == self._every else ()

    @property
    def load(self) -> Load:
        """How many requests are at work, and how many wait."""
        return Load(self._pool.running, self._pool.waiting)

    @property
    def denied(self) -> str:
        """The subject that the server does not let us subscribe to, or nothing."""
        return next((one.subject for one in self._listeners if one.denied), "")

    def quiesce(self) -> None:
        """Take no new requests; those on their way are still answered."""
        for listener in self._listeners:
            self._client.end_interest(listener)

    async def stop(self, grace_s: float) -> None:
        for listener in self._listeners:
            self._client.unlisten(listener)
        lost = await self._pool.close(grace_s)
        for message, _ in lost.waiting:
            self._error(message, "overloaded", "the instance is shutting down")
        count = len(lost.waiting) + lost.running
        if count:
            self._journal.record(
                "request_refused", subject=self.subject, reason=f"{count} unfinished at shutdown", by=count
            )


def _timeout_s(message: Message) -> float:
    """What the caller said is left of its time, in seconds; a day when it said nothing that can be read."""
    text = message.headers.get("Roost-Timeout-Ms", "") if message.head else ""
    if text.isascii() and text.isdigit() and len(text) < 12:
        return min(MAX_TIMEOUT_S, int(text) / 1000)
    return MAX_TIMEOUT_S


def trace_of(message: Message) -> Trace:
    """The trace that a message belongs to, as a child of its sender's span."""
    return Trace.parse(message.headers.get("traceparent")).child()
