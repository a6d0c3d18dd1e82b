"""What the rules of the log are tried with: a stream like Roost's, and a consumer that is pulled from by hand."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable

import pytest

from roost.errors import JetStreamError, StreamMissing
from roost.tasks.batch import Write, commit, create_once
from roost.tasks.provision import stream_config
from roost.tasks.records import Subjects
from roost.transport import Link, Message
from roost.transport.ackinfo import parse_ack
from roost.transport.headers import block

SOON_S = 10.0
ONCE = block(*create_once(""))


class Place:
    """A stream like Roost's in one namespace, and what the rules do to it."""

    def __init__(self, link: Link, namespace: str) -> None:
        self.link = link
        self.js = link.jetstream
        self.stream = f"ROOST_{namespace}"
        self.ns = namespace
        self.run = f"{namespace}.run.r"
        self.live = f"{namespace}.live.run.r"

    async def made(self, copies: int = 1) -> None:
        """Returns when the server that this is connected to has heard of the stream."""
        config = stream_config(Subjects(self.ns)) | {"num_replicas": copies}
        await self.js.call(f"STREAM.CREATE.{self.stream}", config)
        while copies > 1:
            try:
                await self.put("task.x.probe", head=block(("Nats-Expected-Last-Subject-Sequence", "9")))
            except StreamMissing:
                await asyncio.sleep(0.01)
            except JetStreamError:
                return

    async def level(self) -> None:
        """Returns when what is read directly has all that the leader has."""
        newest = await self.js.from_leader(self.stream, {"last_by_subj": f"{self.run}.>"})
        assert newest is not None
        query = {"seq": newest.seq, "next_by_subj": f"{self.run}.>", "batch": 1}
        while not await self.js.read(self.stream, query):  # noqa: ASYNC110 (a replica tells nobody)
            await asyncio.sleep(0.001)

    async def put(self, kind: str, data: bytes = b"", head: bytes = b"") -> int:
        return await self.js.publish(f"{self.run}.{kind}", data, head)

    async def refused(self, write: Awaitable[object]) -> int:
        """The number of the refusal."""
        with pytest.raises(JetStreamError) as error:
            await write
        return error.value.err_code

    async def batch(self, *writes: Write) -> int:
        return await commit(self.link, writes, timeout_s=5)

    def write(self, kind: str, *headers: tuple[str, str]) -> Write:
        return Write(f"{self.run}.{kind}", b"", headers)

    async def messages(self) -> int:
        return int((await self.js.call(f"STREAM.INFO.{self.stream}"))["state"]["messages"])

    async def purge(self, pattern: str) -> int:
        return int((await self.js.call(f"STREAM.PURGE.{self.stream}", {"filter": pattern}))["purged"])

    async def consumer(self, *, ack_wait_s: float = 30.0, most: int = 1000) -> Puller:
        config = {
            "durable_name": "d",
            "filter_subject": f"{self.ns}.run.*.task.x.>",
            "deliver_policy": "all",
            "ack_policy": "explicit",
            "ack_wait": int(ack_wait_s * 1e9),
            "max_deliver": -1,
            "max_ack_pending": most,
        }
        body = {"stream_name": self.stream, "config": config, "action": "create"}
        await self.js.call(f"CONSUMER.CREATE.{self.stream}.d.{config['filter_subject']}", body)
        puller = Puller(self)
        await self.link.client.flush()
        return puller


class Puller:
    """Pulls by hand."""

    def __init__(self, place: Place) -> None:
        self._client = place.link.client
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{place.stream}.d"
        self._inbox = self._client.new_inbox()
        self._pulls = 0
        self.arrived: asyncio.Queue[Message] = asyncio.Queue()
        self._client.listen(f"{self._inbox}.*", self.arrived.put_nowait)

    def ask(self, batch: int, *, expires_s: float = 20.0, beat_s: float = 5.0) -> None:
        self._pulls += 1
        body = {"batch": batch, "expires": int(expires_s * 1e9), "idle_heartbeat": int(beat_s * 1e9)}
        self._client.send(self._subject, json.dumps(body).encode(), f"{self._inbox}.{self._pulls}")

    async def next(self) -> Message:
        async with asyncio.timeout(SOON_S):
            return await self.arrived.get()

    async def take(self) -> tuple[str, int, Message]:
        """The next delivery: last token of its subject, how often it was delivered, and itself."""
        message = await self.next()
        while not message.reply and message.status == 100:
            message = await self.next()
        return message.subject.rsplit(".", 1)[1], parse_ack(message.reply).delivered, message

    def say(self, message: Message, word: bytes) -> None:
        self._client.send(message.reply, word)
