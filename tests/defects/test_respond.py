"""Defect 18: nats-py's `respond` sends the headers of the request back, credentials in them included."""

from __future__ import annotations

from defect_kit import ours, stock
from nats.aio.msg import Msg

SECRET = {"Authorization": "Bearer secret"}


async def answer(message: Msg) -> None:
    await message.respond(b"answer")


async def test_18_answer_does_not_carry_the_headers_of_the_request(nats_url: str) -> None:
    async with ours(nats_url) as me:
        await me.client.subscribe("d18", cb=answer)
        got = await me.client.request("d18", b"", timeout=2, headers=SECRET)
        assert (got.data, got.headers) == (b"answer", None)


async def test_18_stock_answer_carries_the_headers_of_the_request(nats_url: str) -> None:
    async with stock(nats_url) as client:
        await client.subscribe("d18s", cb=answer)
        got = await client.request("d18s", b"", timeout=2, headers=SECRET)
        assert got.headers == SECRET
