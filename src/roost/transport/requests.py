"""Requests over one inbox: one answer, or many until the server says that was all.

Each request ends: with its answer, at its timeout, at once when nobody listens, when the connection is
lost, or when the server denies the subject. nats-py leaves the last two to the timeout, keeps the entries
of requests whose publish raised, and takes a responder's `Status` header for the server's.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable

from roost.errors import Disconnected, NoResponders, PermissionDenied, RequestTimeout
from roost.transport.client import Client
from roost.transport.deadlines import Deadlines
from roost.transport.listener import Listener
from roost.transport.message import Message

END_OF_BATCH = 204
"""Inline status after the last message of a batched direct get (ADR-31)."""
SALT = 8
"""Characters (6 bits each) of an inbox that nobody can guess: who answers one request cannot answer others."""
_POOL_BYTES = 6 * 512


class Requests:
    """The pending requests of one client, keyed by the last token of their inbox."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._prefix = client.new_inbox() + "."
        self._skip = len(self._prefix)
        self._listener: Listener | None = None
        self._pending: dict[str, _Pending] = {}
        self._deadlines = Deadlines(client._loop, self._pending, self._expired)
        self._next = 0
        self._salt = ""
        self._salted = 0
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

        Raises NotConnected, ConnectionClosed, UnsafeToken and TooLarge (not sent), NoResponders,
        RequestTimeout, Disconnected (lost in flight; whether it arrived is unknown), PermissionDenied.
        """
        answer = await self._ask(subject, data, head, None, timeout_s)
        if answer.head and answer.status == 503:
            raise NoResponders(subject)
        return answer

    async def ask_many(self, subject: str, data: bytes = b"", *, timeout_s: float) -> list[Message]:
        """Send a request that is answered by several messages and an inline status; returns the messages.

        Raises as `ask`; a status other than end-of-batch (204) or not-found (404) is the last element, so
        that the caller sees it.
        """
        found: list[Message] = []
        last = await self._ask(subject, data, b"", found, timeout_s)
        if last.status == 503:
            raise NoResponders(subject)
        if last.status not in (END_OF_BATCH, 404):
            found.append(last)
        return found

    async def _ask(
        self, subject: str, data: bytes, head: bytes, found: list[Message] | None, timeout_s: float
    ) -> Message:
        if not timeout_s > 0:
            raise RequestTimeout(subject, timeout_s)
        client = self._client
        if self._listener is None or self._listener.denied:
            self._listen(subject)
        token = self._token()
        future: asyncio.Future[Message] = client._loop.create_future()
        self._pending[token] = _Pending(subject, future, found, timeout_s)
        try:
            client.send(subject, data, self._prefix + token, head)
            self._deadlines.add(token, timeout_s)
            return await future
        finally:
            del self._pending[token]

    def _listen(self, subject: str) -> None:
        if self._listener is not None:
            raise PermissionDenied(self.inbox, "subscribe")
        self._listener = self._client.listen(self.inbox, self._answered)

    def _token(self) -> str:
        """Unique by its number, and not to be guessed by its salt."""
        start = self._salted
        if start >= len(self._salt):
            self._salt = secrets.token_urlsafe(_POOL_BYTES)
            start = 0
        self._salted = start + SALT
        self._next += 1
        return f"{self._next:x}{self._salt[start : start + SALT]}"

    def _answered(self, message: Message) -> None:
        pending = self._pending.get(message.subject[self._skip :])
        if pending is None or pending.future.done():
            return
        if pending.found is not None and not message.status:
            pending.found.append(message)
            return
        pending.future.set_result(message)

    def _expired(self, token: str) -> None:
        pending = self._pending[token]
        if not pending.future.done():
            pending.future.set_exception(RequestTimeout(pending.subject, pending.timeout_s))

    def _lost(self) -> None:
        self._fail(lambda pending: Disconnected(f"a request to {pending.subject}"))
        self._deadlines.stop()

    def _denied(self, action: str, subject: str) -> None:
        if action == "publish":
            self._fail(lambda p: PermissionDenied(subject, action) if p.subject == subject else None)
        elif subject == self.inbox:
            self._fail(lambda _: PermissionDenied(subject, action))

    def _fail(self, why: Callable[[_Pending], Exception | None]) -> None:
        for pending in self._pending.values():
            error = why(pending)
            if error is not None and not pending.future.done():
                pending.future.set_exception(error)


class _Pending:
    __slots__ = ("found", "future", "subject", "timeout_s")

    def __init__(
        self, subject: str, future: asyncio.Future[Message], found: list[Message] | None, timeout_s: float
    ) -> None:
        self.subject = subject
        self.future = future
        self.found = found
        self.timeout_s = timeout_s
