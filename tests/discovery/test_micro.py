"""Each instance is a NATS micro service (ADR-32): any tool that speaks to those finds it."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import nats
import pytest
from discovery_kit import AUDIT, COUNT, DIGEST, SPELL, Page, counter, everything
from micro_rules import Info, Ping, Stats
from nats.aio.client import Client as NatsClient
from nats.micro.service import ServiceInfo, ServiceStats
from pydantic import BaseModel, Field

import roost
from roost import Agent, Endpoint, RemoteError
from roost.errors import ConfigError, PermissionDenied
from roost.server import LocalServer, ServerOptions


@asynccontextmanager
async def stranger(url: str) -> AsyncIterator[NatsClient]:
    """Plain nats-py, which knows nothing of Roost."""
    client = await nats.connect(url.split(","))
    try:
        yield client
    finally:
        await client.close()


async def ask(client: NatsClient, subject: str) -> bytes:
    return (await client.request(subject, timeout=5)).data


async def test_an_instance_answers_as_the_published_schemas_say(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as client:
        async with bus.serving(everything()) as (instance,):
            own = f"clerk.{instance.name}"
            ping = Ping.model_validate_json(await ask(client, f"$SRV.PING.{own}"))
            info = Info.model_validate_json(await ask(client, f"$SRV.INFO.{own}"))
            stats = Stats.model_validate_json(await ask(client, f"$SRV.STATS.{own}"))
    for answer in (ping, info, stats):
        assert (answer.name, answer.id, answer.version) == ("clerk", instance.name, "1.4.0-rc.1")
        assert answer.metadata == ping.metadata
    assert ping.metadata is not None
    assert ping.metadata["namespace"] == namespace
    assert abs(stats.started_at.timestamp() - time.time()) < 60
    served = {(one.name, (one.metadata or {})["kind"]): one for one in info.endpoints}
    assert set(served) == {
        ("digest", "task"),
        ("audit", "workflow"),
        ("count", "endpoint"),
        ("spell", "stream_endpoint"),
        ("team_agent_status", "topic"),
        ("count", "topic"),
        ("digest", "report"),
    }
    assert served["count", "endpoint"].subject == f"{namespace}.endpoint.count"
    assert served["count", "endpoint"].queue_group == "roost"
    assert served["digest", "task"].subject == f"{namespace}.run.*.task.digest.>"
    assert served["count", "topic"].queue_group == ""
    metadata = served["team_agent_status", "topic"].metadata or {}
    assert metadata["contract"] == "team.{agent}.status"
    assert json.loads((served["count", "endpoint"].metadata or {})["input"])["properties"].keys() == {"text"}


async def test_all_services_of_a_name_answer_and_others_do_not(nats_url: str, namespace: str) -> None:
    name = f"agent-{namespace}"
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as client:
        async with bus.serving(counter(name), counter(name), counter()) as instances:
            for subject, least in ((f"$SRV.PING.{name}", 2), ("$SRV.PING", 3)):
                inbox = await client.subscribe(inbox_of(client))
                await client.publish(subject, reply=inbox.subject)
                found = {json.loads((await inbox.next_msg(5)).data)["id"] for _ in range(least)}
                assert found >= {one.name for one in instances[:least]}
                await inbox.unsubscribe()
            other = instances[2].name
            with pytest.raises(nats.errors.NoRespondersError):
                await ask(client, f"$SRV.PING.{name}.{other}")
        with pytest.raises(nats.errors.NoRespondersError):
            await ask(client, f"$SRV.PING.{name}")


def inbox_of(client: NatsClient) -> str:
    return str(client.new_inbox())


async def test_the_official_client_reads_the_answers(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as client:
        async with bus.serving(everything()) as (instance,):
            own = f"clerk.{instance.name}"
            info = ServiceInfo.from_dict(json.loads(await ask(client, f"$SRV.INFO.{own}")))
            stats = ServiceStats.from_dict(json.loads(await ask(client, f"$SRV.STATS.{own}")))
    assert len(info.endpoints) == len(stats.endpoints) == 7
    assert info.description == "Roost agent clerk: " + ", ".join(
        f"{(one.metadata or {})['contract']} ({(one.metadata or {})['kind']})" for one in info.endpoints
    )


async def test_statistics_count_what_happened_per_kind_and_name(nats_url: str, namespace: str) -> None:
    """A topic, an endpoint and a report share their names here."""
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as client:
        async with bus.serving(everything()) as (instance,):
            await bus.request(COUNT, Page(text="one two"))
            with pytest.raises(RemoteError):
                await bus.request(COUNT, Page(text="bad"))
            await client.request(f"{namespace}.endpoint.count", b"no JSON", timeout=5)
            async with bus.stream(SPELL, Page(text="one two")) as chunks:
                assert len([chunk async for chunk in chunks]) == 2
            await (await bus.submit(DIGEST, Page(text="a"))).result(timeout_s=10)
            await (await bus.start(AUDIT, Page(text="a b"))).result(timeout_s=10)
            while instance.handled["report:digest"] < 2:  # noqa: ASYNC110
                await asyncio.sleep(0)
            stats = Stats.model_validate_json(await ask(client, f"$SRV.STATS.clerk.{instance.name}"))
    found = {(one.data["kind"], one.name): one for one in stats.endpoints}
    counts = {key: (one.num_requests, one.num_errors) for key, one in found.items()}
    assert counts == {
        ("task", "digest"): (2, 0),
        ("workflow", "audit"): (1, 0),
        ("endpoint", "count"): (3, 2),
        ("stream_endpoint", "spell"): (1, 0),
        ("topic", "team_agent_status"): (0, 0),
        ("topic", "count"): (0, 0),
        ("report", "digest"): (2, 0),
    }
    assert instance.handled["endpoint:count"] == 1
    assert instance.handled["topic:count"] == 0
    assert found["endpoint", "count"].last_error.startswith("invalid: payload")
    for one in stats.endpoints:
        assert (one.processing_time > 0) == (one.num_requests > 0)
        assert one.average_processing_time == (
            one.processing_time // one.num_requests if one.num_requests else 0
        )
    assert 0 < found["endpoint", "count"].processing_time < 5e9


async def test_a_question_without_an_inbox_is_not_answered(nats_url: str, namespace: str) -> None:
    """Else whoever asks would choose what the agent publishes to."""
    async with roost.connect(nats_url, namespace=namespace) as bus, stranger(nats_url) as client:
        async with bus.serving(counter()) as (instance,):
            secret = await client.subscribe(f"{namespace}.secret")
            await client.publish(f"$SRV.PING.counter.{instance.name}", reply=f"{namespace}.secret")
            await ask(client, f"$SRV.PING.counter.{instance.name}")  # it comes after
            assert secret.pending_msgs == 0
            assert bus.counters["request_refused"] == 1


async def test_schemas_too_large_for_one_message_are_left_out(namespace: str) -> None:
    class Large(BaseModel):
        text: str = Field(description="x" * 5000)

    agent = Agent("large")
    endpoint = Endpoint("large", Large, Large)

    @agent.handles(endpoint)
    async def echo(value: Large) -> Large:
        return value

    with LocalServer(ServerOptions(max_payload=8192)) as server:
        async with roost.connect(server.url, namespace=namespace) as bus, bus.serving(agent):
            (found,) = await bus.agents()
    assert found.handles(endpoint)
    assert found.handlers[0].schemas == {}


@pytest.mark.parametrize(
    "version", ["", "1", "1.0", "01.0.0", "1.0.0-", "1.0.0-01", "v1.0.0", "1.0.0\n", "١.0.0"]
)
def test_a_version_is_a_semver(version: str) -> None:
    with pytest.raises(ConfigError, match=r"must be a SemVer .*such as 1\.4\.0"):
        Agent("a", version=version)


@pytest.mark.parametrize("version", ["0.0.0", "1.4.0", "10.20.30-rc.1+build.7", "1.0.0--", "1.0.0+01"])
def test_what_semver_allows_is_taken(version: str) -> None:
    assert Agent("a", version=version).version == version


DENIED = """
authorization { users: [
  { user: a, password: a, permissions: { publish: { deny: [%s] }, subscribe: { deny: [%s] } } }
] }
no_auth_user: a
"""


@pytest.mark.parametrize(
    ("publish", "subscribe", "action", "subject"),
    [
        ('"*.beat.>"', "", "publish", ".beat.counter.counter-"),
        ("", '"$SRV.STATS"', "subscribe", "$SRV.STATS"),
    ],
)
async def test_an_agent_that_may_not_be_seen_fails_at_its_start(
    publish: str, subscribe: str, action: str, subject: str
) -> None:
    with LocalServer(ServerOptions(extra_config=DENIED % (publish, subscribe)), proved=False) as server:
        async with roost.connect(server.url) as bus:
            with pytest.raises(PermissionDenied) as denied:
                async with bus.serving(counter()):
                    pytest.fail("it serves")
    assert denied.value.action == action
    assert subject in denied.value.subject
