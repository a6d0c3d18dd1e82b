"""Requests over one inbox: one answer, or many until the server says that was all.

Each request ends: with its answer, at its timeout, at once when nobody listens, when the connection is
lost, or when the server denies the subject. nats-py leaves the last two to the timeout, keeps the
entries of requests whose publish raised, and takes a responder's ``Status`` header for the server's.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from roost.errors import Disconnected, NoResponders, PermissionDenied, RequestTimeout
from roost.transport.client import Client, Listener
from roost.transport.message import Message

END_OF_BATCH = 204
"""Inline status after the last message of a batched direct get (ADR-31)."""


class Requests:
    """The pending requests of one client, keyed by the last token of their inbox."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._prefix = client.new_inbox() + "."
        self._skip = len(self._prefix)
        self._listener: Listener | None = None
        self._pending: dict[str, _Pending] = {}
        self._next = 0
        client.on_disconnect.append(self._lost)
        client.on_denied.append(self._denied)

    @property
    def inbox(self) -> str:
        """The wildcard subject on which answers arrive."""
        return self._prefix + "*"

    def __len__(self) -> int:
        return len(self._pending)

    async def ask(self, subject: str, data: bytes = b"", head: bytes = b"", *, timeout_s: float) -> Message:
        """Send a request and return its answer.

        Raises NotConnected and TooLarge (not sent), NoResponders, RequestTimeout, Disconnected (lost in
        flight; whether it arrived is unknown), PermissionDenied.
        """
        future: asyncio.Future[Message] = self._client._loop.create_future()
        token = self._register(_Pending(subject, future, None))
        try:
            self._client.send(subject, data, self._prefix + token, head)
            timer = self._client._loop.call_later(timeout_s, _time_out, future, subject, timeout_s)
            try:
                answer = await future
            finally:
                timer.cancel()
        finally:
            del self._pending[token]
        if answer.head and answer.status == 503:
            raise NoResponders(subject)
        return answer

    async def ask_many(self, subject: str, data: bytes = b"", *, timeout_s: float) -> list[Message]:
        """Send a request that is answered by several messages and an inline status; returns the messages.

        Raises as `ask`; a status other than end-of-batch (204) or not-found (404) is the last element, so
        that the caller sees it.
        """
        future: asyncio.Future[Message] = self._client._loop.create_future()
        found: list[Message] = []
        token = self._register(_Pending(subject, future, found))
        try:
            self._client.send(subject, data, self._prefix + token)
            timer = self._client._loop.call_later(timeout_s, _time_out, future, subject, timeout_s)
            try:
                last = await future
            finally:
                timer.cancel()
        finally:
            del self._pending[token]
        if last.status == 503:
            raise NoResponders(subject)
        if last.status not in (END_OF_BATCH, 404):
            found.append(last)
        return found

    def _register(self, pending: _Pending) -> str:
        if self._listener is None:
            self._listener = self._client.listen(self.inbox, self._answered)
        self._next += 1
        token = f"{self._next:x}"
        self._pending[token] = pending
        return token

    def _answered(self, message: Message) -> None:
        pending = self._pending.get(message.subject[self._skip :])
        if pending is None or pending.future.done():
            return
        if pending.found is not None and not message.status:
            pending.found.append(message)
            return
        pending.future.set_result(message)

    def _lost(self) -> None:
        self._fail(lambda pending: Disconnected(f"a request to {pending.subject}"))

    def _denied(self, action: str, subject: str) -> None:
        if action == "publish":
            self._fail(lambda p: PermissionDenied(subject, action) if p.subject == subject else None)

    def _fail(self, why: Callable[[_Pending], Exception | None]) -> None:
        for pending in self._pending.values():
            error = why(pending)
            if error is not None and not pending.future.done():
                pending.future.set_exception(error)


class _Pending:
    __slots__ = ("found", "future", "subject")

    def __init__(self, subject: str, future: asyncio.Future[Message], found: list[Message] | None) -> None:
        self.subject = subject
        self.future = future
        self.found = found


def _time_out(future: asyncio.Future[Message], subject: str, timeout_s: float) -> None:
    if not future.done():
        future.set_exception(RequestTimeout(subject, timeout_s))
