"""Tasks in plain nats-py: input create-once, outcome guarded, then the ack; the submitter reads the outcome.

The submitter has one subscription to the live feed for all of its tasks, made before it submits, and reads the
records that the feed tells of, as many at a time as there are. Left out, although Roost does it meanwhile:
attempts, backoff, dead letters, heartbeats, timeouts of handlers, looks after hints that never came, reconnects.
"""

from __future__ import annotations

import asyncio
import json
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
from nats.aio.client import Client
from nats.aio.msg import Msg

from benchmarks._work import (
    CONCURRENCY,
    Digest,
    Plan,
    Sample,
    digest,
    page,
    serially,
    side_by_side,
    trace_header,
)
from benchmarks.floor_log import (
    DIGESTS,
    ENDS,
    NAME,
    ONCE,
    ONCE_OVER,
    PAGES,
    STREAM,
    SUBJECTS,
    Done,
    Inbox,
    Refused,
    prepare,
)
from roost.tasks.records import Ref

READ_BATCH = 500


class Worker:
    """Pulls tasks with a callback, never more than it may run at once, and runs each in a task of its own."""

    def __init__(self, client: Client, inbox: Inbox, consumer: str) -> None:
        self._client = client
        self._inbox = inbox
        self._next = f"$JS.API.CONSUMER.MSG.NEXT.{STREAM}.{consumer}"
        self._deliver = client.new_inbox()
        self._asked = 0
        self._busy = 0
        self._running: set[asyncio.Task[None]] = set()
        self._unique = secrets.token_hex(6)
        self._serial = 0
        self._name = f"digester-{os.getpid()}"

    async def start(self) -> None:
        await self._client.subscribe(self._deliver, cb=self._arrived)
        await self._pull()

    async def _pull(self) -> None:
        room = CONCURRENCY - self._asked - self._busy
        if room < CONCURRENCY // 2:
            return
        self._asked += room
        body = {"batch": room, "expires": 30_000_000_000}
        await self._client.publish(self._next, json.dumps(body).encode(), self._deliver)

    async def _arrived(self, msg: Msg) -> None:
        if "Status" in (msg.headers or {}):
            self._asked -= int((msg.headers or {}).get("Nats-Pending-Messages", "0"))
            await self._pull()
            return
        self._asked -= 1
        self._busy += 1
        task = asyncio.create_task(self._one(msg))
        self._running.add(task)
        task.add_done_callback(self._running.discard)

    async def _one(self, msg: Msg) -> None:
        begun = time.time()
        _, ref = SUBJECTS.parse(msg.subject) or ("", Ref("", "", ""))
        words = msg.reply.split(".")
        delivered, seq = int(words[4]), words[5]
        end = SUBJECTS.end(ref)
        if delivered == 1 or await self._inbox.last(end) is None:
            value = PAGES.decode(msg.data, subject=msg.subject)
            data = DIGESTS.encode(digest(value), subject=msg.subject)
            self._serial += 1
            record = (
                b'{"status":"done","token":"%s.%d","attempts":[{"k":1,"by":"%s","at":%.6f,"s":%.6f}],"value":%s}'
                % (
                    self._unique.encode(),
                    self._serial,
                    self._name.encode(),
                    begun,
                    time.time() - begun,
                    data,
                )
            )
            guard = {
                ONCE: seq,
                ONCE_OVER: SUBJECTS.guard(ref),
                "traceparent": (msg.headers or {})["traceparent"],
            }
            try:
                await self._inbox.store(end, record, guard)
            except Refused as error:
                if error.code != 10071:  # another outcome stands
                    raise
        await msg.ack()
        self._busy -= 1
        await self._pull()


@asynccontextmanager
async def worker(url: str, plan: Plan) -> AsyncIterator[None]:
    client = await nats.connect(url)
    inbox = Inbox(client)
    await inbox.open()
    await Worker(client, inbox, await prepare(inbox)).start()
    await client.flush()
    yield
    await client.close()


class Submitter:
    """Stores tasks and learns their outcomes."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._inbox = Inbox(client)
        self._waiting: dict[str, asyncio.Future[Digest]] = {}
        self._wanted: list[str] = []
        self._reader: asyncio.Task[None] | None = None
        self._loop = asyncio.get_running_loop()

    async def open(self) -> None:
        await self._inbox.open()
        await self._client.subscribe(f"{SUBJECTS.live}*.end.{NAME}.*", cb=self._hinted)
        await self._client.flush()

    def _new(self, number: int) -> tuple[str, bytes, asyncio.Future[Digest]]:
        id = secrets.token_hex(11)
        ref = Ref(id, NAME, id)
        subject = SUBJECTS.task(ref)
        data = PAGES.encode(page(number), subject=subject)
        future = self._waiting[SUBJECTS.end(ref)] = self._loop.create_future()
        return subject, data, future

    async def submit(self, number: int) -> asyncio.Future[Digest]:
        """Store a task; a future of its value."""
        subject, data, future = self._new(number)
        await self._inbox.store(subject, data, {ONCE: "0", "traceparent": trace_header()})
        return future

    async def submit_atomic(self, numbers: range) -> list[asyncio.Future[Digest]]:
        """Store tasks in one atomic batch (ADR-50); futures of their values."""
        tasks = [self._new(number) for number in numbers]
        batch = secrets.token_hex(8)
        trace = trace_header()
        for position, (subject, data, _) in enumerate(tasks, 1):
            headers = {
                ONCE: "0",
                "traceparent": trace,
                "Nats-Batch-Id": batch,
                "Nats-Batch-Sequence": str(position),
            }
            if position < len(tasks):
                await self._client.publish(subject, data, headers=headers)
            else:
                await self._inbox.store(subject, data, {**headers, "Nats-Batch-Commit": "1"})
        return [future for _, _, future in tasks]

    async def _hinted(self, msg: Msg) -> None:
        end = f"{SUBJECTS.namespace}.run.{msg.subject[len(SUBJECTS.live) :]}"
        if end in self._waiting:
            self._wanted.append(end)
            if self._reader is None:
                self._reader = asyncio.create_task(self._read())

    async def _read(self) -> None:
        while self._wanted:
            wanted, self._wanted = self._wanted[:READ_BATCH], self._wanted[READ_BATCH:]
            if len(wanted) == 1:
                found = await self._inbox.last(wanted[0])
                records = [] if found is None else [found]
            else:
                records = await self._inbox.newest(wanted)
            for record in records:
                subject = (record.headers or {})["Nats-Subject"]
                end = ENDS.decode(record.data, subject=subject)
                if not isinstance(end, Done):
                    raise ValueError(end.reason)
                self._waiting.pop(subject).set_result(end.value)
        self._reader = None


async def submit(url: str, plan: Plan) -> Sample:
    """Submit and await the outcome: one at a time, or `plan.width` of them."""
    client = await nats.connect(url)
    submitter = Submitter(client)
    await submitter.open()

    async def one(number: int) -> None:
        await (await submitter.submit(number))

    sample = await (serially if plan.width == 1 else side_by_side)(one, plan)
    await client.close()
    return sample


async def fan_out(url: str, plan: Plan) -> Sample:
    """Submit `plan.width` tasks side by side and await all outcomes, again and again."""
    client = await nats.connect(url)
    submitter = Submitter(client)
    await submitter.open()

    async def one(number: int) -> None:
        futures = await asyncio.gather(*(submitter.submit(n) for n in range(plan.width)))
        await asyncio.gather(*futures)

    sample = await serially(one, plan)
    await client.close()
    return sample


async def fan_out_atomic(url: str, plan: Plan) -> Sample:
    """The same, stored all or none."""
    client = await nats.connect(url)
    submitter = Submitter(client)
    await submitter.open()

    async def one(number: int) -> None:
        await asyncio.gather(*await submitter.submit_atomic(range(plan.width)))

    sample = await serially(one, plan)
    await client.close()
    return sample
