"""Scatter-gather: one request to every instance that serves an endpoint, and all of their answers.

Each instance listens beside the shared subject on `<ns>.every.<endpoint>`, without a queue group. Nobody knows how
many will answer, or how long they take, so the first answer has all of the time, and after it the answers end when
none has come for a while.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from roost.contracts import Endpoint
from roost.errors import ConfigError, Disconnected, NoResponders, PermissionDenied, RoostError
from roost.messaging.endpoints import BY, MAX_TIMEOUT_S, head_of, raise_error
from roost.observe import Journal, Trace
from roost.subjects import every_subject
from roost.transport import Client, Message

O = TypeVar("O")

UNREAD = 4096
"""Answers that may wait to be read; what comes beyond that is dropped, counted and said."""


@dataclass(frozen=True, slots=True)
class Answer(Generic[O]):
    """What one instance answered to a question put to all of them."""

    by: str
    """The instance."""
    _value: O | None
    error: RoostError | None = None
    """Why it has no value: RemoteError, Overloaded, InvalidMessage, RequestTimeout."""

    @property
    def value(self) -> O:
        """The answer itself. Raises `error` if there is one."""
        if self.error is not None:
            raise self.error
        return self._value  # type: ignore[return-value]  # None only if O allows it


async def ask_all(
    client: Client,
    journal: Journal,
    namespace: str,
    endpoint: Endpoint[Any, O],
    value: Any,
    trace: Trace,
    *,
    timeout_s: float,
    quiet_s: float,
) -> AsyncIterator[Answer[O]]:
    """The answers as they come, at most `timeout_s` seconds; after the first until none has come for `quiet_s`."""
    for name, given in (("timeout_s", timeout_s), ("quiet_s", quiet_s)):
        if not 0 < given <= MAX_TIMEOUT_S:
            raise ConfigError(
                f"{name} = {given!r}: must be more than 0 and at most {MAX_TIMEOUT_S:g} seconds"
            )
    subject = every_subject(namespace, endpoint.name)
    data = endpoint.input_codec.encode(value, subject=subject)
    answers = _Answers(client, journal, subject)
    try:
        client.send(subject, data, answers.inbox, head_of(trace, timeout_s))
        until = asyncio.get_running_loop().time() + timeout_s
        while (message := await answers.next(until, quiet_s)) is not None:
            yield _read(message, subject, endpoint, timeout_s)
    finally:
        answers.close()


def _read(message: Message, subject: str, endpoint: Endpoint[Any, O], timeout_s: float) -> Answer[O]:
    by = message.headers.get(BY, "") if message.head else ""
    try:
        if message.head:
            raise_error(message, subject, timeout_s)
        return Answer(by, endpoint.output_codec.decode(message.data, subject=subject))
    except RoostError as error:
        return Answer(by, None, error)


class _Answers:
    """The inbox of one question."""

    def __init__(self, client: Client, journal: Journal, subject: str) -> None:
        self._client = client
        self._journal = journal
        self._subject = subject
        self._waiting: deque[Message] = deque()
        self._news = asyncio.Event()
        self._lost = False
        self._denial: PermissionDenied | None = None
        self._any = False
        self._dropped = 0
        self.inbox = client.new_inbox()
        self._listener = client.listen(self.inbox, self._arrived)
        client.on_disconnect.append(self._disconnected)
        client.on_denied.append(self._denied)

    async def next(self, until: float, quiet_s: float) -> Message | None:
        """The next answer; None when there will be none. Raises NoResponders, Disconnected, PermissionDenied."""
        loop = asyncio.get_running_loop()
        while not self._waiting:
            if self._denial is not None:
                raise self._denial
            if self._lost:
                raise Disconnected(f"a question to all on {self._subject}")
            self._news.clear()
            end = min(until, loop.time() + quiet_s) if self._any else until
            try:
                async with asyncio.timeout_at(end):
                    await self._news.wait()
            except TimeoutError:
                return None
        message = self._waiting.popleft()
        if message.status == 503 and not self._any:
            raise NoResponders(self._subject)
        self._any = True
        return message

    def close(self) -> None:
        self._client.on_disconnect.remove(self._disconnected)
        self._client.on_denied.remove(self._denied)
        if not self._client.is_closed:
            self._client.unlisten(self._listener)
        if self._dropped:
            self._journal.record(
                "answers_dropped",
                subject=self._subject,
                reason=f"more than {UNREAD} waited to be read",
                by=self._dropped,
            )

    def _arrived(self, message: Message) -> None:
        if len(self._waiting) >= UNREAD:
            self._dropped += 1
            return
        self._waiting.append(message)
        self._news.set()

    def _denied(self, action: str, subject: str) -> None:
        if subject in (self._subject, self.inbox):
            self._denial = PermissionDenied(subject, action)
            self._news.set()

    def _disconnected(self) -> None:
        self._lost = True
        self._news.set()
