"""`bus.agents`: who is there now, and what each can do."""

from __future__ import annotations

import asyncio
import json
import re
import time

import pytest
from discovery_kit import COUNT, DIGEST, SPELL, Page, counter, everything

import roost
from roost import Agent, AgentInfo, Endpoint, Task
from roost.discovery import instance_name
from roost.errors import ConfigError, Disconnected, UnsafeToken
from roost.server import LocalServer


def names(found: list[AgentInfo]) -> list[str]:
    return [one.instance for one in found]


async def test_who_serves_is_found_without_having_listened_before(nats_url: str, namespace: str) -> None:
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        roost.connect(nats_url, namespace=namespace) as caller,
    ):
        assert await caller.agents() == []
        async with bus.serving(everything(), counter()) as instances:
            began = time.monotonic()
            found = await caller.agents()
            assert time.monotonic() - began < 0.5
            assert names(found) == sorted(one.name for one in instances)
            clerk, other = found
            assert (clerk.agent, clerk.state, clerk.version, clerk.roost) == (
                "clerk",
                "ready",
                "1.4.0-rc.1",
                roost.__version__,
            )
            assert (other.agent, other.version, other.limit, other.running) == ("counter", "0.0.0", 2, 0)
            assert clerk.interval_s == 5
            began = time.monotonic()
            assert len(await caller.agents(timeout_s=30)) == 2  # it ends when no more answers come
            assert time.monotonic() - began < 10
            schemas = {one.kind: one.schemas for one in clerk.handlers}
            assert schemas["task"] == {
                "input": DIGEST.input_codec.json_schema(),
                "output": DIGEST.output_codec.json_schema(),
            }
            assert schemas["stream_endpoint"].keys() == {"input", "chunk"}
        assert await caller.agents() == []


async def test_agents_are_found_by_name_and_by_what_they_can_do(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(everything(), counter()) as (clerk, other):
            assert names(await bus.agents(agent="counter")) == [other.name]
            assert names(await bus.agents(agent="nobody")) == []
            assert names(await bus.agents(capability=COUNT)) == [clerk.name, other.name]
            assert names(await bus.agents(capability=DIGEST)) == [clerk.name]
            assert names(await bus.agents(capability="spell")) == [clerk.name]
            assert names(await bus.agents(capability=Task("count", Page, Page))) == []
            assert names(await bus.agents(agent="counter", capability=SPELL)) == []


async def test_who_was_found_can_be_addressed(nats_url: str, namespace: str) -> None:
    who = Endpoint("who", Page, str)
    agent = Agent("who")

    @agent.handles(who)
    async def tell(page: Page, ctx: roost.Context) -> str:
        return ctx.instance

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent, agent):
        for one in await bus.agents(capability=who):
            assert await bus.request(who, Page(), instance=one.instance) == one.instance


async def test_other_namespaces_and_other_services_are_passed_over(nats_url: str, namespace: str) -> None:
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        roost.connect(nats_url, namespace=namespace + "b") as elsewhere,
    ):
        for answer in (b"", b"[]", b'{"name": "x"}', b'{"name": "a.b", "id": ">", "roost": {}}'):

            def reply(message: roost.transport.Message, answer: bytes = answer) -> None:
                bus.link.client.send(message.reply, answer)

            bus.link.client.listen("$SRV.INFO", reply)
        async with bus.serving(counter()) as (mine,), elsewhere.serving(counter()) as (other,):
            assert names(await bus.agents()) == [mine.name]
            assert names(await elsewhere.agents()) == [other.name]
        assert bus.counters["answer_refused"] > 0


async def test_an_instance_says_how_busy_it_is(nats_url: str, namespace: str) -> None:
    slow = Endpoint("slow", Page, Page)
    agent = Agent("slow")
    free, begun = asyncio.Event(), asyncio.Semaphore(0)

    @agent.handles(slow, concurrency=2)
    async def wait(page: Page) -> Page:
        begun.release()
        await free.wait()
        return page

    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent):
        asked = [asyncio.create_task(bus.request(slow, Page())) for _ in range(2)]
        for _ in range(2):
            await begun.acquire()
        third = asyncio.create_task(bus.request(slow, Page()))
        while (found := (await bus.agents())[0]).waiting == 0:  # noqa: ASYNC110
            await asyncio.sleep(0)
        assert (found.state, found.running, found.limit, found.waiting) == ("busy", 2, 2, 1)
        free.set()
        await asyncio.gather(*asked, third)
        (found,) = await bus.agents()
        assert (found.state, found.running, found.waiting, found.handlers[0].handled) == ("ready", 0, 0, 3)


async def test_fifty_instances_in_one_process_are_all_found(nats_url: str, namespace: str) -> None:
    async with (
        roost.connect(nats_url, namespace=namespace) as bus,
        roost.connect(nats_url, namespace=namespace) as caller,
    ):
        async with bus.serving(*[counter() for _ in range(50)], heartbeat_s=0.2) as instances:
            began = time.monotonic()
            found = await caller.agents()
            assert time.monotonic() - began < 0.5
            assert names(found) == sorted(one.name for one in instances)
            assert len({one.instance for one in found}) == 50


async def test_the_question_fails_when_the_connection_is_lost(own_server: LocalServer) -> None:
    async with roost.connect(own_server.url) as bus, roost.connect(own_server.url) as served:
        async with served.serving(counter()):
            own_server.pause()
            asking = asyncio.create_task(bus.agents(timeout_s=30))
            await asyncio.sleep(0)
            own_server.kill()
            with pytest.raises(Disconnected):
                await asking


@pytest.mark.parametrize("timeout_s", [0, -1, float("nan"), 61])
async def test_a_time_that_cannot_be_is_refused(nats_url: str, timeout_s: float) -> None:
    async with roost.connect(nats_url) as bus:
        with pytest.raises(ConfigError, match="timeout_s"):
            await bus.agents(timeout_s=timeout_s)
        with pytest.raises(UnsafeToken):
            await bus.agents(agent=">")


# Names ------------------------------------------------------------------------------------------


def test_names_end_in_six_random_characters_and_fit_into_a_token() -> None:
    assert re.fullmatch("packer-1-[a-z2-9]{6}", instance_name("packer-1"))
    assert len(instance_name("p" * 64)) == 64
    assert len({instance_name("p") for _ in range(1000)}) == 1000


async def test_a_chosen_name_is_kept_and_given_once(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROOST_INSTANCE", "pod-7")
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(counter(), counter("other")) as (one, two):
            assert one.name == "pod-7"
            assert re.fullmatch("pod-7-[a-z2-9]{6}", two.name)
        async with bus.serving(counter()) as (again,):
            assert again.name == "pod-7"


async def test_the_interval_is_taken_from_the_environment(
    nats_url: str, namespace: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        monkeypatch.setenv("ROOST_HEARTBEAT_S", "2.5")
        async with bus.serving(counter()):
            assert [one.interval_s for one in await bus.agents()] == [2.5]
        for text in ("often", "0", "inf"):
            monkeypatch.setenv("ROOST_HEARTBEAT_S", text)
            with pytest.raises(ConfigError, match="ROOST_HEARTBEAT_S"):
                async with bus.serving(counter()):
                    pytest.fail("it serves")


async def test_a_heartbeat_is_small_and_holds_no_schemas(nats_url: str, namespace: str) -> None:
    beats: list[bytes] = []
    async with roost.connect(nats_url, namespace=namespace) as bus:
        bus.link.client.listen(f"{namespace}.beat.*.*", lambda message: beats.append(message.data))
        await bus.link.client.flush()
        async with bus.serving(everything()):
            await bus.link.client.flush()
        await bus.link.client.flush()
    states = [json.loads(beat)["state"] for beat in beats]
    assert states == ["joined", "ready", "draining", "left"]
    assert max(map(len, beats)) < 300 + 7 * 130
    assert b"properties" not in b"".join(beats)
