"""Defect 6: nats-py does not count headers, nor the length of a subject; the server closes the connection, and
nats-py closes itself for ever.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from defect_kit import configured, ours, stock

from roost.errors import TooLarge, UnsafeToken
from roost.transport.headers import block

LIMIT = 1024 * 1024
"""nats-server's default `max_payload`, in bytes."""


async def test_06_headers_count_towards_the_limit_of_a_message(nats_url: str) -> None:
    head = block(("Name", "value"))
    async with ours(nats_url) as me:
        with pytest.raises(TooLarge) as refused:
            me.client.send("d06", b"x" * LIMIT, "", head)
        assert (refused.value.size, refused.value.limit) == (LIMIT + len(head), LIMIT)
        with pytest.raises(TooLarge):
            await me.requests.ask("d06", b"x" * LIMIT, head, timeout_s=1)
        with pytest.raises(TooLarge):
            await me.client.publish("d06", b"x" * LIMIT, headers={"Name": "value"})
        assert len(me.requests) == 0
        got: list[int] = []
        me.client.listen("d06", lambda message: got.append(len(message.data)))
        me.client.send("d06", b"x" * (LIMIT - len(head)), "", head)
        await me.client.flush()
        assert got == [LIMIT - len(head)]
        assert me.events.all == []


@pytest.mark.parametrize("subject", ["d06." + "x" * 5000, "d06." + "é" * 2100])
async def test_06_subject_longer_than_a_control_line_is_refused(nats_url: str, subject: str) -> None:
    async with ours(nats_url) as me:
        with pytest.raises(TooLarge):
            me.client.send(subject)
        with pytest.raises(TooLarge):
            me.client.send("d06", b"", subject)
        with pytest.raises(TooLarge):
            me.client.listen(subject, print)
        with pytest.raises(TooLarge):
            await me.client.publish(subject)
        me.client.send("d06." + "x" * 4000)  # fits
        await me.client.flush()
        assert me.events.all == []


@pytest.mark.parametrize(
    "subject", ["", "a b", "a\r\nPUB x 0\r\n", "a\tb", "a\x0cb", "a\x00b", "a\u202eb", "\ud800"]
)
async def test_06_subject_that_would_end_or_confuse_a_control_line_is_refused(
    nats_url: str, subject: str
) -> None:
    async with ours(nats_url) as me:
        with pytest.raises(UnsafeToken):
            me.client.send(subject)
        with pytest.raises(UnsafeToken):
            me.client.listen(subject, print)
        if subject:
            with pytest.raises(UnsafeToken):
                me.client.send("d06", b"", subject)
            with pytest.raises(UnsafeToken):
                me.client.listen("d06", print, subject)


@pytest.mark.parametrize("pattern", ["a..b", ".a", "a.", "a.>.b", "a*.b", "a.b>"])
async def test_06_pattern_that_the_server_would_refuse_without_a_name_is_refused(
    nats_url: str, pattern: str
) -> None:
    async with ours(nats_url) as me:
        with pytest.raises(UnsafeToken):
            me.client.listen(pattern, print)


async def test_06_limit_that_was_lowered_is_learned_by_reconnecting(tmp_path: Path) -> None:
    """The server does not tell its clients; the first message over the new limit costs the connection, no more."""
    with configured(tmp_path, "max_payload: 2000") as server:
        async with ours(server.url) as me:
            me.client.send("d06", b"x" * 2000)
            server.reload("max_payload: 1000")
            me.client.send("d06", b"x" * 2000)
            await me.events.wait("reconnected")
            assert me.events.details("server_error") == ["Maximum Payload Violation"]
            with pytest.raises(TooLarge):
                me.client.send("d06", b"x" * 2000)
            me.client.send("d06", b"x" * 1000)
            await me.client.flush()


async def test_06_stock_is_closed_for_ever_by_headers_over_the_limit(nats_url: str) -> None:
    closed = asyncio.Event()

    async def told() -> None:
        closed.set()

    async with stock(nats_url, closed_cb=told) as client:
        await client.publish("d06", b"x" * LIMIT, headers={"Name": "value"})
        async with asyncio.timeout(3):
            await closed.wait()
        assert client.is_closed


async def test_06_stock_is_closed_for_ever_by_a_long_subject(nats_url: str) -> None:
    closed = asyncio.Event()

    async def told() -> None:
        closed.set()

    async with stock(nats_url, closed_cb=told) as client:
        await client.publish("d06." + "x" * 5000)
        async with asyncio.timeout(3):
            await closed.wait()
        assert client.is_closed
