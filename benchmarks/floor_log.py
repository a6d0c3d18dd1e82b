"""What the floor's tasks stand on, in plain nats-py: the records, acknowledged publishes, reads of many records.

The records are those of Roost's log, byte for byte in kind: an input stored create-once, an outcome guarded by
the sequence of its task over all records of the task. One inbox with a callback and a future for each request is
the best that was found in nats-py: with `js.publish` instead, 256 tasks in flight cost a third more processor time;
`js.publish_async` costs the same, but has no timeout. A push consumer instead of the pulls makes no difference.
"""

from __future__ import annotations

import asyncio
import json
from typing import Annotated, Any, Literal

from nats.aio.client import Client
from nats.aio.msg import Msg
from pydantic import BaseModel, Field

from benchmarks._work import NAMESPACE, Digest, Page
from roost.codec import Codec, Limits
from roost.tasks.provision import consumer_config, consumer_name, stream_config
from roost.tasks.records import Subjects

SUBJECTS = Subjects(NAMESPACE)
STREAM = SUBJECTS.stream
NAME = "digest"
PATIENCE_S = 5.0
ONCE = "Nats-Expected-Last-Subject-Sequence"
ONCE_OVER = "Nats-Expected-Last-Subject-Sequence-Subject"


class Attempt(BaseModel):
    k: int
    by: str
    at: float
    s: float = 0.0


class Done(BaseModel):
    status: Literal["done"]
    token: str
    attempts: list[Attempt]
    value: Digest


class Dead(BaseModel):
    status: Literal["dead"]
    token: str
    attempts: list[Attempt]
    reason: str


PAGES = Codec(Page)
DIGESTS = Codec(Digest)
ENDS: Codec[Any] = Codec(
    Annotated[Done | Dead, Field(discriminator="status")],  # type: ignore[arg-type]
    limits=Limits(max_bytes=512 * 1024, max_depth=36),
)


class Refused(Exception):
    """The server did not store a record."""

    def __init__(self, code: int, text: str) -> None:
        self.code = code
        super().__init__(f"{text} ({code})")


class Inbox:
    """Requests of one client over one inbox, answered once or, for a batched read, several times."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._prefix = client.new_inbox() + "."
        self._skip = len(self._prefix)
        self._waiting: dict[str, tuple[asyncio.Future[Msg], list[Msg] | None]] = {}
        self._next = 0
        self._loop = asyncio.get_running_loop()

    async def open(self) -> None:
        await self._client.subscribe(self._prefix + "*", cb=self._answered)

    async def _answered(self, msg: Msg) -> None:
        waiting = self._waiting.get(msg.subject[self._skip :])
        if waiting is None or waiting[0].done():
            return
        future, found = waiting
        if found is not None and "Status" not in (msg.headers or {}):
            found.append(msg)
        else:
            future.set_result(msg)

    async def ask(
        self, subject: str, data: bytes, headers: dict[str, str] | None = None, found: list[Msg] | None = None
    ) -> Msg:
        self._next += 1
        token = f"{self._next:x}"
        future: asyncio.Future[Msg] = self._loop.create_future()
        self._waiting[token] = (future, found)
        timer = self._loop.call_later(PATIENCE_S, _give_up, future)
        try:
            await self._client.publish(subject, data, self._prefix + token, headers)
            return await future
        finally:
            timer.cancel()
            del self._waiting[token]

    async def store(self, subject: str, data: bytes, headers: dict[str, str]) -> int:
        """Store one record; its sequence. Raises Refused."""
        answer = json.loads((await self.ask(subject, data, headers)).data)
        if "error" in answer:
            raise Refused(answer["error"]["err_code"], answer["error"]["description"])
        return int(answer["seq"])

    async def last(self, subject: str) -> Msg | None:
        """The newest record on a subject."""
        msg = await self.ask(f"$JS.API.DIRECT.GET.{STREAM}.{subject}", b"")
        return None if "Status" in (msg.headers or {}) else msg

    async def newest(self, subjects: list[str]) -> list[Msg]:
        """The newest record on each of many subjects that has one."""
        found: list[Msg] = []
        await self.ask(
            f"$JS.API.DIRECT.GET.{STREAM}", json.dumps({"multi_last": subjects}).encode(), None, found
        )
        return found


def _give_up(future: asyncio.Future[Msg]) -> None:
    if not future.done():
        future.set_exception(TimeoutError())


async def prepare(inbox: Inbox) -> str:
    """Create stream and consumer as Roost has them; the consumer's name."""
    consumer = consumer_name(NAME)
    wanted = consumer_config(SUBJECTS, NAME, 30.0)
    await _call(inbox, f"STREAM.CREATE.{STREAM}", stream_config(SUBJECTS))
    await _call(
        inbox,
        f"CONSUMER.CREATE.{STREAM}.{consumer}.{wanted['filter_subject']}",
        {"stream_name": STREAM, "config": wanted, "action": "create"},
    )
    return consumer


async def _call(inbox: Inbox, api: str, body: dict[str, Any]) -> None:
    answer = json.loads((await inbox.ask(f"$JS.API.{api}", json.dumps(body).encode())).data)
    if "error" in answer:
        raise Refused(answer["error"]["err_code"], answer["error"]["description"])
