"""Ways to reach a server: contexts, seeds, TLS; what is refused beyond this machine; status and events."""

from __future__ import annotations

import asyncio
import json
import shutil
import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from login_kit import TLS_FILES, ConfiguredServer, configured, free_port, secret_file

import roost
from roost import TLS, Agent, ConfigError, ConnectError, Credentials, Endpoint, Event, PermissionDenied
from roost.settings.tls import default_context
from roost.transport.wire import is_loopback

LOGIN = "authorization { users: [{ user: ann, password: hush-pw }] }\n"
ANN = Credentials(user="ann", password="hush-pw")
SECURE = f'tls {{ cert_file: "{TLS_FILES / "cert.pem"}", key_file: "{TLS_FILES / "key.pem"}"%s }}\n'
TRUST = TLS(ca_file=TLS_FILES / "cert.pem")


@pytest.fixture(autouse=True)
def contexts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder of contexts, and an environment that says nothing."""
    for name in ("NATS_URL", "NATS_CONTEXT", "NATS_CREDS", "NATS_USER", "NATS_PASSWORD", "ROOST_INSECURE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    folder = tmp_path / "config" / "nats" / "context"
    folder.mkdir(parents=True)
    return folder


@pytest.fixture
def server(tmp_path: Path) -> Iterator[ConfiguredServer]:
    with configured(tmp_path, LOGIN) as running:
        yield running


@pytest.fixture
def not_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the servers were on other machines: the tests' own listen on loopback only."""
    monkeypatch.setattr("roost.transport.wire.is_loopback", lambda address: False)


# Where ------------------------------------------------------------------------------------------


async def test_context_given_named_or_selected_is_used(
    server: ConfiguredServer, contexts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {
        "description": "",
        "url": server.url,
        "user": "ann",
        "password": "hush-pw",
        "color_scheme": "red",
    }
    secret_file(contexts / "prod.json", json.dumps(fields))
    async with roost.connect(context="prod") as bus:
        assert (await bus.status()).source == "nats context prod (given)"
    monkeypatch.setenv("NATS_CONTEXT", "prod")
    async with roost.connect() as bus:
        assert (await bus.status()).source == "nats context prod (NATS_CONTEXT)"
    monkeypatch.delenv("NATS_CONTEXT")
    (contexts.parent / "context.txt").write_text("prod\n")
    async with roost.connect() as bus:
        status = await bus.status()
        assert (status.source, status.login) == ("nats context prod (selected)", "user ann, password")


async def test_credentials_of_a_context_do_not_go_to_another_address(
    server: ConfiguredServer, contexts: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret_file(contexts / "prod.json", json.dumps({"url": "nats://x", "user": "ann", "password": "hush-pw"}))
    (contexts.parent / "context.txt").write_text("prod")
    with pytest.raises(ConnectError, match="no credentials were given"):
        async with roost.connect(server.url):
            pass
    monkeypatch.setenv("NATS_URL", server.url)
    with pytest.raises(ConnectError, match="no credentials were given"):
        async with roost.connect():
            pass


async def test_environment_gives_address_and_credentials(
    server: ConfiguredServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NATS_URL", f"nats://127.0.0.1:{free_port()}, {server.url}")
    monkeypatch.setenv("NATS_USER", "ann")
    monkeypatch.setenv("NATS_PASSWORD", "hush-pw")
    async with roost.connect() as bus:
        status = await bus.status()
        assert (status.url, status.source) == (server.url, "NATS_URL")


async def test_seeds_are_tried_until_one_answers_and_again_after_a_loss(tmp_path: Path) -> None:
    with configured(tmp_path, LOGIN) as one:
        other_folder = tmp_path / "other"
        other_folder.mkdir()
        with configured(other_folder, LOGIN) as other:
            events: asyncio.Queue[Event] = asyncio.Queue()
            seeds = f"nats://127.0.0.1:{free_port()},{one.url},{other.url}"
            async with roost.connect(seeds, credentials=ANN, watch=events.put_nowait) as bus:
                first = (await bus.status()).url
                (one if first == one.url else other).kill()
                async with asyncio.timeout(10):
                    while (await events.get()).kind != "reconnected":
                        pass
                assert {first, (await bus.status()).url} == {one.url, other.url}


# TLS --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("first", [False, True])
async def test_tls_checks_the_server_and_says_so_in_the_status(first: bool, tmp_path: Path) -> None:
    with configured(tmp_path, LOGIN + SECURE % (", handshake_first: true" if first else "")) as server:
        tls = TLS(ca_file=TLS_FILES / "cert.pem", handshake_first=first)
        async with roost.connect(server.url, credentials=ANN, tls=tls) as bus:
            assert (await bus.status()).tls == "TLSv1.3"


async def test_certificate_for_another_name_or_of_an_unknown_authority_is_refused(tmp_path: Path) -> None:
    with configured(tmp_path, LOGIN + SECURE % "") as server:
        with pytest.raises(ConnectError, match=r"mismatch.*trusted are ca_file"):
            async with roost.connect(f"tls://127.1:{server.port}", credentials=ANN, tls=TRUST):
                pass
        with pytest.raises(ConnectError, match="trusted are this system's certificates"):
            async with roost.connect(server.url, credentials=ANN, tls=TLS()):
                pass


def test_nothing_below_tls_1_2_and_no_other_name_is_accepted() -> None:
    for context in (TRUST.context(), TLS().context(), default_context()):
        assert context.minimum_version == ssl.TLSVersion.TLSv1_2
        assert context.check_hostname
        assert context.verify_mode == ssl.CERT_REQUIRED


async def test_mutual_tls_shows_a_certificate(tmp_path: Path) -> None:
    key = tmp_path / "client.key"
    shutil.copy(TLS_FILES / "key.pem", key)
    verify = f', ca_file: "{TLS_FILES / "cert.pem"}", verify: true'
    with configured(tmp_path, SECURE % verify) as server:
        with pytest.raises(ConnectError, match=r"(?i)certificate.*NATS_CERT"):
            async with roost.connect(server.url, tls=TRUST, connect_timeout_s=2):
                pass
        tls = TLS(ca_file=TLS_FILES / "cert.pem", cert_file=TLS_FILES / "cert.pem", key_file=key)
        key.chmod(0o644)
        with pytest.raises(ConfigError, match=r"key_file .*mode 0644"):
            async with roost.connect(server.url, tls=tls):
                pass
        key.chmod(0o600)
        async with roost.connect(server.url, tls=tls) as bus:
            assert (await bus.status()).login == f"certificate from {TLS_FILES / 'cert.pem'}"


async def test_certificates_are_read_again_when_the_client_reconnects(tmp_path: Path) -> None:
    trusted = tmp_path / "ca.pem"
    shutil.copy(TLS_FILES / "cert.pem", trusted)
    events: asyncio.Queue[Event] = asyncio.Queue()

    async def told(kind: str, text: str = "") -> None:
        async with asyncio.timeout(10):
            while (event := await events.get()).kind != kind or text not in event.reason:
                pass

    with configured(tmp_path, LOGIN + SECURE % "") as server:
        tls = TLS(ca_file=trusted)
        async with roost.connect(server.url, credentials=ANN, tls=tls, watch=events.put_nowait) as bus:
            trusted.write_text("")
            await bus.link.client.force_reconnect()
            await told("reconnect_failed", "ca_file")
            shutil.copy(TLS_FILES / "cert.pem", trusted)
            await told("reconnected")


async def test_encryption_that_begins_on_one_side_only_is_explained(tmp_path: Path) -> None:
    with configured(tmp_path, LOGIN) as server:
        tls = TLS(ca_file=TLS_FILES / "cert.pem", handshake_first=True)
        with pytest.raises(ConnectError, match="do without handshake_first"):
            async with roost.connect(server.url, credentials=ANN, tls=tls):
                pass
    with configured(tmp_path, LOGIN + SECURE % ", handshake_first: true, timeout: 0.3") as server:
        for patience_s in (0.2, 0.6):  # the server hangs up in between
            with pytest.raises(
                ConnectError, match=r"handshake_first needs that .* ROOST_TLS_FIRST=1"
            ) as failed:
                async with roost.connect(
                    server.url, credentials=ANN, tls=TRUST, connect_timeout_s=patience_s
                ):
                    pass
            assert ("without a word" in str(failed.value)) == (patience_s > 0.3)
            assert "wants a certificate" not in str(failed.value)


async def test_a_server_that_is_down_is_not_said_to_want_a_certificate() -> None:
    """Bug: so it was for every tls:// address."""
    with pytest.raises(ConnectError, match="Connect call failed") as failed:
        async with roost.connect(f"tls://127.0.0.1:{free_port()}", tls=TRUST, connect_timeout_s=0.2):
            pass
    assert "certificate" not in str(failed.value)


def test_a_certificate_without_its_key_is_said_to_lack_it(tmp_path: Path) -> None:
    """Bug: it was said to be a secret that others can read, which is to be replaced."""
    public = tmp_path / "ann.crt"
    shutil.copy(TLS_FILES / "cert.pem", public)
    public.chmod(0o644)
    with pytest.raises(ConfigError, match=r"cert_file .*ann\.crt' has no private key in it.*NATS_KEY"):
        TLS(cert_file=public).context()


# Beyond this machine ----------------------------------------------------------------------------


@pytest.mark.usefixtures("not_loopback")
async def test_plaintext_beyond_loopback_is_refused_unless_said(
    server: ConfiguredServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ConnectError, match=r"did not offer TLS and is not on this machine.*ROOST_INSECURE=1"):
        async with roost.connect(server.url, credentials=ANN):
            pass
    async with roost.connect(server.url, credentials=ANN, insecure=True) as bus:
        assert (await bus.status()).tls == ""
    monkeypatch.setenv("ROOST_INSECURE", "1")
    async with roost.connect(server.url, credentials=ANN):
        pass


@pytest.mark.usefixtures("not_loopback")
async def test_tls_that_the_server_offers_is_used_beyond_loopback_without_being_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with configured(tmp_path, LOGIN + "allow_non_tls: true\n" + SECURE % "") as server:
        monkeypatch.setenv("SSL_CERT_FILE", str(TLS_FILES / "cert.pem"))
        async with roost.connect(server.url, credentials=ANN) as bus:
            assert (await bus.status()).tls == "TLSv1.3"


@pytest.mark.usefixtures("not_loopback")
async def test_nobody_goes_beyond_loopback_without_a_login_unless_said(tmp_path: Path) -> None:
    with configured(tmp_path, SECURE % "") as server:
        with pytest.raises(ConnectError, match=r"without authentication only a server on this machine"):
            async with roost.connect(server.url, tls=TRUST):
                pass
        async with roost.connect(server.url, tls=TRUST, insecure=True) as bus:
            await bus.status()


@pytest.mark.parametrize("address", ["127.0.0.1", "127.9.9.9", "::1", "::ffff:127.0.0.1"])
def test_loopback_is_known(address: str) -> None:
    assert is_loopback(address)


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "0.0.0.0", "::", "::ffff:10.0.0.1", "fe80::1%eth0", "localhost", ""]
)
def test_anything_else_is_not(address: str) -> None:
    assert not is_loopback(address)


# Private inboxes --------------------------------------------------------------------------------

ask = Endpoint("ask", str, str)
INBOXES = """
authorization { users: [
  { user: ann, password: pw, permissions: { subscribe: ["_INBOX_ann.>", "roost.>", "$SRV.>"] } }
  { user: eve, password: pw, permissions: { subscribe: ["_INBOX_eve.>"] } }
] }
"""


async def test_private_inbox_is_enough_to_work_and_closed_to_others(tmp_path: Path) -> None:
    agent = Agent("echo")

    @agent.handles(ask)
    async def echo(text: str) -> str:
        return text

    ann = Credentials(user="ann", password="pw")
    with configured(tmp_path, INBOXES) as server:
        async with roost.connect(server.url, credentials=ann) as bus:
            with pytest.raises(PermissionDenied):
                await bus.request(ask, "x")
        connected = roost.connect(server.url, credentials=ann, inbox_prefix="_INBOX_ann")
        async with connected as bus, bus.serving(agent):
            assert await bus.request(ask, "x") == "x"
        eve = roost.connect(server.url, credentials=Credentials(user="eve", password="pw"))
        async with eve as bus:
            denied = bus.link.client.listen("_INBOX_ann.>", lambda message: None)
            await bus.link.client.flush()
            assert denied.denied


# Status and events ------------------------------------------------------------------------------


async def test_status_tells_of_server_jetstream_and_round_trip(tmp_path: Path) -> None:
    config = 'server_name: "<b>nest</b>"\n' + LOGIN
    with configured(tmp_path, config) as server:
        async with roost.connect(server.url, credentials=ANN, namespace="farm") as bus:
            status = await bus.status()
            assert status.server == "<b>nest</b>"
            assert status.version.startswith("2.")
            assert status.cluster == ""
            assert status.jetstream is not None
            assert status.jetstream.streams == 0
            assert status.jetstream.storage_limit_bytes == -1
            assert 0 < status.rtt_s < 5
            card = str(status)
            for part in (server.url, "the url given", "0 streams", "no limit", "ms", "in clear", "farm"):
                assert part in card
            assert "<b>nest" not in status._repr_html_()
            assert "&lt;b&gt;nest" in status._repr_html_()


async def test_status_without_jetstream_or_the_right_to_ask_says_which(tmp_path: Path) -> None:
    denied = """authorization { users: [
      { user: ann, password: hush-pw, permissions: { publish: { deny: "$JS.API.INFO" } } }] }\n"""
    with configured(tmp_path, denied) as server:
        async with roost.connect(server.url, credentials=ANN) as bus:
            assert "may not ask" in str(await bus.status())
    accounts = "accounts { plain { users: [{ user: ann, password: hush-pw }] } }\n"
    with configured(tmp_path, accounts) as server:
        async with roost.connect(server.url, credentials=ANN) as bus:
            status = await bus.status()
            assert status.jetstream is None
            assert "none" in status.jetstream_note


async def test_program_hears_of_the_whole_life_of_its_connection(tmp_path: Path) -> None:
    config = """authorization { users: [
      { user: ann, password: hush-pw, permissions: { subscribe: { deny: "secret" } } }] }\n"""
    kinds: list[str] = []
    more = asyncio.Event()

    def watch(event: Event) -> None:
        kinds.append(event.kind)
        more.set()

    async def until(kind: str) -> None:
        async with asyncio.timeout(10):
            while kind not in kinds:
                more.clear()
                await more.wait()

    with configured(tmp_path, config) as server:
        async with roost.connect(server.url, credentials=ANN, watch=watch) as bus:
            assert kinds == ["connected"]
            bus.link.client.listen("secret", lambda message: None)
            await until("permission_denied")
            server.kill()
            await until("connection_lost")
            await until("reconnect_failed")
            server.start()
            await until("reconnected")
        assert kinds[-1] == "closed"
        assert bus.counters["closed"] == 1


async def test_connection_that_was_never_made_is_not_told_to_be_closed() -> None:
    kinds: list[str] = []
    with pytest.raises(ConnectError):
        async with roost.connect(
            f"nats://127.0.0.1:{free_port()}",
            connect_timeout_s=0.2,
            watch=lambda event: kinds.append(event.kind),
        ):
            pass
    assert "closed" not in kinds
