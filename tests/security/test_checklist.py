"""The lines of the security checklist that no other suite has a test for; README.md says where the others are."""

from __future__ import annotations

import contextlib
import json
import os
import re
import socket
import tomllib
from pathlib import Path

import pytest
from pydantic import BaseModel

import roost
from roost import Agent
from roost.server import LocalServer
from roost.server.production import production_config
from roost.tasks.records import Subjects

ROOT = Path(__file__).parents[2]


class Text(BaseModel):
    text: str = ""


asked = roost.Endpoint("asked", Text, Text)
done = roost.Task("done", Text, Text, retry=roost.Retry(attempts=1))


async def fails(value: Text) -> Text:
    raise ValueError(f"\x1b[31mwhat {value.text} said\nERROR forged line")


async def test_12_a_log_has_the_size_that_its_administrator_gives_it_and_refuses_beyond(
    nats_url: str, namespace: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        await bus.log.ensure()
        info = await bus.log._stream_info()
        assert info["config"]["discard"] == "new"
        await bus.log.link.jetstream.call(
            f"STREAM.UPDATE.{bus.log.stream}", info["config"] | {"max_bytes": 4096}
        )
        with pytest.raises(roost.StoreFull):
            await bus.submit_many(done, [Text(text="x" * 1000)] * 10)


async def test_13_a_peer_hears_what_failed_and_no_traceback(nats_url: str, namespace: str) -> None:
    agent = Agent("failing")
    agent.handles(asked)(fails)
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        answer = await bus.link.requests.ask(f"{namespace}.endpoint.asked", b'{"text":"ann"}', timeout_s=5)
        told = answer.head.decode() + answer.data.decode()
        assert json.loads(answer.data)["code"] == "failed"
        assert "what ann said" in told
        for inner in ("Traceback", __file__, "fails", ".py", "\x1b"):
            assert inner not in told


async def test_13_a_record_has_the_error_and_no_traceback(nats_url: str, namespace: str) -> None:
    agent = Agent("failing")
    agent.handles(done)(fails)
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        handle = await bus.submit(done, Text(text="ann"))
        assert isinstance(await handle.outcome(timeout_s=10), roost.Dead)
        records = await bus.log.read_all(Subjects(namespace).run("*"))
        told = "".join(one.data.decode() for one in records)
        assert "what ann said" in told
        for inner in ("Traceback", __file__, ".py"):
            assert inner not in told


async def test_13_an_error_forges_no_line_of_a_log(
    nats_url: str, namespace: str, caplog: pytest.LogCaptureFixture
) -> None:
    agent = Agent("failing")
    agent.handles(asked)(fails)
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        with pytest.raises(roost.RemoteError) as error:
            await bus.request(asked, Text(text="ann"))
    assert "\n" not in str(error.value)
    assert "\x1b" not in str(error.value)
    told = [one.getMessage() for one in caplog.records]
    assert any("what ann said" in line for line in told)
    assert not any("\x1b" in line or "\n" in line for line in told)


def test_14_a_local_server_listens_on_loopback_only_and_tells_nothing_over_http(
    own_server: LocalServer,
) -> None:
    pid = own_server.pid
    assert pid is not None
    places = set()
    for number in os.listdir(f"/proc/{pid}/fd"):
        with contextlib.suppress(FileNotFoundError):  # a file that it has just closed
            places.add(os.readlink(f"/proc/{pid}/fd/{number}"))
    listening = []
    for table in ("tcp", "tcp6"):
        for line in Path(f"/proc/{pid}/net/{table}").read_text().splitlines()[1:]:
            words = line.split()
            if words[3] == "0A" and f"socket:[{words[9]}]" in places:
                listening.append((table, words[1]))
    port = int(own_server.url.rpartition(":")[2])
    loopback = socket.inet_aton("127.0.0.1")[::-1].hex().upper()
    assert listening == [("tcp", f"{loopback}:{port:04X}")]


def test_15_the_client_library_is_pinned() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    core = {re.split(r"[~><=\[]", one)[0]: one for one in project["dependencies"]}
    assert core["nats-py"].startswith("nats-py~=2.")
    assert set(core) <= {"nats-py", "pydantic", "typing-extensions"}


@pytest.mark.parametrize(
    "line",
    [
        "sync_interval: always",
        "max_payload: 1MB",
        "max_connections: 10000",
        'write_deadline: "10s"',
        'http: "127.0.0.1:8222"',
        "feature_flags { js_ack_fc_v2: false }",
        'min_version: "1.2"',
        "handshake_first: true",
        "system_account: SYSTEM",
        "password: $ROOST_NATS_PASSWORD",
    ],
)
def test_16_the_production_configuration_is_strict(line: str) -> None:
    lines = [one.partition("#")[0].strip() for one in production_config().splitlines()]
    assert any(line in one for one in lines)
