"""Defect 7: nats-py closes itself for ever on every error of the server but two: an expired token, a revoked
user, a full server, a line it did not understand.

Ours never ends by itself. After an error that is fatal the server closes the connection, and it is made again.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from defect_kit import INFO, Events, answer_pings, configured, greet, ours, rogue, stock

from roost.errors import ConnectError, NotConnected
from roost.settings import Settings
from roost.transport import open_client

USERS = "authorization { users: [ {user: a, password: pw}, {user: b, password: pw} ] }"
WITHOUT_A = "authorization { users: [ {user: b, password: pw} ] }"
EXPIRED = b"-ERR 'User Authentication Expired'\r\n"


async def test_07_client_lives_on_after_an_error_that_makes_the_server_close_the_connection(
    nats_url: str,
) -> None:
    async with ours(nats_url) as me:
        me.client._command(b"NONSENSE\r\n")
        await me.events.wait("reconnected")
        assert me.events.details("server_error") == ["Unknown Protocol Operation"]
        assert await me.works()


async def test_07_client_lives_on_after_an_error_that_does_not(nats_url: str) -> None:
    async with ours(nats_url) as me:
        me.client._command(b"SUB a..b 99\r\n")
        await me.client.flush()
        assert me.events.all == [("server_error", "Invalid Subject")]
        assert await me.works()


async def test_07_stock_is_closed_for_ever_by_an_error_of_the_server(nats_url: str) -> None:
    closed = asyncio.Event()

    async def told() -> None:
        closed.set()

    async with stock(nats_url, closed_cb=told) as client:
        await client._send_command(b"NONSENSE\r\n")
        await client._flush_pending()
        async with asyncio.timeout(3):
            await closed.wait()
        assert client.is_closed


async def test_07_revoked_user_goes_on_trying_says_so_and_is_back_when_it_is_allowed_again(
    tmp_path: Path,
) -> None:
    with configured(tmp_path, USERS) as server:
        async with ours(server.url_of("a")) as me:
            got: list[bytes] = []
            me.client.listen("d07", lambda message: got.append(message.data))
            await me.client.flush()
            server.reload(WITHOUT_A)
            third = await me.events.wait("auth_failed", number=3)
            assert third == "Authorization Violation (3 times in a row)"
            with pytest.raises(NotConnected):
                me.client.send("d07")
            server.reload(USERS)
            await me.events.wait("reconnected", within_s=15)
            assert me.client.auth_failures == 0
            me.client.send("d07", b"back")
            await me.client.flush()
            assert got == [b"back"]


async def test_07_full_server_is_tried_again_until_it_has_room(tmp_path: Path) -> None:
    events = Events()
    with configured(tmp_path, "max_connections: 10") as server:
        async with ours(server.url, events=events) as first, ours(server.url, events=events) as second:
            server.reload("max_connections: 1")  # one of the two is sent away
            failure = await events.wait("reconnect_failed")
            assert "maximum connections exceeded" in failure.lower()
            assert events.count("connection_lost") == 1
            server.reload("max_connections: 10")
            await events.wait("reconnected")
            assert await first.works()
            assert await second.works()


async def test_07_expired_token_leads_to_a_reconnect_with_a_fresh_one() -> None:
    """A real server expires tokens only after a second of waiting; this one says the same at once."""
    connects: list[bytes] = []

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connects.append(await greet(reader, writer))
        if len(connects) == 1:
            writer.write(EXPIRED)
            return
        await answer_pings(reader, writer)

    tokens = iter(["first", "second"])
    async with rogue(talk) as address:
        async with ours(f"nats://{address}", token=lambda: next(tokens)) as me:
            await me.events.wait("reconnected")
            assert me.events.details("auth_failed") == ["User Authentication Expired (1 times in a row)"]
            assert [b"first" in connects[0], b"second" in connects[1]] == [True, True]


async def test_07_stock_is_closed_for_ever_by_an_expired_token() -> None:
    closed = asyncio.Event()

    async def told() -> None:
        closed.set()

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await greet(reader, writer)
        writer.write(EXPIRED)
        await answer_pings(reader, writer)

    async with rogue(talk) as address, stock(f"nats://{address}", closed_cb=told):
        async with asyncio.timeout(3):
            await closed.wait()


@pytest.mark.parametrize(
    "nonsense",
    [
        b"",  # closes at once
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"INFO {not json\r\n",
        b"INFO \xff\xfe\r\n",
        b"INFO [1]\r\n",
        b"INFO " + b"[" * 100_000 + b"\r\n",
        b"-ERR 'maximum connections exceeded'\r\n",
        INFO % b"" + b"MSG x 1 0\r\n\r\n",
        INFO % b"" + b"-ERR 'something new'\r\n",
        INFO.replace(b'"headers":true', b'"headers":false') % b"",
        b"INFO " + b"x" * 300_000,
    ],
    ids=lambda text: repr(text[:24]),
)
async def test_07_reconnect_goes_on_whatever_a_server_says_in_its_greeting(
    nonsense: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("roost.transport.session.RECONNECT_BASE_S", 0.02)
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        if connections == 2:
            writer.write(nonsense)
            await writer.drain()
            return
        await greet(reader, writer)
        if connections == 3:
            await answer_pings(reader, writer)

    async with rogue(talk) as address, ours(f"nats://{address}") as me:
        failed = await me.events.wait("reconnect_failed")
        assert failed
        await me.events.wait("reconnected")
        assert me.client.is_connected


async def test_07_nonsense_while_connected_leads_to_a_reconnect(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("roost.transport.session.RECONNECT_BASE_S", 0.02)
    connections = 0

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal connections
        connections += 1
        await greet(reader, writer)
        if connections == 1:
            writer.write(b"MSG broken\r\n")
        elif connections == 2:
            writer.write(b"INFO {\r\n")
        elif connections == 3:
            writer.write(b"MSG x 1 -5\r\n")
        await answer_pings(reader, writer)

    async with rogue(talk) as address, ours(f"nats://{address}") as me:
        await me.events.wait("reconnected", number=3)
        assert all("not the NATS protocol" in detail for detail in me.events.details("connection_lost"))


async def test_07_refused_credentials_end_the_first_attempt_at_once(tmp_path: Path) -> None:
    with configured(tmp_path, USERS) as server:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        with pytest.raises(ConnectError, match="Authorization Violation") as refused:
            await open_client(
                Settings(servers=(server.url_of("a", "wrong"),), connect_timeout_s=10), Events()
            )
        assert loop.time() - begun < 5
        assert "wrong" not in str(refused.value)
