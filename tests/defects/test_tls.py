"""Defect 8: nats-py sends the password in clear to a server that leaves TLS out of its INFO, although the URL
and the options ask for TLS.
"""

from __future__ import annotations

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
from defect_kit import INFO, Events, configured, ours, rogue, stock

from roost.errors import ConnectError
from roost.settings import Settings
from roost.transport import open_client

TLS = Path(__file__).parent / "tls"
CONFIG = f"""
tls {{ cert_file: "{TLS / "cert.pem"}", key_file: "{TLS / "key.pem"}"%s }}
authorization {{ user: a, password: secret }}
"""


def trusting() -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(TLS / "cert.pem"))


def eavesdropper(heard: list[bytes], info: bytes = INFO % b"") -> Any:
    """A server without TLS that notes what it is told."""

    async def talk(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(info)
        while line := await reader.readline():
            heard.append(line)
            if line == b"PING\r\n":
                writer.write(b"PONG\r\n")

    return talk


@pytest.mark.parametrize(
    ("scheme", "options"), [("tls", {}), ("nats", {"tls": trusting()}), ("tls", {"tls": trusting()})]
)
async def test_08_no_credentials_in_clear_when_tls_was_asked_for(
    scheme: str, options: dict[str, Any]
) -> None:
    heard: list[bytes] = []
    async with rogue(eavesdropper(heard)) as address:
        settings = Settings(servers=(f"{scheme}://a:secret@{address}",), options=options)
        with pytest.raises(ConnectError, match="did not offer TLS"):
            await open_client(settings, Events())
    assert heard == []


async def test_08_no_credentials_in_clear_when_the_server_turns_to_plain_text_later(tmp_path: Path) -> None:
    """The first connection is encrypted; then somebody else answers on the port."""
    heard: list[bytes] = []
    with configured(tmp_path, CONFIG % "") as server:
        async with ours(f"tls://a:secret@127.0.0.1:{server.port}", tls=trusting()) as me:
            assert await me.works()
            server.kill()
            await me.events.wait("connection_lost")
            async with rogue(eavesdropper(heard), server.port):
                await me.events.wait("reconnect_failed", "did not offer TLS")
    assert heard == []


async def test_08_what_is_said_in_clear_before_the_handshake_is_refused() -> None:
    """Else somebody in between could put words into the protected conversation."""
    heard: list[bytes] = []
    info = INFO % b',"tls_required":true' + b"PONG\r\n"
    async with rogue(eavesdropper(heard, info)) as address:
        settings = Settings(
            servers=(f"tls://a:secret@{address}",), options={"tls": trusting()}, connect_timeout_s=0.3
        )
        with pytest.raises(ConnectError, match="in clear before the TLS handshake"):
            await open_client(settings, Events())
    assert heard == []


@pytest.mark.parametrize("first", [False, True])
async def test_08_tls_works(tmp_path: Path, first: bool) -> None:
    with configured(tmp_path, CONFIG % (", handshake_first: true" if first else "")) as server:
        async with ours(
            f"tls://a:secret@127.0.0.1:{server.port}", tls=trusting(), tls_handshake_first=first
        ) as me:
            got: list[bytes] = []
            me.client.listen("d08", lambda message: got.append(message.data))
            for number in range(100):
                me.client.send("d08", b"%d" % number * 20_000)
            await me.client.flush()
            assert [len(data) for data in got] == [20_000] * 10 + [40_000] * 90
            await me.client.force_reconnect()
            await me.events.wait("reconnected")
            assert await me.works()


async def test_08_certificate_that_is_not_trusted_ends_the_attempt_at_once(tmp_path: Path) -> None:
    with configured(tmp_path, CONFIG % "") as server:
        loop = asyncio.get_running_loop()
        begun = loop.time()
        with pytest.raises(ConnectError, match="certificate verify failed"):
            await open_client(Settings(servers=(f"tls://a:secret@127.0.0.1:{server.port}",)), Events())
        assert loop.time() - begun < 2


async def test_08_stock_sends_the_password_in_clear() -> None:
    heard: list[bytes] = []
    async with rogue(eavesdropper(heard)) as address, stock(f"tls://a:secret@{address}", tls=trusting()):
        pass
    assert b"secret" in heard[0]
