"""Messages in plain nats-py: the same headers, the same checks of what is sent and received.

Callbacks instead of async iterators (three times as fast). Left out, although Roost does it meanwhile: handlers
side by side, a limit on how many, a timeout of each, errors that go back to the caller.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
from nats.aio.msg import Msg

from benchmarks._work import (
    CREDIT,
    NAMESPACE,
    Credit,
    Digest,
    Page,
    Plan,
    Reading,
    Sample,
    Window,
    digest,
    page,
    reading,
    serially,
    side_by_side,
    trace_header,
)
from roost.codec import Codec

READINGS = Codec(Reading)
CREDITS = Codec(Credit)
PAGES = Codec(Page)
DIGESTS = Codec(Digest)
COUNT = f"{NAMESPACE}.count"


@asynccontextmanager
async def subscriber(url: str, plan: Plan) -> AsyncIterator[None]:
    total = 0

    async def read(msg: Msg) -> None:
        nonlocal total
        value = READINGS.decode(msg.data, subject=msg.subject)
        if msg.subject.split(".")[1] != value.sensor:
            raise ValueError("the subject names another sensor")
        total += 1
        if total % CREDIT == 0:
            await client.publish(
                "site.credit",
                CREDITS.encode(Credit(arrived=total), subject="site.credit"),
                headers={"traceparent": trace_header()},
            )

    client = await nats.connect(url)
    await client.subscribe("site.*.reading", queue="reader", cb=read)
    await client.flush()
    yield
    await client.close()


async def publish(url: str, plan: Plan) -> Sample:
    window = Window(plan.width)

    async def credit(msg: Msg) -> None:
        window.arrived(CREDITS.decode(msg.data, subject=msg.subject).arrived)

    async def some(count: int) -> None:
        subject = "site.boiler-7.reading"
        for number in range(count):
            if window.full():
                await window.room()
            window.sent()
            data = READINGS.encode(reading(number), subject=subject)
            await client.publish(subject, data, headers={"traceparent": trace_header()})
        await window.all()

    loop = asyncio.get_running_loop()
    client = await nats.connect(url)
    await client.subscribe("site.credit", queue="publisher", cb=credit)
    await client.flush()
    await some(plan.warm_up)
    begun = loop.time()
    await some(plan.count)
    sample = Sample(count=plan.count, seconds=loop.time() - begun)
    await client.close()
    return sample


@asynccontextmanager
async def responder(url: str, plan: Plan) -> AsyncIterator[None]:
    loop = asyncio.get_running_loop()

    async def count(msg: Msg) -> None:
        deadline = loop.time() + int((msg.headers or {}).get("Roost-Timeout-Ms", "5000")) / 1000
        value = PAGES.decode(msg.data, subject=msg.subject)
        answer = DIGESTS.encode(digest(value), subject=msg.subject)
        if loop.time() < deadline:
            await client.publish(msg.reply, answer)

    client = await nats.connect(url)
    await client.subscribe(COUNT, queue="roost", cb=count)
    await client.flush()
    yield
    await client.close()


async def request(url: str, plan: Plan) -> Sample:
    client = await nats.connect(url)

    async def one(number: int) -> None:
        data = PAGES.encode(page(number), subject=COUNT)
        headers = {"traceparent": trace_header(), "Roost-Timeout-Ms": "5000"}
        answer = await client.request(COUNT, data, timeout=5, headers=headers)
        DIGESTS.decode(answer.data, subject=COUNT)

    sample = await (serially if plan.width == 1 else side_by_side)(one, plan)
    await client.close()
    return sample
