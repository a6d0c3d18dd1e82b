"""Defect 22: nats-py tells of a denied permission only in an error callback, in lower case; the request waits for
its whole timeout and the denied subscription looks alive.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator
from pathlib import Path

import nats.errors
import pytest
from defect_kit import ConfiguredServer, configured, ours, stock

from roost.errors import PermissionDenied
from roost.transport import Message, Pump

USER = """
authorization { users: [
  { user: a, password: pw, permissions: { publish: { deny: [%s] }, subscribe: { deny: [%s] } } }
  { user: admin, password: pw }
] }
"""
DENIED_PUBLISH = '"Secret.Place", "$JS.API.CONSUMER.MSG.NEXT.>", "quote\\"d"'
DENIED_SUBSCRIBE = '"Secret.Events", "Work.>", "_INBOX.private.>"'
CONFIG = USER % (DENIED_PUBLISH, DENIED_SUBSCRIBE)
LIFTED = USER % ('"x"', '"x"')


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ConfiguredServer]:
    with configured(tmp_path, CONFIG) as running:
        yield running


async def test_22_denied_request_fails_at_once_and_names_its_subject(server: ConfiguredServer) -> None:
    async with ours(server.url_of("a")) as me:
        me.client.listen("allowed.silent", lambda _: None)
        other = asyncio.create_task(me.requests.ask("allowed.silent", timeout_s=1))
        begun = time.monotonic()
        with pytest.raises(PermissionDenied) as denied:
            await me.requests.ask("Secret.Place", timeout_s=30)
        assert time.monotonic() - begun < 5
        assert (denied.value.subject, denied.value.action) == ("Secret.Place", "publish")
        with pytest.raises(PermissionDenied):
            await me.jetstream.publish("Secret.Place", b"", timeout_s=30)
        with pytest.raises(PermissionDenied):
            await me.client.request("Secret.Place", timeout=30)
        with pytest.raises(PermissionDenied) as quoted:
            await me.requests.ask('quote"d', timeout_s=30)
        assert quoted.value.subject == 'quote"d'
        assert not other.done()
        other.cancel()
        await asyncio.gather(other, return_exceptions=True)
        assert me.events.details("permission_denied")[0] == "publish Secret.Place"
        assert me.events.count("connection_lost") == 0


@pytest.mark.parametrize(("subject", "queue"), [("Secret.Events", ""), ("Work.>", "group"), ("Work.x", "")])
async def test_22_denied_subscription_is_told(server: ConfiguredServer, subject: str, queue: str) -> None:
    async with ours(server.url_of("a")) as me:
        told = asyncio.Event()
        listener = me.client.listen(subject, lambda _: None, queue)
        listener.on_denied = told.set
        allowed = me.client.listen("Public.Events", lambda _: None)
        await me.client.flush()
        assert told.is_set()
        assert listener.denied
        assert not allowed.denied
        assert me.events.all == [("permission_denied", f"subscribe {subject}")]


async def test_22_permission_that_is_withdrawn_and_given_back_is_followed(server: ConfiguredServer) -> None:
    async with ours(server.url_of("a")) as me, ours(server.url_of("admin")) as admin:
        server.reload(LIFTED)
        await me.client.flush()
        got: list[bytes] = []
        listener = me.client.listen("Secret.Events", lambda message: got.append(message.data))
        await me.client.flush()
        assert not listener.denied
        server.reload(CONFIG)
        await me.events.wait("permission_denied")
        assert listener.denied
        server.reload(LIFTED)
        await me.client.force_reconnect()  # the server does not take a subscription up again by itself
        await me.events.wait("reconnected")
        await me.client.flush()
        assert not listener.denied
        admin.client.send("Secret.Events", b"x")
        await admin.client.flush()
        await me.client.flush()
        assert got == [b"x"]


async def test_22_denied_inbox_fails_every_request_at_once(server: ConfiguredServer) -> None:
    settings_prefix = "_INBOX.private"
    async with ours(server.url_of("a")) as me:
        me.client._inbox_prefix = bytearray(settings_prefix.encode())
        requests = type(me.requests)(me.client)
        me.client.listen("allowed.silent", lambda _: None)
        for _ in range(2):
            begun = time.monotonic()
            with pytest.raises(PermissionDenied) as denied:
                await requests.ask("allowed.silent", timeout_s=30)
            assert time.monotonic() - begun < 5
            assert denied.value.action == "subscribe"


async def test_22_pump_that_may_not_pull_says_so(server: ConfiguredServer) -> None:
    async with ours(server.url_of("a")) as me:
        trouble: asyncio.Future[tuple[str, str]] = asyncio.get_running_loop().create_future()

        def troubled(kind: str, text: str) -> None:
            if not trouble.done():
                trouble.set_result((kind, text))

        def take(message: Message) -> None:
            raise AssertionError

        pump = Pump(me.client, "S", "C", on_message=take, room=lambda: 1, on_trouble=troubled)
        pump.start()
        async with asyncio.timeout(2):
            kind, text = await trouble
        pump.stop()
        assert kind == "refused"
        assert "$JS.API.CONSUMER.MSG.NEXT.S.C" in text


async def test_22_stock_request_waits_for_its_timeout_and_subscription_looks_alive(
    server: ConfiguredServer,
) -> None:
    async with stock(server.url, user="a", password="pw") as client:
        subscription = await client.subscribe("Secret.Events")
        begun = time.monotonic()
        with pytest.raises(nats.errors.TimeoutError):
            await client.request("Secret.Place", timeout=0.5)
        assert time.monotonic() - begun > 0.4
        assert not subscription._closed
