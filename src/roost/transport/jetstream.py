"""What Roost uses of the JetStream API: acknowledged publish, direct reads, streams and consumers.

Every call is one request with a timeout; every refusal is a typed error that keeps the server's number.
"""

from __future__ import annotations

import asyncio
import json
import random
import time
from base64 import b64decode
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from roost.errors import JetStreamError, NoResponders, RequestTimeout, RoostError, StreamMissing
from roost.transport.message import Message
from roost.transport.requests import Requests

# Error numbers of nats-server (server/errors.json).
WRONG_LAST_SEQUENCE = 10071
"""The guard of a write did not hold: somebody, perhaps we ourselves, wrote before."""
WRONG_LAST_SEQUENCE_PENDING = 10164
"""Another write to the guarded subject is in flight; try again."""
TOO_MANY_BATCHES = 10210
"""50 atomic batches are open on the stream already; try again."""
NO_LEADER = 10008
"""JetStream, or the stream, has no leader just now: it passes by itself."""
NO_PEERS = 10005
"""There are too few servers for the copies of a stream; just after a start some are taken for offline that are not."""
NO_MESSAGE = 10037
STREAM_NOT_FOUND = 10059
CONSUMER_NOT_FOUND = 10014
CONSUMER_EXISTS = 10148
STREAM_NAME_IN_USE = 10058
STREAM_FULL = 10077
"""The stream is at its own limit (maximum bytes exceeded), or its store could not be written."""
STORE_FULL = {STREAM_FULL, 10023, 10047, 10028, 10002}
"""There is no room: in the stream, at the server (insufficient resources, storage and memory resources exceeded), for
the account."""

DEFAULT_TIMEOUT_S = 5.0
NEW_S = 5.0
"""How long a stream counts as new, in seconds. The servers of a cluster learn one after the other, and mostly within
tenths of a second, that it is there and who leads it; until then they say that nobody takes its messages."""
TRY_S = 0.5
"""How long an answer of the API is waited for before a new stream is asked about again, in seconds: where it is known
and has no leader yet, there is none."""
AGAIN_S = 0.02
AGAIN_CAP_S = 0.32

R = TypeVar("R")


class Kept(NamedTuple):
    """A stored message, as the stream's leader has it."""

    subject: str
    seq: int
    data: bytes
    head: bytes
    stamp: str  # RFC 3339


class JetStream:
    """The API of one account over one client."""

    def __init__(self, requests: Requests) -> None:
        self._requests = requests
        self._new_until = 0.0

    def found_new(self) -> None:
        """A stream has been made, or is seen for the first time.

        For `NEW_S` seconds from now on, reads and calls are repeated where nobody answers for it, or it has no leader.
        """
        self._new_until = time.monotonic() + NEW_S

    async def _patiently(self, attempt: Callable[[], Awaitable[R]], passing: type[RoostError]) -> R:
        """What `attempt` returns; while a stream is new it is repeated for `passing`, without a leader or with too few
        servers."""
        tries = 0
        while True:
            try:
                return await attempt()
            except RoostError as error:
                passes = isinstance(error, passing) or getattr(error, "err_code", 0) in (NO_LEADER, NO_PEERS)
                if not passes or time.monotonic() > self._new_until:
                    raise
            delay_s = min(AGAIN_CAP_S, AGAIN_S * 2 ** min(tries, 10))
            await asyncio.sleep(delay_s * (0.5 + random.random() / 2))
            tries += 1

    async def publish(
        self, subject: str, data: bytes, head: bytes = b"", *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> int:
        """Store a message and return its stream sequence.

        Raises JetStreamError (10071 when a guard does not hold), StreamMissing when no stream takes the
        subject, and the errors of `Requests.ask`: after RequestTimeout or Disconnected it is not known
        whether the message was stored.
        """
        try:
            answer = await self._requests.ask(subject, data, head, timeout_s=timeout_s)
        except NoResponders as error:
            raise StreamMissing(subject) from error
        return sequence_of(answer.data)

    async def call(
        self, api: str, body: dict[str, Any] | None = None, *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> Any:
        """One JSON call to ``$JS.API.<api>``, which may be repeated; returns the decoded answer.

        Raises JetStreamError, and the errors of `Requests.ask`.
        """
        payload = json.dumps(body).encode() if body is not None else b""

        async def put() -> Any:
            new = time.monotonic() < self._new_until
            limit_s = min(timeout_s, TRY_S) if new else timeout_s
            return _checked((await self._requests.ask(f"$JS.API.{api}", payload, timeout_s=limit_s)).data)

        return await self._patiently(put, RequestTimeout)

    async def last(
        self, stream: str, subject: str, *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> Message | None:
        """The newest message on a subject by direct get: fast, on three servers possibly stale. None if none."""
        return await self._get(f"{stream}.{subject}", b"", timeout_s)

    async def next(
        self, stream: str, seq: int, pattern: str, *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> Message | None:
        """The first message from `seq` on whose subject matches, by direct get. None if none."""
        query = json.dumps({"seq": seq, "next_by_subj": pattern}).encode()
        return await self._get(stream, query, timeout_s)

    async def _get(self, what: str, query: bytes, timeout_s: float) -> Message | None:
        async def put() -> Message:
            return await self._requests.ask(f"$JS.API.DIRECT.GET.{what}", query, timeout_s=timeout_s)

        return _stored(await self._patiently(put, NoResponders))

    async def last_from_leader(
        self, stream: str, subject: str, *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> tuple[int, bytes] | None:
        """Sequence and payload of the newest message on a subject, as the stream's leader knows it."""
        found = await self.from_leader(stream, {"last_by_subj": subject}, timeout_s=timeout_s)
        return (found.seq, found.data) if found is not None else None

    async def from_leader(
        self, stream: str, query: dict[str, Any], *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> Kept | None:
        """The message that a query asks for, such as ``{"seq": 7, "next_by_subj": "a.*"}``, as the leader knows it."""
        try:
            answer = await self.call(f"STREAM.MSG.GET.{stream}", query, timeout_s=timeout_s)
        except JetStreamError as error:
            if error.err_code == NO_MESSAGE:
                return None
            raise
        message = answer["message"]
        return Kept(
            message["subject"],
            int(message["seq"]),
            b64decode(message.get("data", "")),
            b64decode(message.get("hdrs", "")),
            message.get("time", ""),
        )

    async def read(
        self, stream: str, query: dict[str, Any], *, timeout_s: float = DEFAULT_TIMEOUT_S
    ) -> list[Message]:
        """A batched direct get (ADR-31), such as ``{"multi_last": [...]}``; each message has ``Nats-*`` headers.

        Raises JetStreamError for a refusal, such as 413 when more than 1,000 subjects match.
        """
        subject, data = f"$JS.API.DIRECT.GET.{stream}", json.dumps(query).encode()

        async def put() -> list[Message]:
            return await self._requests.ask_many(subject, data, timeout_s=timeout_s)

        found = await self._patiently(put, NoResponders)
        if found and found[-1].status:
            refusal = found[-1]
            raise JetStreamError(code=refusal.status, err_code=0, description=refusal.status_text)
        return found


def is_at_its_limit(error: JetStreamError) -> bool:
    """Whether a refusal is of `STORE_FULL` for the stream's own limit, and not for want of room at the server."""
    return error.err_code == STREAM_FULL and "maximum bytes" in error.description


def stored_sequence(message: Message) -> int:
    """The stream sequence of a message from a direct get."""
    return int(message.headers["Nats-Sequence"])


def sequence_of(answer: bytes) -> int:
    """The sequence in a publish acknowledgement. Raises JetStreamError."""
    head, found, tail = answer.partition(b'"seq":')
    if found and b'"error"' not in head:
        digits = tail.lstrip()
        end = 0
        while end < len(digits) and 48 <= digits[end] <= 57:
            end += 1
        if end:
            return int(digits[:end])
    sequence = _checked(answer).get("seq")
    if not isinstance(sequence, int):
        raise JetStreamError(code=0, err_code=0, description=f"an answer without a sequence: {answer[:80]!r}")
    return sequence


def _stored(answer: Message) -> Message | None:
    status = answer.status
    if status == 404:
        return None
    if status:
        raise JetStreamError(code=status, err_code=0, description=answer.status_text)
    return answer


def _checked(data: bytes) -> Any:
    try:
        answer = json.loads(data)
        refusal = answer.get("error")
        if not refusal:
            return answer
        error = JetStreamError(
            code=int(refusal.get("code", 0)),
            err_code=int(refusal.get("err_code", 0)),
            description=str(refusal.get("description", "")),
        )
    except (ValueError, TypeError, AttributeError, RecursionError) as strange:
        raise JetStreamError(
            code=0, err_code=0, description=f"an answer that is not one of JetStream's: {data[:80]!r}"
        ) from strange
    raise error
