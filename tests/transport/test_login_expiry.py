"""A login that is about to expire is told of in time, once, and not when a later one has taken its place."""

from __future__ import annotations

import asyncio
import json
import logging
from pathlib import Path

import pytest
from login_kit import Operator, configured, secret_file
from typer.testing import CliRunner

import roost
from roost import Credentials, Event
from roost.cli.app import app
from roost.settings import Settings
from roost.transport.login import Login


class Heard:
    """Events of a few kinds, and a way to wait for the next."""

    def __init__(self, *kinds: str) -> None:
        self._kinds = kinds
        self._queue: asyncio.Queue[Event] = asyncio.Queue()

    def __call__(self, event: Event) -> None:
        if event.kind in self._kinds:
            self._queue.put_nowait(event)

    async def next(self) -> Event:
        async with asyncio.timeout(10):
            return await self._queue.get()


async def test_a_login_in_its_last_tenth_is_told_of_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    operator, heard = Operator(), Heard("login_expires_soon", "reconnected")
    with configured(tmp_path, operator.config) as server:
        file = secret_file(tmp_path / "ann.creds", operator.creds(age_s=1000, lasts_s=60))
        async with roost.connect(server.url, credentials=Credentials(creds_file=file), watch=heard) as bus:
            told = await heard.next()
            assert told.kind == "login_expires_soon"
            assert told.reason.startswith(f"creds from {file} expires at 20")
            assert "put a new one in its place" in told.reason
            await bus.link.client.force_reconnect()
            assert (await heard.next()).kind == "reconnected"
            assert bus.counters["login_expires_soon"] == 1
    [line] = [one for one in caplog.records if "login_expires_soon" in one.getMessage()]
    assert line.levelno == logging.WARNING


async def test_it_is_noticed_while_the_connection_is_there(tmp_path: Path) -> None:
    operator, heard = Operator(), Heard("login_expires_soon")
    with configured(tmp_path, operator.config) as server:
        file = secret_file(tmp_path / "ann.creds", operator.creds(age_s=100, lasts_s=13))
        async with roost.connect(server.url, credentials=Credentials(creds_file=file), watch=heard) as bus:
            assert bus.counters["login_expires_soon"] == 0
            bus.link.client.ping_interval_s = 0.05
            bus.link.client._ping()
            await heard.next()


def about_to_expire(file: Path, operator: Operator) -> Login:
    secret_file(file, operator.creds(age_s=1000, lasts_s=60))
    login = Login(
        Settings(servers=("nats://127.0.0.1:4222",), credentials=Credentials(creds_file=file), insecure=True)
    )
    login.check()
    return login


def test_one_that_has_been_replaced_is_not_told_of(tmp_path: Path) -> None:
    operator, file = Operator(), tmp_path / "ann.creds"
    login = about_to_expire(file, operator)
    secret_file(file, operator.creds(lasts_s=600))
    assert login.expires_soon() == ""
    login = about_to_expire(file, operator)
    file.unlink()
    assert "expires at 20" in login.expires_soon()
    assert login.expires_soon() == ""


@pytest.mark.parametrize(("age_s", "lasts_s", "soon"), [(0, None, False), (0, 600, False), (9000, 900, True)])
def test_only_the_last_tenth_of_its_life_is_soon(
    age_s: float, lasts_s: float | None, soon: bool, tmp_path: Path
) -> None:
    file = secret_file(tmp_path / "ann.creds", Operator().creds(age_s=age_s, lasts_s=lasts_s))
    login = Login(Settings(servers=("nats://127.0.0.1",), credentials=Credentials(creds_file=file)))
    login.check()
    assert bool(login.expires_soon()) is soon


def test_roost_status_shows_when_it_expires(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    operator = Operator()
    with configured(tmp_path, operator.config) as server:
        file = secret_file(tmp_path / "ann.creds", operator.creds(lasts_s=600))
        monkeypatch.setenv("NATS_URL", server.url)
        monkeypatch.setenv("NATS_CREDS", str(file))
        shown = CliRunner().invoke(app, ["status"])
        assert f"creds from {file}, expires 20" in shown.stdout, shown.output
        shown = CliRunner().invoke(app, ["status", "--json"])
        assert json.loads(shown.stdout)["expires"].startswith("20")
