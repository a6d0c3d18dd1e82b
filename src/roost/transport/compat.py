"""What nats-py's own code sees when it runs over a Roost connection.

nats-py supplies options, credentials and the CONNECT command. Its key-value and object stores, its
subscriptions and its JetStream context may be used over the same connection; whatever of the client they
call goes the hardened way: nothing is buffered while disconnected, requests end with their connection, a
message that cannot be decoded harms nobody.
"""

from __future__ import annotations

import asyncio
import logging
import re
from abc import abstractmethod
from collections import deque
from typing import TYPE_CHECKING, Any

import nats.aio.client as upstream
from nats import errors as nats_errors
from nats.aio.msg import Msg

from roost.errors import NoResponders, RequestTimeout
from roost.transport.failures import Malformed
from roost.transport.message import Message, parse_headers

if TYPE_CHECKING:
    from roost.transport.requests import Requests

log = logging.getLogger("roost.transport")

_HEADER_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")  # RFC 9110 token
_STATUS_NAMES = ("Status", "Description")


class NatsPy(upstream.Client):
    """The part of `Client` that overrides nats-py."""

    def __init__(self) -> None:
        super().__init__()
        self._arrived: deque[tuple[int, bytes, bytes, bytes, bytes]] = deque()
        self._handing_on: asyncio.Task[None] | None = None
        self._requests: Requests | None = None
        self.dropped = 0
        """Messages that a subscription of nats-py dropped because its queue was full."""
        self.unroutable = 0
        """Messages that arrived for a subscription that has ended."""
        self.callback_errors = 0
        """Exceptions of message callbacks."""

    @abstractmethod
    def send(self, subject: str, data: bytes = b"", reply: str = "", head: bytes = b"") -> None: ...

    @abstractmethod
    def _command(self, line: bytes) -> None: ...

    @abstractmethod
    def _tell(self, event: str, detail: str) -> None: ...

    # Sending ------------------------------------------------------------------------------------

    async def publish(
        self, subject: str, payload: bytes = b"", reply: str = "", headers: dict[str, str] | None = None
    ) -> None:
        """nats-py's publish. Raises as `send` does."""
        self.send(subject, payload, reply, _encode(headers) if headers is not None else b"")

    async def request(
        self,
        subject: str,
        payload: bytes = b"",
        timeout: float = 0.5,
        old_style: bool = False,
        headers: dict[str, Any] | None = None,
    ) -> Msg:
        """nats-py's request, over `Requests`: it ends with its answer, its time or its connection.

        Raises nats.errors.NoRespondersError and TimeoutError, which nats-py's code expects, else as `ask`.
        """
        head = _encode(headers) if headers else b""
        try:
            answer = await self.requests.ask(subject, payload, head, timeout_s=timeout)
        except NoResponders as error:
            raise nats_errors.NoRespondersError from error
        except RequestTimeout as error:
            raise nats_errors.TimeoutError from error
        return _ReplyMsg(
            subject=answer.subject,
            reply=answer.reply,
            data=answer.data,
            headers=_headers(answer.head) or None,
            _client=self,
        )

    @property
    def requests(self) -> Requests:
        """The requests over this connection."""
        if self._requests is None:
            from roost.transport.client import Client
            from roost.transport.requests import Requests

            assert isinstance(self, Client)
            self._requests = Requests(self)
        return self._requests

    async def _send_command(self, cmd: bytes, priority: bool = False) -> None:
        """nats-py's SUB and UNSUB; while disconnected there is no need of them, the reconnect replays."""
        if self.is_connected:
            self._command(cmd)

    async def _flush_pending(self, force_flush: bool = False) -> Any:
        """Nothing: what is buffered goes out at the end of this turn of the loop."""

    async def drain(self) -> None:
        """The same as `close`. nats-py's drain ends the answers to requests first and may hang for 30 s."""
        await self.close()

    async def _close(self, status: int, do_cbs: bool = True) -> None:
        await self.close()

    # Receiving ----------------------------------------------------------------------------------

    def _hand_over(self, sid: bytes, subject: bytes, reply: bytes, head: bytes, data: bytes) -> None:
        """A message that is for no listener: perhaps for a subscription of nats-py, whose code must be awaited."""
        if not sid.isdigit():
            raise Malformed(f"the subscription {sid[:20]!r}")
        number = int(sid)
        if number not in self._subs:
            self.unroutable += 1
            return
        self._arrived.append((number, subject, reply, data, head))
        if self._handing_on is None:
            self._handing_on = asyncio.get_running_loop().create_task(self._hand_on(), name="roost-nats-py")

    async def _hand_on(self) -> None:
        try:
            while self._arrived:
                message = self._arrived.popleft()
                self.stats["in_msgs"] -= 1  # nats-py counts it again
                self.stats["in_bytes"] -= len(message[3])
                try:
                    await self._process_msg(*message)
                except Exception:
                    self.callback_errors += 1
                    log.exception("a message could not be handed to its subscription; the connection goes on")
        finally:
            self._handing_on = None

    async def _process_headers(self, headers: bytes | None) -> dict[str, str] | None:
        return _headers(headers) or None if headers else None

    def _build_message(
        self, sid: int, subject: bytes, reply: bytes, data: bytes, headers: dict[str, str] | None
    ) -> Msg:
        return _ReplyMsg(
            subject=subject.decode("utf-8", "replace"),
            reply=reply.decode("utf-8", "replace"),
            data=data,
            headers=headers,
            _client=self,
            _sid=sid,
        )

    async def _failed(self, error: Exception) -> None:
        """nats-py's error callback: it counts what would be a flood."""
        if isinstance(error, nats_errors.SlowConsumerError):
            self.dropped += 1
            if self.dropped & (self.dropped - 1):  # told of the 1st, 2nd, 4th, 8th …
                return
            self._tell(
                "slow_consumer", f"{self.dropped} messages dropped so far, the last on {error.subject}"
            )
            return
        self._tell("client_error", f"{type(error).__name__}: {error}")

    async def _end_subscriptions(self) -> None:
        """What nats-py does with its subscriptions at the end of a connection."""
        self._arrived.clear()
        tasks: list[asyncio.Task[None]] = []
        if self._handing_on is not None:
            self._handing_on.cancel()
            tasks.append(self._handing_on)
        for subscription in self._subs.values():
            jetstream = subscription._jsi
            checks = (jetstream._hbtask, jetstream._fctask) if jetstream is not None else ()
            for task in (subscription._wait_for_msgs_task, *checks):
                if task is not None:
                    task.cancel()
                    tasks.append(task)
            if subscription._message_iterator:
                subscription._message_iterator._cancel()
            for waiting in (subscription._pending_next_msgs_calls or {}).values():
                waiting.cancel()
        self._subs.clear()
        tasks = [task for task in tasks if task is not asyncio.current_task()]
        if tasks:
            await asyncio.wait(tasks, timeout=0.5)


class _ReplyMsg(Msg):
    """A message whose `respond` does not send the request's headers back to whoever asked."""

    async def respond(self, data: bytes) -> None:
        if not self.reply:
            raise nats_errors.Error("no reply subject available")
        await self._client.publish(self.reply, data)


def _encode(headers: dict[str, Any]) -> bytes:
    """A header block as nats-py makes it: line breaks in a value become blanks. Raises BadHeaderError."""
    lines = ["NATS/1.0\r\n"]
    for name, value in headers.items():
        stripped = name.strip()
        if not _HEADER_NAME.fullmatch(stripped):
            raise nats_errors.BadHeaderError(name)
        lines.append(f"{stripped}: {str(value).strip()}".replace("\r", " ").replace("\n", " ") + "\r\n")
    return "".join([*lines, "\r\n"]).encode("utf-8", "replace")


def _headers(head: bytes) -> dict[str, str]:
    """Headers as nats-py's code reads them: `Status` is there only if the server wrote it (ADR-4)."""
    found = {name: value for name, value in parse_headers(head).items() if name not in _STATUS_NAMES}
    status = Message("", "", head, b"")
    if status.status:
        found["Status"] = str(status.status)
        found["Description"] = status.status_text
    return found
