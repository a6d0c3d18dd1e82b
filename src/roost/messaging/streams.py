"""Streamed replies: one request, many chunks, an explicit end.

The wire is that of an endpoint, with frames on the reply inbox: first one with `Roost-Control`, the
responder's own inbox; then chunks without headers; at last one with `Roost-End`, or an error as an endpoint
answers it. A frame with `Roost-Ask` is a question back, to be answered to its own reply subject.

Over the control inbox the caller grants further chunks (``+32``), so that a slow reader slows the writer down
and neither needs memory, or says that it has left (``-``), which cancels the handler.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

from roost._text import quoted
from roost.contracts import Endpoint, StreamEndpoint
from roost.errors import (
    ConfigError,
    Disconnected,
    InvalidMessage,
    NoResponders,
    PermissionDenied,
    RemoteError,
    RequestTimeout,
    RoostError,
)
from roost.messaging.call import Function
from roost.messaging.endpoints import (
    INBOX,
    MAX_TIMEOUT_S,
    STREAM,
    EndpointServer,
    head_of,
    raise_error,
    refuse,
    request_subject,
)
from roost.observe import Journal, Trace
from roost.transport import Client, Link, Message
from roost.transport.headers import block

WINDOW = 64
"""Chunks that may be on their way before the reader grants more."""
SPARE = 8
"""Frames beside the chunks of one window: the first, the last, and what a retry may bring."""
QUESTIONS = 4
"""Questions of one kind that a caller answers at once; four more may wait, the next is refused as overloaded."""
SILENT_S = 60.0
"""How long a responder waits for a reader that grants nothing, in seconds, before it gives up on it."""

_END = {"Roost-End", "Nats-Service-Error-Code"}

Generate = Callable[[Any, Message, float], AsyncIterator[Any]]
Answers = Mapping[Endpoint[Any, Any], Callable[[Any], Any]]
"""Who answers the questions that a responder may ask in mid-stream."""


@asynccontextmanager
async def open_stream(
    link: Link,
    namespace: str,
    journal: Journal,
    endpoint: StreamEndpoint[Any, Any],
    value: Any,
    trace: Trace,
    *,
    idle_timeout_s: float,
    timeout_s: float | None = None,
    answers: Answers | None = None,
    instance: str | None = None,
) -> AsyncIterator[AsyncIterator[Any]]:
    """The chunks of one streamed answer, as an iterator; leaving the block cancels the responder."""
    if not 0 < idle_timeout_s <= MAX_TIMEOUT_S:
        raise ConfigError(
            f"idle_timeout_s = {idle_timeout_s!r}: must be more than 0 and at most {MAX_TIMEOUT_S:g} seconds"
        )
    subject = request_subject(namespace, endpoint.name, instance)
    data = endpoint.input_codec.encode(value, subject=subject)
    desk = _Desk(link.client, namespace, journal, answers or {})
    reader = _Reader(link.client, endpoint, subject, idle_timeout_s, desk)
    reader.open(data, trace, timeout_s)
    try:
        yield reader.chunks()
    finally:
        reader.close()
        await desk.close()


async def ask_back(
    link: Link, inbox: str, question: Endpoint[Any, Any], value: Any, trace: Trace, *, timeout_s: float
) -> Any:
    """Ask the caller of a stream something in mid-stream. Raises as `endpoints.ask`."""
    data = question.input_codec.encode(value, subject=inbox)
    head = head_of(trace, timeout_s, ("Roost-Ask", question.name))
    answer = await link.requests.ask(inbox, data, head, timeout_s=timeout_s)
    asked = f"the caller's {question.name}"  # an inbox says nothing to who reads the error
    if answer.head:
        raise_error(answer, asked, timeout_s)
    return question.output_codec.decode(answer.data, subject=asked)


class _Desk:
    """Where a caller's answers to questions in mid-stream are given."""

    def __init__(self, client: Client, namespace: str, journal: Journal, answers: Answers) -> None:
        self.busy = 0
        self.rested: Callable[[], object] = (
            bool  # called when an answer was given: the responder's turn begins
        )
        self._functions: list[Function] = []
        self._servers: dict[str, EndpointServer] = {}
        self._client = client
        for question, function in answers.items():
            call = Function(function, threads=1)
            if call.takes_context:
                raise ConfigError(
                    f"{call.name} answers questions in mid-stream: it gets the question, and no context"
                )
            self._functions.append(call)
            self._servers[question.name] = EndpointServer(
                client,
                namespace,
                question,
                journal,
                self._counted(call),
                concurrency=QUESTIONS,
                backlog=QUESTIONS,
                instance="caller",
            )

    def _counted(self, call: Function) -> Callable[[Any, Message, float], Any]:
        async def handle(value: Any, message: Message, deadline: float) -> Any:
            self.busy += 1
            try:
                return await call(value, lambda: None)
            finally:
                self.busy -= 1
                self.rested()

        return handle

    def heard(self, name: str, message: Message) -> None:
        server = self._servers.get(name)
        if server is not None:
            server.arrived(message)
        elif message.reply.startswith(INBOX):
            refuse(self._client, message, "unknown", f"the caller does not answer questions of kind {name!r}")

    async def close(self) -> None:
        for server in self._servers.values():
            await server.stop(0)
        for call in self._functions:
            call.close()


class _Reader:
    """The caller's side of one stream."""

    def __init__(
        self,
        client: Client,
        endpoint: StreamEndpoint[Any, Any],
        subject: str,
        idle_timeout_s: float,
        desk: _Desk,
    ) -> None:
        self.subject = subject
        self._desk = desk
        self._client = client
        self._endpoint = endpoint
        self._idle_s = idle_timeout_s
        self._frames: deque[Message] = deque()
        self._news = asyncio.Event()
        desk.rested = self._news.set
        self._control = ""
        self._taken = 0
        self._read = 0
        self._lost = False
        self._denial: PermissionDenied | None = None
        self._over = False
        self._left = False
        self._flooded = False
        self._inbox = client.new_inbox()
        self._listener = client.listen(self._inbox, self._arrived)
        client.on_disconnect.append(self._disconnected)
        client.on_denied.append(self._denied)

    def open(self, data: bytes, trace: Trace, timeout_s: float | None) -> None:
        pairs = [("traceparent", trace.header), (STREAM, str(WINDOW))]
        if timeout_s is not None:
            pairs.append(("Roost-Timeout-Ms", str(int(max(timeout_s, 0.001) * 1000))))
        try:
            self._client.send(self.subject, data, self._inbox, block(*pairs))
        except RoostError:
            self.close()
            raise

    def close(self) -> None:
        """Tell the responder, unless it has ended, and forget the stream.

        A reader that leaves before it knows the responder's inbox waits for that in the background: untold, the
        responder would work for nobody.
        """
        self._client.on_disconnect.remove(self._disconnected)
        self._client.on_denied.remove(self._denied)
        self._left = True
        for frame in self._frames:
            self._learn(frame)
        if self._control or self._over or self._client.is_closed:
            self._forget()
        else:
            asyncio.get_running_loop().call_later(self._idle_s, self._forget)

    def _learn(self, frame: Message) -> None:
        """What a frame that nobody reads says of the stream."""
        if frame.status or (frame.head and _END & frame.headers.keys()):
            self._over = True
        elif frame.head and frame.headers.get("Roost-Control", "").startswith(INBOX):
            self._control = frame.headers["Roost-Control"]

    def _forget(self) -> None:
        if self._client.is_closed or self._listener.ended:
            return
        self._client.unlisten(self._listener)
        if not self._over:
            self._say(b"-")

    async def chunks(self) -> AsyncIterator[Any]:
        """Raises as `Bus.stream` documents."""
        codec = self._endpoint.chunk_codec
        while True:
            frame = await self._next()
            if frame.status == 503:
                self._over = True
                raise NoResponders(self.subject)
            if frame.head:
                headers = frame.headers
                control = headers.get("Roost-Control", "")
                if control.startswith(INBOX):
                    self._control = control
                    continue
                if "Roost-End" in headers:
                    self._over = True
                    return
                if "Nats-Service-Error-Code" in headers:
                    self._over = True
                    raise_error(frame, self.subject, self._idle_s)
            chunk = codec.decode(frame.data, subject=self.subject)
            self._taken += 1
            self._read += 1
            if self._taken >= WINDOW // 2:
                self._say(b"+%d" % self._taken)
                self._taken = 0
            yield chunk

    async def _next(self) -> Message:
        while not self._frames:
            if self._denial is not None:
                raise self._denial
            if self._lost:
                raise Disconnected(f"a stream from {self.subject}")
            if self._flooded:
                raise RemoteError(
                    "flood", "it sent more chunks than the reader had granted", subject=self.subject
                )
            self._news.clear()
            try:
                async with asyncio.timeout(self._idle_s):
                    await self._news.wait()
            except TimeoutError as error:
                if not self._desk.busy:  # else it is the responder that waits, for us
                    raise RequestTimeout(self.subject, self._idle_s, self._silence) from error
        return self._frames.popleft()

    @property
    def _silence(self) -> str:
        return (
            f"no chunk on {quoted(self.subject)} within {self._idle_s:g} s, after {self._read} that had come; the "
            "responder is told to stop. Allow more time between chunks (idle_timeout_s), or ask again if that is "
            "harmless."
        )

    def _arrived(self, message: Message) -> None:
        if self._left:
            self._learn(message)
            if self._control or self._over:
                self._forget()
            return
        if message.reply and message.head and "Roost-Ask" in message.headers:
            self._desk.heard(message.headers["Roost-Ask"], message)
            return
        if len(self._frames) > WINDOW + SPARE:  # it does not keep to what it was granted
            self._flooded = True
        else:
            self._frames.append(message)
        self._news.set()

    def _denied(self, action: str, subject: str) -> None:
        if subject in (self.subject, self._inbox):
            self._denial = PermissionDenied(subject, action)
            self._over = True
            self._news.set()

    def _disconnected(self) -> None:
        self._lost = self._over = True
        self._news.set()

    def _say(self, word: bytes) -> None:
        if self._control:
            try:
                self._client.send(self._control, word)
            except RoostError:
                self._lost = True


class StreamServer(EndpointServer):
    """One agent instance's service of one streaming endpoint."""

    def __init__(
        self,
        client: Client,
        namespace: str,
        endpoint: StreamEndpoint[Any, Any],
        journal: Journal,
        generate: Generate,
        *,
        concurrency: int,
        backlog: int | None = None,
        instance: str,
    ) -> None:
        super().__init__(
            client,
            namespace,
            endpoint,
            journal,
            self._stream,
            concurrency=concurrency,
            backlog=backlog,
            instance=instance,
        )
        self._stream_endpoint = endpoint
        self._generate = generate

    async def _stream(self, value: Any, message: Message, deadline: float) -> str:
        """Why the reader does not get all of it; empty if it does, or has left."""
        credit = _Credit(message)
        inbox = self._client.new_inbox()
        listener = self._client.listen(inbox, credit.heard)
        try:
            await self._converse(value, message, deadline, credit, inbox)
        except _Silent as silent:
            self._journal.count(f"stream_left:{self._stream_endpoint.name}")
            self._journal.record("stream_left", subject=self.subject, reason=str(silent), level=logging.INFO)
            return str(silent)
        finally:
            if not self._client.is_closed:
                self._client.unlisten(listener)
        return ""

    async def _converse(
        self, value: Any, message: Message, deadline: float, credit: _Credit, inbox: str
    ) -> None:
        # Also as its reply subject: so a caller may say its words there who has no right but to answer.
        self._client.send(message.reply, b"", inbox, block(("Roost-Control", inbox)))
        writer = asyncio.get_running_loop().create_task(
            self._write(value, message, deadline, credit), name=f"roost-stream-{self._stream_endpoint.name}"
        )
        credit.writer = writer
        try:
            await writer
        except asyncio.CancelledError:
            if not credit.left:
                writer.cancel()
                await asyncio.gather(writer, return_exceptions=True)
                raise
            self._journal.count(f"stream_left:{self._stream_endpoint.name}")

    async def _write(self, value: Any, message: Message, deadline: float, credit: _Credit) -> None:
        codec = self._stream_endpoint.chunk_codec
        chunks = self._generate(value, message, deadline)
        try:
            async for chunk in chunks:
                try:
                    data = codec.encode(chunk, subject=self.subject)
                except InvalidMessage as error:
                    raise ValueError(
                        f"a chunk does not fit: {error.field or 'payload'}: {error.reason}"
                    ) from error
                await credit.spend()
                self._client.send(message.reply, data)
        except SystemExit as error:  # out of a task it would end the program
            raise RuntimeError(f"the handler called sys.exit({error.code!r})") from error
        finally:
            close = getattr(chunks, "aclose", None)
            if close is not None:
                await close()

    def _answer(self, message: Message, output: Any) -> None:
        try:
            if output:
                refuse(self._client, message, "silent", output)
                return
            self._client.send(message.reply, b"", "", block(("Roost-End", "1")))
        except RoostError as error:
            self._journal.record("answer_not_sent", subject=self.subject, reason=str(error))
        else:
            self._journal.count(f"handled:{self._endpoint.kind}:{self._endpoint.name}")


class _Silent(Exception):
    """The reader says nothing: it was killed, or is frozen."""


class _Credit:
    """How many chunks the reader is ready for."""

    def __init__(self, message: Message) -> None:
        text = message.headers.get(STREAM, "") if message.head else ""
        self._left = int(text) if text.isascii() and text.isdigit() and 0 < len(text) < 5 else WINDOW
        self._more = asyncio.Event()
        self.left = False
        self.writer: asyncio.Task[None] | None = None

    def heard(self, message: Message) -> None:
        word = message.data
        if word == b"-":
            self.left = True
            if self.writer is not None:
                self.writer.cancel()
        elif word[:1] == b"+" and word[1:].isdigit() and len(word) < 6:
            self._left += int(word[1:])
            self._more.set()

    async def spend(self) -> None:
        """Wait until one more chunk may be sent. Raises _Silent when the reader grants none for a minute."""
        while self._left <= 0:
            self._more.clear()
            try:
                async with asyncio.timeout(SILENT_S):
                    await self._more.wait()
            except TimeoutError:
                raise _Silent(f"the reader granted no more chunks for {SILENT_S:g} s") from None
        self._left -= 1
