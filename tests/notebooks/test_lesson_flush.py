"""In the notebooks `flush` of the plain client returns when the server has seen what was sent before."""

from __future__ import annotations

import lesson_flush
import nats
import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

import roost

TRIES = 150  # without the remedy 8 % of them fail


async def test_after_a_flush_the_server_has_seen_subscriptions_and_messages(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Client, "_send_ping", Client._send_ping)  # puts back what `mend` changes
    lesson_flush.mend()

    async def answer(message: Msg) -> None:
        await message.respond(b"here")

    async with roost.local_server() as url:
        worker, asker = await nats.connect(url), await nats.connect(url)
        own = await asker.subscribe("own")
        for number in range(TRIES):
            await worker.subscribe(f"try.{number}", cb=answer)
            await worker.flush()
            assert (await asker.request(f"try.{number}", b"", timeout=5)).data == b"here"
            await asker.publish("own", b"")
            await asker.flush()
            assert own.pending_msgs == number + 1
        await worker.close()
        await asker.close()
