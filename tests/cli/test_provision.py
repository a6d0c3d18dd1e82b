"""`roost provision`: the administrator's act. Lists what differs, applies what the server lets be applied."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from test_commands import run

import roost
from roost import Bus, ConfigMismatch, Task
from roost.cli.provision import parse_size
from roost.errors import ConfigError
from roost.runtime import load_agent
from roost.tasks.provision import stream_config
from roost.tasks.records import Subjects

CONTRACTS = """
from pydantic import BaseModel
from roost import Agent, Outcome, Run, Task, Workflow
class Page(BaseModel): text: str
digest = Task("digest", Page, ack_wait_s=7)
audit = Workflow("audit", Page, Page)
agent = Agent("digester")
coordinator = Agent("coordinator")
@coordinator.handles(audit)
async def plan(page: Page, run: Run) -> Page: return page
@coordinator.reports(digest, of=audit)
async def heard(outcome: Outcome[None]) -> None: ...
@agent.handles(digest)
async def one(page: Page) -> None: ...
"""


def digest_of(*, ack_wait_s: float) -> Task[int, None]:
    """As the contract above, for what depends on no model."""
    return Task("digest", int, ack_wait_s=ack_wait_s)


class Administrator:
    """Runs `roost provision` in a folder with contracts, on the test's server and namespace."""

    def __init__(self, bus: Bus, url: str, folder: Path) -> None:
        self.bus = bus
        self._where = ("--url", url, "--namespace", bus.namespace)
        self.folder = folder
        (folder / "shop_contracts.py").write_text(CONTRACTS)

    async def __call__(self, *arguments: str, exit_code: int = 0) -> str:
        answer = await asyncio.to_thread(run, "provision", *arguments, *self._where, cwd=self.folder)
        assert answer.returncode == exit_code, answer.stdout + answer.stderr
        return answer.stdout + answer.stderr

    async def json(self, *arguments: str, exit_code: int = 0) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(await self(*arguments, "--json", exit_code=exit_code))
        return found

    async def stream(self) -> dict[str, Any]:
        info = await self.bus.link.jetstream.call(f"STREAM.INFO.ROOST_{self.bus.namespace}")
        config: dict[str, Any] = info["config"]
        return config

    async def make_stream(self, **fields: Any) -> None:
        config = {**stream_config(Subjects(self.bus.namespace)), **fields}
        await self.bus.link.jetstream.call(f"STREAM.CREATE.ROOST_{self.bus.namespace}", config)


async def test_what_is_missing_is_created_and_then_left_alone(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        admin = Administrator(bus, nats_url, tmp_path)
        said = await admin("shop_contracts:agent", "--max-bytes", "50MB")
        assert said.splitlines() == [
            f"stream ROOST_{namespace}  created",
            "consumer task_digest   created",
        ]
        assert (await admin.stream())["max_bytes"] == 50_000_000
        again = await admin("shop_contracts:agent", "shop_contracts:digest", "--max-bytes", "50MB")
        assert [line.split()[-1] for line in again.splitlines()] == ["unchanged", "unchanged"]
        await bus.log.ensure_consumer(digest_of(ack_wait_s=7))


async def test_what_is_provisioned_for_a_coordinator_is_what_it_then_finds(
    nats_url: str, namespace: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        admin = Administrator(bus, nats_url, tmp_path)
        changes = await admin.json("shop_contracts:coordinator")
        assert [one["what"].split()[-1] for one in changes[1:]] == [
            "report_coordinator_digest_of_audit",
            "task_audit",
        ]
        monkeypatch.syspath_prepend(str(tmp_path))
        async with bus.serving(load_agent("shop_contracts:coordinator")):
            names = await bus.link.jetstream.call(f"CONSUMER.NAMES.ROOST_{namespace}")
        assert len(names["consumers"]) == 2


async def test_a_dry_run_lists_and_does_nothing(nats_url: str, namespace: str, tmp_path: Path) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        admin = Administrator(bus, nats_url, tmp_path)
        said = await admin("shop_contracts:agent", "--dry-run")
        assert said.count("would be created") == 2
        names = await bus.link.jetstream.call("STREAM.NAMES")
        assert f"ROOST_{namespace}" not in (names["streams"] or [])

        await admin.make_stream(max_age=60_000_000_000)
        changes = await admin.json("shop_contracts:agent", "--dry-run")
        assert [(one["action"], one["applied"]) for one in changes] == [
            ("changed", False),
            ("created", False),
        ]
        assert (await admin.stream())["max_age"] == 60_000_000_000


async def test_differences_that_programs_refuse_are_listed_and_applied(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        admin = Administrator(bus, nats_url, tmp_path)
        await admin.make_stream(max_age=60_000_000_000, discard="old")
        with pytest.raises(ConfigMismatch):
            await bus.log.ensure()
        said = await admin()
        assert "changed\n" in said
        assert "  max_age: 60000000000 -> 0" in said
        assert "  discard: 'old' -> 'new'" in said
        await bus.log.ensure()


async def test_a_consumer_is_changed_to_what_the_contract_says(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        admin = Administrator(bus, nats_url, tmp_path)
        await bus.log.ensure_consumer(digest_of(ack_wait_s=30))
        said = await admin("shop_contracts:digest")
        assert "  ack_wait: 30000000000 -> 7000000000" in said
        await bus.log.ensure_consumer(digest_of(ack_wait_s=7))


async def test_what_the_server_refuses_is_told_field_by_field_and_the_rest_applied(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        admin = Administrator(bus, nats_url, tmp_path)
        await admin.make_stream(max_age=60_000_000_000, storage="memory")
        changes = await admin.json(exit_code=1)
        assert [one["action"] for one in changes] == ["changed", "refused"]
        assert [one["field"] for one in changes[0]["differences"]] == ["max_age"]
        assert [one["field"] for one in changes[1]["differences"]] == ["storage"]
        assert "storage" in changes[1]["reason"]
        assert (await admin.stream()).get("max_age", 0) == 0
        said = await admin(exit_code=1)
        assert "refused: " in said
        assert "  storage: 'memory' stays" in said


async def test_a_size_below_what_is_in_use_is_refused_because_tasks_would_be_lost(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        admin = Administrator(bus, nats_url, tmp_path)
        await admin()
        for n in range(8):
            await bus.link.jetstream.publish(
                f"{namespace}.run.r{n}.task.digest.r{n}", b'"' + b"x" * 200_000 + b'"'
            )
        (change,) = await admin.json("--max-bytes", "1MB", exit_code=1)
        assert change["action"] == "refused"
        assert "records of tasks would be lost" in change["reason"]
        assert (await bus.link.jetstream.call(f"STREAM.INFO.ROOST_{namespace}"))["state"]["messages"] == 8


async def test_what_is_neither_agent_nor_contract_is_refused(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        admin = Administrator(bus, nats_url, tmp_path)
        said = await admin("shop_contracts:Page", exit_code=1)
        assert "shop_contracts:Page is no Agent, Task or Workflow of roost" in said
        said = await admin("shop_contracts:missing", exit_code=1)
        assert "its agents are shop_contracts:agent" in said


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("1000000", 1_000_000),
        ("500MB", 500_000_000),
        ("10g", 10**10),
        ("2 GiB", 2**31),
        ("64Mi", 2**26),
        ("-1", -1),
    ],
)
def test_sizes_are_written_as_people_write_them(text: str, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "GB", "1.5GB", "10 parsecs", "-2", "1e9", "9" * 20])
def test_what_is_no_size_is_refused_with_examples(text: str) -> None:
    with pytest.raises(ConfigError, match="500MB, 10GB or 10GiB"):
        parse_size(text)
