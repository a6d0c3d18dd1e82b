"""Every way to log in, on a real server; secrets that rotate, expire, or lie about in the wrong place."""

from __future__ import annotations

import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from login_kit import Identity, Operator, configured, secret_file

import roost
from roost import ConfigError, ConnectError, Credentials, Event, NotConnected, Topic

PASSWORD = "authorization { users: [{ user: ann, password: '%s' }] }\n"
news = Topic("news", str)
SHOP = """
from roost import Agent, Topic
clerk = Agent("clerk")
@clerk.handles(Topic("news", str))
async def read(text: str) -> None: ...
"""


class Watched:
    """Events, and a way to wait for one."""

    def __init__(self) -> None:
        self.all: list[Event] = []
        self._more = asyncio.Event()

    def __call__(self, event: Event) -> None:
        self.all.append(event)
        self._more.set()

    async def wait(self, kind: str, text: str = "", *, within_s: float = 10.0) -> str:
        async with asyncio.timeout(within_s):
            while True:
                for event in self.all:
                    if event.kind == kind and text in event.reason:
                        return event.reason
                self._more.clear()
                await self._more.wait()


@pytest.mark.parametrize("odd", ["plain", "p@ss/w:rd#%?,&=+", "ünï kö"])
async def test_user_and_password_reach_the_server_as_they_are(odd: str, tmp_path: Path) -> None:
    with configured(tmp_path, PASSWORD % odd) as server:
        async with roost.connect(server.url, credentials=Credentials(user="ann", password=odd)) as bus:
            assert (await bus.status()).login == "user ann, password"


@pytest.mark.parametrize(
    ("password", "written"), [("p@ss/#w:d", "p@ss/#w:d"), ("a,b c%40", "a%2Cb%20c%2540")]
)
async def test_password_in_the_url_may_hold_odd_characters(
    password: str, written: str, tmp_path: Path
) -> None:
    with configured(tmp_path, PASSWORD % password) as server:
        async with roost.connect(f"nats://ann:{written}@127.0.0.1:{server.port}") as bus:
            status = await bus.status()
            assert status.url == f"nats://***@127.0.0.1:{server.port}"
            assert status.login == "user or token of the URL"


async def test_token_works_from_text_file_and_url(tmp_path: Path) -> None:
    file = secret_file(tmp_path / "token", "tok-en\n")
    with configured(tmp_path, "authorization { token: tok-en }\n") as server:
        for credentials in (Credentials(token="tok-en"), Credentials(token_file=file)):
            async with roost.connect(server.url, credentials=credentials) as bus:
                await bus.link.client.flush()
        async with roost.connect(f"nats://tok-en@127.0.0.1:{server.port}") as bus:
            await bus.link.client.flush()


async def test_nkey_and_creds_answer_the_challenge(tmp_path: Path) -> None:
    me = Identity()
    with configured(tmp_path, f"authorization {{ users: [{{ nkey: {me.public} }}] }}\n") as server:
        file = secret_file(tmp_path / "seed.nk", me.seed + "\n")
        for credentials in (Credentials(nkey=me.seed), Credentials(nkey_file=file)):
            async with roost.connect(server.url, credentials=credentials) as bus:
                assert "nkey" in (await bus.status()).login
    operator = Operator()
    with configured(tmp_path, operator.config) as server:
        text = operator.creds(lasts_s=600)
        file = secret_file(tmp_path / "ann.creds", text)
        for credentials in (Credentials(creds=text), Credentials(creds_file=file)):
            async with roost.connect(server.url, credentials=credentials) as bus:
                status = await bus.status()
                assert status.expires_s is not None
                assert 500 < status.expires_s - time.time() < 601
                assert status.login.startswith("creds")


async def test_refused_credentials_are_named_but_not_shown(tmp_path: Path) -> None:
    file = secret_file(tmp_path / "pw", "wrong-secret")
    with configured(tmp_path, PASSWORD % "right") as server:
        credentials = Credentials(user="ann", password_file=file)
        with pytest.raises(ConnectError, match=f"Authorization Violation; user ann, password from {file}"):
            async with roost.connect(server.url, credentials=credentials):
                pass
        with pytest.raises(ConnectError, match="no credentials were given"):
            async with roost.connect(server.url):
                pass


Rotation = tuple[str, str, str, str, Callable[[Path], Credentials]]


def rotations() -> dict[str, Rotation]:
    """Server configuration and file before and after, and what reads the file."""
    old, new = Identity(), Identity()
    nkey = "authorization {{ users: [{{ nkey: {} }}] }}\n"
    return {
        "password": (
            *(PASSWORD % "old-pw", PASSWORD % "new-pw"),
            *("old-pw", "new-pw"),
            lambda file: Credentials(user="ann", password_file=file),
        ),
        "nkey": (
            *(nkey.format(old.public), nkey.format(new.public)),
            *(old.seed, new.seed),
            lambda file: Credentials(nkey_file=file),
        ),
    }


@pytest.mark.parametrize("kind", ["password", "nkey"])
async def test_rotated_secret_is_read_again_when_the_client_reconnects(kind: str, tmp_path: Path) -> None:
    config, new_config, secret, new_secret, reading = rotations()[kind]
    file = secret_file(tmp_path / "secret", secret)
    watched = Watched()
    with configured(tmp_path, config) as server:
        async with roost.connect(server.url, credentials=reading(file), watch=watched) as bus:
            server.reload(new_config)  # which ends the connection
            refused = await watched.wait("auth_failed", "it is read again at each attempt")
            assert str(file) in refused
            await watched.wait("connection_lost")
            with pytest.raises(NotConnected, match="the server refuses the credentials"):
                await bus.publish(news, "x")
            secret_file(file, new_secret)
            await watched.wait("reconnected")
            await bus.publish(news, "x")
            await bus.link.client.flush()


async def test_credentials_function_is_asked_before_each_connection(tmp_path: Path) -> None:
    given = iter(("old-pw", "new-pw"))
    watched = Watched()
    with configured(tmp_path, PASSWORD % "old-pw") as server:
        kept = {"password": next(given)}

        def fresh() -> Credentials:
            return Credentials(user="ann", password=kept["password"])

        async with roost.connect(server.url, credentials=fresh, watch=watched):
            kept["password"] = next(given)
            server.reload(PASSWORD % "new-pw")
            await watched.wait("reconnected")


async def test_creds_that_expire_are_told_within_10_s_and_replaced_ones_are_used(tmp_path: Path) -> None:
    operator, watched = Operator(), Watched()
    with configured(tmp_path, operator.config) as server:
        file = secret_file(tmp_path / "ann.creds", operator.creds(lasts_s=2.5))
        async with roost.connect(server.url, credentials=Credentials(creds_file=file), watch=watched) as bus:
            expires_s = (await bus.status()).expires_s
            assert expires_s is not None
            told = await watched.wait("auth_failed", "expired at", within_s=expires_s - time.time() + 10)
            assert f"creds from {file} expired at 20" in told
            assert "put a new one in its place; it is read again" in told
            secret_file(file, operator.creds(lasts_s=600))
            await watched.wait("reconnected")
            await bus.link.client.flush()


async def test_creds_that_have_expired_before_are_named_at_the_start(tmp_path: Path) -> None:
    operator = Operator()
    with configured(tmp_path, operator.config) as server:
        file = secret_file(tmp_path / "ann.creds", operator.creds(lasts_s=-60))
        with pytest.raises(ConnectError, match=r"creds from .*ann\.creds expired at 20.* UTC: put a new one"):
            async with roost.connect(server.url, credentials=Credentials(creds_file=file)):
                pass


async def test_file_that_cannot_be_read_any_more_is_told_and_waited_for(tmp_path: Path) -> None:
    watched = Watched()
    file = secret_file(tmp_path / "secret", "old-pw")
    with configured(tmp_path, PASSWORD % "old-pw") as server:
        credentials = Credentials(user="ann", password_file=file)
        async with roost.connect(server.url, credentials=credentials, watch=watched) as bus:
            file.unlink()
            server.kill()
            await watched.wait("connection_lost")
            server.start()
            await watched.wait("reconnect_failed", "No such file")
            with pytest.raises(NotConnected, match="No such file"):
                await bus.publish(news, "x")
            secret_file(file, "old-pw", mode=0o644)
            await watched.wait("reconnect_failed", "chmod 600")
            file.chmod(0o600)
            await watched.wait("reconnected")


@pytest.mark.parametrize("mode", [0o644, 0o604, 0o660, 0o602])
@pytest.mark.parametrize("kind", ["password_file", "token_file", "nkey_file", "creds_file"])
async def test_secret_that_others_can_reach_is_refused(kind: str, mode: int, tmp_path: Path) -> None:
    file = secret_file(tmp_path / "secret", "hush-hush", mode)
    user = {"user": "ann"} if kind == "password_file" else {}
    with pytest.raises(ConfigError, match=rf"{kind} .*secret' has mode {mode:04o}.*chmod 600") as refused:
        async with roost.connect("nats://127.0.0.1:1", credentials=Credentials(**user, **{kind: str(file)})):
            pass
    assert "hush" not in str(refused.value)


def test_files_of_the_owner_and_of_a_group_of_trust_pass(tmp_path: Path) -> None:
    for mode in (0o600, 0o400, 0o640, 0o440):
        assert Credentials(token_file=secret_file(tmp_path / "t", "tok", mode)).read().token == "tok"


@pytest.mark.parametrize("text", ["", "   \n", "SUAB", "x" * 70_000, "-----BEGIN NATS USER JWT-----", "\0"])
@pytest.mark.parametrize("kind", ["nkey", "creds"])
def test_broken_secret_file_is_an_error_that_names_it_and_shows_nothing(
    kind: str, text: str, tmp_path: Path
) -> None:
    file = secret_file(tmp_path / "broken", text)
    credentials = Credentials(nkey_file=file) if kind == "nkey" else Credentials(creds_file=file)
    with pytest.raises(ConfigError, match="broken") as refused:
        credentials.read()
    assert "SUAB" not in str(refused.value)


async def test_seed_with_a_wrong_checksum_is_an_error_without_the_seed(tmp_path: Path) -> None:
    me = Identity()
    wrong = me.seed[:-2] + ("AA" if not me.seed.endswith("AA") else "BB")
    with configured(tmp_path, f"authorization {{ users: [{{ nkey: {me.public} }}] }}\n") as server:
        with pytest.raises(ConfigError, match="cut or mistyped") as refused:
            async with roost.connect(server.url, credentials=Credentials(nkey=wrong)):
                pass
    assert wrong[:20] not in str(refused.getrepr(style="long"))  # nor in the traceback


async def test_no_secret_is_seen_anywhere(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In repr, str, errors, log lines, events, the list of processes: right and wrong, working and refused."""
    caplog.set_level(logging.DEBUG)
    seen: list[str] = []
    me, operator = Identity(), Operator()
    creds = operator.creds(lasts_s=600)
    files = {
        "password": secret_file(tmp_path / "password", "hush-password"),
        "token": secret_file(tmp_path / "token", "hush-token"),
        "nkey": secret_file(tmp_path / "nkey", me.seed),
        "creds": secret_file(tmp_path / "creds", creds),
    }
    every = [
        Credentials(user="ann", password="hush-password"),
        Credentials(user="ann", password_file=files["password"]),
        Credentials(token="hush-token"),
        Credentials(token_file=files["token"]),
        Credentials(nkey=me.seed),
        Credentials(nkey_file=files["nkey"]),
        Credentials(creds=creds),
        Credentials(creds_file=files["creds"]),
    ]

    def note(event: Event) -> None:
        seen.append(repr(event))

    with configured(tmp_path, PASSWORD % "hush-password") as server:
        in_url = f"nats://ann:hush-password@127.0.0.1:{server.port}"
        wrong = in_url.replace("hush-password", "hush/#wrong")
        for url, credentials in [(in_url, None), (wrong, None), *((server.url, one) for one in every)]:
            seen += [repr(credentials), str(credentials)]
            if credentials is not None:
                seen.append(repr(credentials.read()))
            try:
                async with roost.connect(url, credentials=credentials, watch=note) as bus:
                    seen += [repr(bus.settings), str(bus.settings), repr(bus), repr(bus.link.client)]
                    status = await bus.status()
                    seen += [repr(status), str(status), status._repr_html_()]
                    await bus.link.client.force_reconnect()
            except ConnectError as error:
                seen += [repr(error), str(error), repr(error.__dict__)]
        for broken in ("nats://ann:hush-broken", "nats://ann:hush,broken@host", "x://hush-broken@host"):
            with pytest.raises(ConfigError) as refused:
                async with roost.connect(broken):
                    pass
            seen += [str(refused.value), repr(refused.value.__context__)]
        monkeypatch.setenv("NATS_URL", in_url)
        seen.append(await listed_while_agents_run(tmp_path))
    text = "\n".join([*seen, caplog.text])
    jwt = creds.splitlines()[1]
    for secret in ("hush", "broken", me.seed, me.seed[:20], jwt, jwt[:60], creds.splitlines()[7]):
        assert secret not in text, secret
    assert "Authorization Violation" in text


async def listed_while_agents_run(folder: Path) -> str:
    """The list of processes while `roost up` runs an agent, and what that printed."""
    (folder / "shop.py").write_text(SHOP)
    program = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "roost.cli.main", "up", "shop:clerk"),
        cwd=folder,
        stderr=asyncio.subprocess.PIPE,
    )
    assert program.stderr is not None
    said = b""
    try:
        async with asyncio.timeout(20):
            while b"is ready" not in said:
                line = await program.stderr.readline()
                assert line, said
                said += line
        listed = await asyncio.to_thread(
            subprocess.run, ["ps", "-eww", "-o", "args"], capture_output=True, text=True, check=True
        )
    finally:
        program.terminate()
        said += await program.stderr.read()
        await program.wait()
    assert "roost.runtime.process shop:clerk" in listed.stdout
    return listed.stdout + said.decode()
