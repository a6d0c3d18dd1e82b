"""Acknowledgement subjects of both forms, as a real server writes them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from roost.server import LocalServer, ServerOptions
from roost.settings import Settings
from roost.transport import Link, Message, Pump, open_client
from roost.transport.ackinfo import AckInfo, parse_ack

FORMS = {
    "v1": ("", 9),
    "v2": ("feature_flags { js_ack_fc_v2: true }", 11),
    "domain": ("jetstream { domain: hub }", 9),
}


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> Iterator[tuple[str, int]]:
    config, tokens = FORMS[request.param]
    with LocalServer(ServerOptions(extra_config=config)) as server:
        yield server.url, tokens


async def test_ack_subject_of_a_real_delivery_is_read(form: tuple[str, int]) -> None:
    url, tokens = form
    client = await open_client(Settings(servers=(url,)), lambda *_: None)
    link = Link(client)
    await link.jetstream.call("STREAM.CREATE.S", {"name": "S", "subjects": ["s.>"]})
    config = {"durable_name": "C", "ack_policy": "explicit"}
    body = {"stream_name": "S", "config": config, "action": "create"}
    await link.jetstream.call("CONSUMER.CREATE.S.C", body)
    before = time.time()
    for _ in range(3):
        await link.jetstream.publish("s.x", b"")
    got: list[Message] = []
    fourth = asyncio.Event()

    def take(message: Message) -> None:
        got.append(message)
        if len(got) == 1:
            client.send(message.reply, b"-NAK")
        if len(got) == 4:
            fourth.set()

    pump = Pump(client, "S", "C", on_message=take, room=lambda: 10, on_trouble=lambda *_: None)
    pump.start()
    async with asyncio.timeout(5):
        await fourth.wait()
    pump.stop()
    await client.close()
    assert len(got[0].reply.split(".")) == tokens
    found = [parse_ack(message.reply) for message in got]
    assert sorted((ack.stream_seq, ack.delivered) for ack in found) == [(1, 1), (1, 2), (2, 1), (3, 1)]
    assert {ack.pending for ack in found} <= {0, 1, 2}
    assert found[-1].pending == 0
    assert all(before - 1 < ack.timestamp_s < time.time() + 1 for ack in found)


@pytest.mark.parametrize(
    "reply",
    [
        "$JS.ACK.S.C.2.7.9.1700000000123456789.5",
        "$JS.ACK._.hash.S.C.2.7.9.1700000000123456789.5",
        "$JS.ACK.hub.hash.S.C.2.7.9.1700000000123456789.5.random",
        "$JS.ACK.hub.hash.S.C.2.7.9.1700000000123456789.5.random.future",
    ],
)
def test_ack_subject_of_every_form_is_read(reply: str) -> None:
    assert parse_ack(reply) == AckInfo(stream_seq=7, delivered=2, timestamp_s=1700000000.1234567, pending=5)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "_INBOX.x.y",
        "$JS.ACK",
        "$JS.ACK.S.C.2.7.9.1700000000123456789",
        "$JS.ACK.S.C.2.7.9.1700000000123456789.5.6",
        "$JS.API.S.C.2.7.9.1700000000123456789.5",
        "$JS.ACK.S.C.x.7.9.1700000000123456789.5",
        "$JS.ACK.S.C.2.7.9.soon.5",
        "JS.ACK.S.C.2.7.9.1700000000123456789.5",
    ],
)
def test_anything_else_is_refused(reply: str) -> None:
    with pytest.raises(ValueError, match=r"not an acknowledgement|invalid literal"):
        parse_ack(reply)


@given(st.text(alphabet="$JSACK.0123456789x_", max_size=60))
def test_nothing_but_a_value_error_comes_out_of_a_strange_subject(reply: str) -> None:
    with suppress(ValueError):
        parse_ack(reply)
