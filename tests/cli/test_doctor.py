"""`roost doctor` as an operator meets it. Commands are called in this process: it is cheaper."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import sys
from pathlib import Path
from typing import Any

import nats
import pytest
from test_status import run
from typer.testing import CliRunner

import roost
from roost.cli import _checks
from roost.cli.app import app
from roost.errors import Difference
from roost.server import LocalServer, ServerOptions
from roost.tasks.provision import consumer_config

digest = roost.Task("digest", str, int)
agent = roost.Agent("digester")


@agent.handles(digest)
async def count(text: str) -> int:
    return len(text)


def told(*arguments: str) -> tuple[int, dict[str, dict[str, str]]]:
    """Exit code and checks by name."""
    answer = CliRunner().invoke(app, ["doctor", *arguments, "--json"])
    assert answer.exception is None or isinstance(answer.exception, SystemExit), answer.exception
    return answer.exit_code, {one["name"]: one for one in json.loads(answer.stdout)}


def monitor_of(server: LocalServer) -> str:
    found = re.search(r"http monitor on (127\.0\.0\.1:\d+)", "\n".join(server.log_tail(100)))
    assert found is not None
    return f"http://{found[1]}"


async def call(url: str, api: str, body: dict[str, Any]) -> dict[str, Any]:
    client = await nats.connect(url.split(","))
    try:
        answer = json.loads(
            (await client.request(f"$JS.API.{api}", json.dumps(body).encode(), timeout=5)).data
        )
        assert "error" not in answer, answer
        return dict(answer)
    finally:
        await client.close()


@pytest.mark.parametrize("always", [False, True])
def test_a_server_that_syncs_lazily_is_warned_of_and_one_that_does_not_is_not(always: bool) -> None:
    with LocalServer(ServerOptions(sync_always=always, extra_config="http: 127.0.0.1:-1")) as server:
        _, found = told("--url", server.url)
        assert found["power cut"]["verdict"] == "unknown", "nobody has said so"
        assert "--monitor" in found["power cut"]["advice"]
        code, found = told("--url", server.url, "--monitor", monitor_of(server))
    power = found["power cut"]
    assert power["verdict"] == ("ok" if always else "warn")
    assert ("syncs every 2 min" in power["found"]) is not always
    assert ("sync_interval: always" in power["advice"]) is not always
    assert code == 0, "a warning is no failure"
    assert found["js_ack_fc_v2"] == {"name": "js_ack_fc_v2", "verdict": "ok", "found": "off", "advice": ""}
    assert found["log"]["verdict"] == "warn"
    assert "nothing has been stored" in found["log"]["found"]


SYSTEM = """
feature_flags { js_ack_fc_v2: true }
accounts {
  SYS { users: [{user: sys, password: p}], exports: [{service: "$SYS.REQ.SERVER.*.VARZ"}] }
  A { jetstream: enabled, users: [{user: a, password: p}],
      imports: [{service: {account: SYS, subject: "$SYS.REQ.SERVER.*.VARZ"}}] }
}
system_account: SYS
no_auth_user: a
"""


def test_a_user_who_may_ask_the_system_account_needs_no_monitor() -> None:
    with LocalServer(ServerOptions(extra_config=SYSTEM)) as server:
        _, found = told("--url", server.url)
    assert found["power cut"]["verdict"] == "warn"
    assert found["js_ack_fc_v2"]["verdict"] == "warn"


def test_work_that_stands_still_is_told_of(nats_url: str, namespace: str, tmp_path: Path) -> None:
    where = ["--url", nats_url, "--namespace", namespace]

    async def prepare() -> None:
        orphan = roost.Task("orphan", str, int)
        async with roost.connect(nats_url, namespace=namespace) as bus:
            async with bus.serving(agent):
                await (await bus.submit(digest, "abc")).result()
            await bus.submit_many(digest, ["a", "b"])
            await bus.submit(orphan, "x")
            await bus.pause(digest, for_s=3600)

    asyncio.run(prepare())
    code, found = told(*where)
    assert code == 1
    assert found["unserved"]["found"] == "tasks wait and no agent serves them: 1 of orphan"
    assert "digest until" in found["paused"]["found"]
    assert found["paused"]["advice"] == "roost tasks resume NAME"
    assert found["dead letters"]["verdict"] == "ok"
    assert found["agents"]["found"].startswith("nobody answers")
    assert (found["retention"]["verdict"], found["room"]["verdict"]) == ("warn", "warn")

    answer = run("doctor", *where, folder=tmp_path, terminal=True, env={"COLUMNS": "80"})
    lines = re.sub(r"\x1b\[[0-9;]*m", "", answer.stdout).replace("\r", "").splitlines()
    assert max(map(len, lines)) <= 80
    assert any(line.startswith("fail     unserved      tasks wait") for line in lines)
    assert re.search(r"\d+ ok, .*1 fail", lines[-1])


def test_what_is_configured_otherwise_is_told_of(nats_url: str, namespace: str) -> None:
    where = ["--url", nats_url, "--namespace", namespace]
    stream = f"ROOST_{namespace}"

    async def spoil() -> None:
        async with roost.connect(nats_url, namespace=namespace) as bus:
            await bus.log.ensure_consumer(digest)
            info = await call(nats_url, f"STREAM.INFO.{stream}", {})
            changes = {"max_bytes": 1_000_000, "max_age": 10**15, "duplicate_window": 10**9}
            await call(nats_url, f"STREAM.UPDATE.{stream}", info["config"] | changes)
            config = consumer_config(bus.log.subjects, "digest", 30) | {"max_deliver": 3}
            body = {"stream_name": stream, "config": config, "action": "update"}
            await call(nats_url, f"CONSUMER.CREATE.{stream}.task_digest.{config['filter_subject']}", body)
            await bus.link.jetstream.publish(f"{namespace}.run.x.note.digest.x.1", b"x" * 850_000)

    asyncio.run(spoil())
    code, found = told(*where)
    assert code == 1
    assert "max_age is 1000000000000000 and not 0" in found["log"]["found"]
    assert "consumer task_digest: max_deliver is 3 and not -1" in found["consumers"]["found"]
    assert found["room"]["verdict"] == "fail"
    assert "85% of 1.0 MB" in found["room"]["found"]


def test_consumers_are_compared_with_the_code_that_is_named(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async def prepare() -> None:
        async with roost.connect(nats_url, namespace=namespace) as bus:
            await bus.log.ensure_consumer(digest)

    asyncio.run(prepare())
    (tmp_path / "farm.py").write_text(
        "import roost\ndigest = roost.Task('digest', str, int, max_running=4)\n"
    )
    where = ["--url", nats_url, "--namespace", namespace]
    answer = run("doctor", "farm:digest", *where, folder=tmp_path)
    assert answer.returncode == 1
    assert "consumer task_digest: max_ack_pending is 20000 and not 4" in answer.stdout
    assert all(len(line.split("\t")) == 4 for line in answer.stdout.splitlines())


def test_an_agent_that_is_frozen_is_told_of(nats_url: str, namespace: str, tmp_path: Path) -> None:
    where = ["--url", nats_url, "--namespace", namespace]
    (tmp_path / "frozen.py").write_text(
        "import asyncio, roost, sys\n"
        "agent = roost.Agent('sleeper')\n"
        "@agent.handles(roost.Endpoint('hello', str, str))\n"
        "async def hello(text: str) -> str: return text\n"
        "async def main():\n"
        "    async with roost.connect(sys.argv[1], namespace=sys.argv[2]) as bus, bus.serving(agent):\n"
        "        print('ready', flush=True)\n"
        "        await asyncio.Event().wait()\n"
        "asyncio.run(main())\n"
    )

    async def freeze() -> tuple[int, dict[str, dict[str, str]]]:
        async with roost.connect(nats_url, namespace=namespace) as bus:
            await bus.log.ensure()
        process = await asyncio.create_subprocess_exec(
            sys.executable, str(tmp_path / "frozen.py"), nats_url, namespace, stdout=-1
        )
        try:
            assert process.stdout is not None
            await process.stdout.readline()
            process.send_signal(signal.SIGSTOP)
            listed = await asyncio.to_thread(CliRunner().invoke, app, ["agents", *where])
            assert listed.stderr.startswith("no agent answers\n1 connected and silent"), listed.stderr
            assert "sleeper-" in listed.stderr
            return await asyncio.to_thread(told, *where)
        finally:
            process.kill()
            await process.wait()

    _, found = asyncio.run(freeze())
    assert found["agents"]["verdict"] == "warn"
    assert "connected and silent: sleeper-" in found["agents"]["found"]


def test_without_a_server_there_is_one_line_and_it_says_what_to_do() -> None:
    code, found = told("--url", "nats://127.0.0.1:1", "--timeout", "0.3")
    assert code == 1
    assert list(found) == ["server"]
    assert "cannot connect to nats://127.0.0.1:1" in found["server"]["found"]


def test_without_jetstream_it_says_so() -> None:
    with LocalServer(
        ServerOptions(extra_config="accounts { A { users: [{user: a, password: p}] } }\nno_auth_user: a")
    ) as server:
        code, found = told("--url", server.url)
    assert code == 1
    assert found["JetStream"]["verdict"] == "fail"
    assert "log" not in found


@pytest.mark.parametrize(
    ("check", "verdict"),
    [
        (_checks.version("2.11.9"), "fail"),
        (_checks.version("2.12.0"), "warn"),
        (_checks.version("2.14.0"), "ok"),
        (_checks.version("3.0"), "ok"),
        (_checks.version("nightly"), "unknown"),
        (_checks.round_trip(0.2), "warn"),
        (_checks.protection("", local=False), "warn"),
        (_checks.protection("TLSv1.3", local=False), "ok"),
        (_checks.login("creds", 90.0, "", 100.0), "fail"),
        (_checks.login("creds", 900.0, "creds expire", 100.0), "warn"),
        (_checks.login("creds", 900.0, "", 100.0), "ok"),
        (_checks.payload(65536), "warn"),
        (_checks.clock(None), "unknown"),
        (_checks.clock(-3.0), "warn"),
        (_checks.clock(0.4), "ok"),
        (_checks.acks(None), "unknown"),
        (_checks.power_cut([], unasked=True), "unknown"),
        (_checks.power_cut([("a", {"sync_always": True})], unasked=True), "unknown"),
        (
            _checks.power_cut([("a", {"sync_always": True}), ("b", {"sync_interval": 1})], unasked=False),
            "warn",
        ),
        (_checks.configuration("log", "x", [Difference(field="f", found=1, wanted=2)]), "fail"),
        (_checks.copies(1, {}, clustered=True), "warn"),
        (_checks.copies(1, {}, clustered=False), "ok"),
        (_checks.copies(3, {"replicas": []}, clustered=True), "fail"),
        (
            _checks.copies(3, {"leader": "a", "replicas": [{"name": "b", "current": False}]}, clustered=True),
            "warn",
        ),
        (
            _checks.copies(3, {"leader": "a", "replicas": [{"name": "b", "current": True}]}, clustered=True),
            "ok",
        ),
        (_checks.room(70, 100), "warn"),
        (_checks.room(10, 100), "ok"),
    ],
)
def test_verdicts(check: _checks.Check, verdict: str) -> None:
    assert check.verdict == verdict
    assert verdict == "ok" or check.advice or verdict in ("unknown", "warn")


POOR = """
accounts {
  A { jetstream: enabled, users: [{user: a, password: p,
      permissions: {publish: ["$JS.API.INFO"], subscribe: ["_INBOX.>"]}}] }
}
no_auth_user: a
"""


def test_what_a_user_may_not_know_is_unknown_and_never_ok() -> None:
    with LocalServer(ServerOptions(extra_config=POOR)) as server:
        code, found = told("--url", server.url)
    assert code == 0
    unknown = {name for name, one in found.items() if one["verdict"] == "unknown"}
    assert unknown == {"clock", "js_ack_fc_v2", "power cut", "log", "agents"}
    assert "$JS.API.STREAM.INFO" in found["log"]["found"]
