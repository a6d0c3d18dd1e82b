"""What a profile promises is what the server does; the production configuration starts as it is printed."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path

import nats
import nats.aio.client
import nats.errors
import pytest
from typer.testing import CliRunner

import roost
from roost.cli.app import app
from roost.errors import ConfigError, ConnectError
from roost.server import LocalServer, find_server
from roost.server._ports import choose_ports
from roost.server.production import ProductionOptions, production_config
from roost.server.profiles import PROFILES, options_for
from roost.tasks.reading import attach

ROOST = Path(sys.executable).with_name("roost")
MAKE_CERTIFICATES = Path(__file__).parents[2] / "deploy" / "make-certificates.sh"
PASSWORDS = {"ROOST_NATS_PASSWORD": "pfirst", "ROOST_NATS_SYSTEM_PASSWORD": "psecond"}


def varz(server: LocalServer) -> dict[str, object]:
    found = re.search(r"http monitor on (127\.0\.0\.1:\d+)", "\n".join(server.log_tail(100)))
    assert found
    with urllib.request.urlopen(f"http://{found[1]}/jsz", timeout=5) as answer:
        config: dict[str, object] = json.load(answer)["config"]
    return config


@pytest.mark.parametrize(("profile", "always"), [("dev", False), ("durable", True)])
def test_a_profile_decides_whether_a_write_reaches_the_disk_first(
    profile: str, always: bool, tmp_path: Path
) -> None:
    options = replace(options_for(profile, store_dir=tmp_path), extra_config="http: 127.0.0.1:-1")
    with LocalServer(options) as server:
        assert bool(varz(server).get("sync_always")) == always
        assert server.store_dir == tmp_path


def test_a_durable_server_wants_a_place_for_its_store() -> None:
    with pytest.raises(ConfigError, match="the profile durable needs a store that stays"):
        options_for("durable", store_dir=None)
    with pytest.raises(ConfigError, match="profile = 'fast': there are dev and durable"):
        options_for("fast", store_dir=None)


def test_on_the_command_line_a_profile_says_what_it_promises_and_costs(tmp_path: Path) -> None:
    with subprocess.Popen(
        [ROOST, "server", "--port", "0", "--profile", "durable", "--store", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        try:
            said = [process.stdout.readline() for _ in range(3)]
        finally:
            process.terminate()
    assert f"store {tmp_path} (kept)" in said[1]
    assert said[2] == f"profile durable: {PROFILES['durable'].single}\n"


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--profile", "durable"], "needs a store that stays"),
        (["--profile", "fast"], "there are dev and durable"),
        (["--cluster", "2"], "a cluster has 3 or 5 servers"),
        (["config", "--store", "here"], "an absolute path is needed"),
        (["config", "--listen", "4222"], "HOST:PORT is needed"),
        (["config", "--max-store", "much"], "a size is needed"),
        (["config", "--name", "a b"], "letters, digits"),
        (["config", "--route", 'x"]:6222'], "HOST:PORT is needed"),
        (["config", "--permissions", "/etc/nats/users.conf"], "begins in the folder of the configuration"),
        (["config", "--permissions", 'a"b'], "without quotes"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_is_started(arguments: list[str], complaint: str) -> None:
    refused = CliRunner().invoke(app, ["server", *arguments])
    assert refused.exit_code == 2
    assert complaint in " ".join(refused.stderr.split())
    assert refused.stdout == ""


# --- production -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls") / "tls"
    subprocess.run([MAKE_CERTIFICATES, folder, "localhost", "127.0.0.1"], check=True)
    return folder


def printed(*arguments: str, certificates: Path, store: Path) -> str:
    """What the command prints, with the paths that differ from one machine to the next."""
    named = {"cert": "tls.crt", "key": "tls.key", "ca": "ca.crt"}
    paths = [word for option, file in named.items() for word in (f"--{option}", str(certificates / file))]
    done = CliRunner().invoke(app, ["server", "config", *paths, "--store", str(store), *arguments])
    assert done.exit_code == 0, done.output
    return done.stdout


@contextmanager
def started(file: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """nats-server on a configuration as it is, until it says that it is ready."""
    with subprocess.Popen(
        [find_server(), "-c", file, *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **PASSWORDS},
    ) as process:
        assert process.stderr is not None
        try:
            said = ""
            for line in process.stderr:
                said += line
                if "Server is ready" in line:
                    break
            else:
                pytest.fail(said)
            yield process
        finally:
            process.terminate()
            process.stderr.read()


def trusted(certificates: Path) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=str(certificates / "ca.crt"))


async def quiet(error: Exception) -> None:
    """The refusals are expected."""


async def client_of(
    port: int, certificates: Path, user: str = "roost", password: str = "pfirst"
) -> nats.aio.client.Client:
    return await nats.connect(
        f"tls://localhost:{port}",
        tls=trusted(certificates),
        tls_handshake_first=True,
        user=user,
        password=password,
        allow_reconnect=False,
        error_cb=quiet,
    )


@pytest.fixture
def production(certificates: Path, tmp_path: Path) -> Iterator[int]:
    """The port of a server that runs on a configuration as it was printed."""
    port, http = choose_ports(2, host="127.0.0.1")
    file = tmp_path / "nats-server.conf"
    addresses = ("--listen", f"127.0.0.1:{port}", "--monitor", f"127.0.0.1:{http}")
    file.write_text(printed(*addresses, certificates=certificates, store=tmp_path / "store"))
    with started(file):
        with urllib.request.urlopen(f"http://127.0.0.1:{http}/jsz", timeout=5) as answer:
            assert json.load(answer)["config"]["sync_always"] is True
        yield port


def test_the_printed_configuration_is_accepted_and_has_no_password(
    certificates: Path, tmp_path: Path
) -> None:
    file = tmp_path / "nats-server.conf"
    text = printed(certificates=certificates, store=tmp_path / "store")
    file.write_text(text)
    environment = {key: value for key, value in os.environ.items() if key not in PASSWORDS}
    check = [str(find_server()), "-t", "-c", str(file)]
    accepted = subprocess.run(check, env={**environment, **PASSWORDS}, capture_output=True, text=True)
    assert "is valid" in accepted.stderr
    assert re.findall(r"password: *(\S+)", text) == ["$ROOST_NATS_PASSWORD", "$ROOST_NATS_SYSTEM_PASSWORD"]
    refused = subprocess.run(check, env=environment, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "ROOST_NATS_PASSWORD" in refused.stderr


async def test_a_server_on_it_takes_the_user_with_the_password_over_tls(
    production: int, certificates: Path
) -> None:
    client = await client_of(production, certificates)
    assert client._server_info["max_payload"] == 1024 * 1024
    await client.jetstream().add_stream(name="S", subjects=["s.>"])
    assert (await client.jetstream().publish("s.a", b"x")).seq == 1
    await client.close()
    for user, password in (("roost", "psecond"), ("roost", ""), ("", "")):
        with pytest.raises(nats.errors.Error, match="Authorization Violation"):
            await client_of(production, certificates, user, password)


async def test_the_system_user_sees_no_stream_of_the_agents(production: int, certificates: Path) -> None:
    client = await client_of(production, certificates, "system", "psecond")
    answer = await client.request("$SYS.REQ.SERVER.PING.HEALTHZ", timeout=5)
    assert json.loads(answer.data)["data"]["status"] == "ok"
    with pytest.raises(nats.errors.Error):
        await client.jetstream().add_stream(name="S", subjects=["s.>"])
    await client.close()


def test_it_says_nothing_in_clear(production: int) -> None:
    with socket.create_connection(("127.0.0.1", production), timeout=0.5) as connection:
        with pytest.raises(TimeoutError):
            connection.recv(1)


async def test_an_agent_connects_as_the_environment_says(
    production: int, certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    secret = tmp_path / "password"
    secret.write_text("pfirst\n")
    secret.chmod(0o400)
    monkeypatch.setenv("NATS_URL", f"tls://localhost:{production}")
    monkeypatch.setenv("NATS_USER", "roost")
    monkeypatch.setenv("ROOST_PASSWORD_FILE", str(secret))
    monkeypatch.setenv("ROOST_TLS_FIRST", "1")
    monkeypatch.setenv("NATS_CA", str(certificates / "ca.crt"))
    async with roost.connect() as bus:
        assert bus.namespace == "roost"
        assert "on disk (of 20.0 GB), 0 B in memory (of 256.0 MB)" in str(await bus.status())
    monkeypatch.delenv("NATS_CA")
    with pytest.raises(ConnectError, match=r"(?i)certificate"):
        async with roost.connect():
            pytest.fail("its certificate is signed by nobody that this machine knows")


def test_clients_without_a_certificate_are_refused_on_request(certificates: Path, tmp_path: Path) -> None:
    port, http = choose_ports(2, host="127.0.0.1")
    file = tmp_path / "nats-server.conf"
    addresses = ("--listen", f"127.0.0.1:{port}", "--monitor", f"127.0.0.1:{http}")
    file.write_text(
        printed("--verify-clients", *addresses, certificates=certificates, store=tmp_path / "store")
    )

    async def both() -> None:
        with pytest.raises((ssl.SSLError, OSError, nats.errors.Error)):
            await client_of(port, certificates)
        context = trusted(certificates)
        context.load_cert_chain(certificates / "tls.crt", certificates / "tls.key")
        client = await nats.connect(
            f"tls://localhost:{port}", tls=context, tls_handshake_first=True, user="roost", password="pfirst"
        )
        await client.close()

    with started(file):
        asyncio.run(both())


def test_three_servers_on_it_are_a_cluster(certificates: Path, tmp_path: Path) -> None:
    ports = choose_ports(9, host="127.0.0.1")
    routes = [word for port in ports[3:6] for word in ("--route", f"127.0.0.1:{port}")]

    async def three_copies() -> None:
        client = await client_of(ports[1], certificates)
        streams = client.jetstream(timeout=1)
        async with asyncio.timeout(20):
            while True:
                try:
                    await streams.add_stream(name="S", subjects=["s.>"], num_replicas=3)
                    break
                except (nats.errors.TimeoutError, nats.js.errors.APIError):
                    await asyncio.sleep(0)  # the servers have not found each other yet
        assert (await streams.publish("s.a", b"x")).seq == 1
        await client.close()

    with ExitStack() as servers:
        for n in range(3):
            file = tmp_path / f"n{n}.conf"
            addresses = ("--listen", f"127.0.0.1:{ports[n]}", "--monitor", f"127.0.0.1:{ports[6 + n]}")
            own = ("--name", f"n{n}", "--cluster-listen", f"127.0.0.1:{ports[3 + n]}")
            store = tmp_path / f"store{n}"
            file.write_text(printed(*own, *addresses, *routes, certificates=certificates, store=store))
            servers.enter_context(started(file))
        asyncio.run(three_copies())


def test_a_path_with_quotes_is_still_a_path(certificates: Path, tmp_path: Path) -> None:
    odd = tmp_path / 'a "quoted" \\ folder'
    shutil.copytree(certificates, odd)
    file = tmp_path / "nats-server.conf"
    file.write_text(printed(certificates=odd, store=odd / "store"))
    accepted = subprocess.run(
        [str(find_server()), "-t", "-c", str(file)],
        env={**os.environ, **PASSWORDS},
        capture_output=True,
        text=True,
    )
    assert "is valid" in accepted.stderr


async def test_a_log_stays_when_users_with_permissions_are_included_later(
    certificates: Path, tmp_path: Path
) -> None:
    port, http = choose_ports(2, host="127.0.0.1")
    places = {"certificates": certificates, "store": tmp_path / "store"}
    addresses = ("--listen", f"127.0.0.1:{port}", "--monitor", f"127.0.0.1:{http}")
    file = tmp_path / "nats-server.conf"
    tls = roost.TLS(ca_file=certificates / "ca.crt", handshake_first=True)
    work = roost.Task("work", str, str)

    def bus(user: str) -> AbstractAsyncContextManager[roost.Bus]:
        login = roost.Credentials(user=user, password="pfirst")
        return roost.connect(
            f"tls://localhost:{port}", credentials=login, tls=tls, inbox_prefix=f"_INBOX_{user}"
        )

    file.write_text(printed(*addresses, **places))
    with started(file):
        async with bus("roost") as everything:
            id = (await everything.submit(work, "x", key="kept")).id
    users = CliRunner().invoke(app, ["permissions", "--role", "admin", "--system"])
    assert users.exit_code == 0, users.output
    (tmp_path / "users.conf").write_text(f"ROOST_PASSWORD_ADMIN: pfirst\n{users.stdout}")
    file.write_text(printed("--permissions", "users.conf", *addresses, **places))
    with started(file):
        async with bus("admin") as admin:
            await attach(admin.log)
            assert [one.subject for one in await admin.log.read_all(f"roost.run.{id}.>")] == [
                f"roost.run.{id}.task.work.{id}"
            ]
        system = await client_of(port, certificates, "system", "psecond")
        await system.request("$SYS.REQ.SERVER.PING.HEALTHZ", timeout=5)
        await system.close()


def test_the_account_has_room_for_all_copies() -> None:
    routes = ("a:6222", "b:6222", "c:6222")
    assert "max_file: 20G\n" in production_config()
    assert "max_file: 60G\n" in production_config(ProductionOptions(routes=routes))
