"""Contracts that change while old and new programs run: what waits, what is upgraded, what is refused."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict

import roost
from tasks.support import SOON_S, Events, agent_of, children, records
from tasks.version_process import (
    Digest,
    PageV1,
    PageV2,
    abrupt_2,
    digest_1,
    digest_2,
    do_1,
    do_2,
)


def page_1(number: int) -> PageV1:
    return PageV1(title=f"old{number}", text="one two\nthree")


def page_2(number: int) -> PageV2:
    return PageV2(title=f"new{number}", paragraphs=["one two", "three"], language="en")


async def test_a_rolling_deployment_with_two_versions_of_an_agent_at_once(
    nats_url: str, namespace: str
) -> None:
    """Old and new callers submit all the time; each task is done once, and what the old worker cannot do waits."""
    async with roost.connect(nats_url, namespace=namespace) as bus, children() as start:
        old = await start("1", nats_url, namespace, module="version_process")
        await old.says("ready")
        old_work = await bus.submit_many(digest_1, [page_1(n) for n in range(20)])
        new_work = await bus.submit_many(digest_2, [page_2(n) for n in range(20)])
        assert "it has version 2 of 'digest' and this worker knows 1" in await old.says("event task_too_new")
        first = await asyncio.gather(*(one.result(timeout_s=SOON_S) for one in old_work))
        assert [one.by for one in first] == [1] * 20

        new = await start("2", nats_url, namespace, module="version_process")
        await new.says("ready")
        both = await bus.submit_many(digest_1, [page_1(n) for n in range(20, 60)])
        assert {one.by for one in await asyncio.gather(*(h.result(timeout_s=SOON_S) for h in both))} <= {1, 2}
        waits = [asyncio.ensure_future(one.outcome(timeout_s=40)) for one in new_work]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)

        old.signal(signal.SIGTERM)
        done = await asyncio.gather(*waits)
        assert all(isinstance(one, roost.Done) and one.value.by == 2 for one in done)
        assert all(len(one.history) == 1 for one in done), "to be handed back is no attempt"
        last = await bus.submit_many(digest_1, [page_1(n) for n in range(60, 70)])
        await asyncio.gather(*(one.result(timeout_s=SOON_S) for one in last))
        assert len(await records(bus, "end")) == 20 + 20 + 40 + 10
        assert not await bus.dead_letters()


async def test_what_is_too_new_waits_unread_without_an_attempt_and_an_event_says_so(
    nats_url: str, namespace: str
) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        events = Events(bus)
        async with bus.serving(agent_of(digest_1, do_1)):
            handle = await bus.submit(digest_2, page_2(1))
            await events.until("task_too_new", 2)
            assert isinstance(
                await (await bus.submit(digest_1, page_1(1))).outcome(timeout_s=SOON_S), roost.Done
            )
        assert not events.of("message_refused")
        assert not [note for note in await records(bus, "note") if handle.id in note.subject]
        async with bus.serving(agent_of(digest_2, do_2)):
            assert (await handle.result(timeout_s=SOON_S)).by == 2


async def test_a_task_that_no_worker_knows_waits_for_one_that_does(nats_url: str, namespace: str) -> None:
    async with roost.connect(nats_url, namespace=namespace) as bus:
        other = roost.Task("other", PageV1, Digest)
        async with bus.serving(agent_of(digest_1, do_1)):
            handle = await bus.submit(other, page_1(1))
            await (await bus.submit(digest_1, page_1(2))).result(timeout_s=SOON_S)
            with pytest.raises(roost.RequestTimeout):
                await handle.outcome(timeout_s=0.1)
        async with bus.serving(agent_of(other, do_1)):
            assert (await handle.result(timeout_s=SOON_S)).title == "old1"


async def test_an_earlier_version_is_upgraded_step_by_step(nats_url: str, namespace: str) -> None:
    class PageV3(PageV2):
        pages: int

    def to_2(page: Any) -> Any:
        return {"title": page["title"], "paragraphs": [page["text"]], "language": "en"}

    def to_3(page: Any) -> Any:
        return page | {"pages": len(page["paragraphs"])}

    async def do_3(page: PageV3) -> Digest:
        return Digest(title=f"{page.title} {page.language} {page.pages}", by=3)

    digest_3 = roost.Task("digest", PageV3, Digest, version=3, upgrade={1: to_2, 2: to_3}, ack_wait_s=5)
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(digest_3, do_3)):
        of_1 = await bus.submit(digest_1, page_1(1))
        of_2 = await bus.submit(digest_2, page_2(1))
        assert (await of_1.result(timeout_s=SOON_S)).title == "old1 en 1"
        assert (await of_2.result(timeout_s=SOON_S)).title == "new1 en 2"


async def test_an_earlier_version_that_does_not_fit_is_dead_with_the_reason_and_can_be_replayed(
    nats_url: str, namespace: str
) -> None:
    """A required field is new, another was removed: no worker of this version will ever do it."""
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of(abrupt_2, do_2)):
            dead = await (await bus.submit(digest_1, page_1(1))).outcome(timeout_s=SOON_S)
            assert isinstance(dead, roost.Dead)
            assert dead.letter.reason == (
                "invalid input: paragraphs: Field required (and 1 more) (it was submitted as version 1 and the "
                "worker's contract is version 2: give that an upgrade={1: ...} and replay the task)"
            )
            healthy = await (await bus.submit(abrupt_2, page_2(1))).result(timeout_s=SOON_S)
            assert healthy.by == 2
        async with bus.serving(agent_of(digest_2, do_2)):
            again = await bus.replay(digest_2, (await bus.dead_letters())[0])
            assert (await again.result(timeout_s=SOON_S)).title == "old1"


async def test_an_upgrade_that_fails_makes_a_dead_letter_that_says_so(nats_url: str, namespace: str) -> None:
    def broken(page: Any) -> Any:
        return page["no such field"]

    task = roost.Task("digest", PageV2, Digest, version=2, upgrade={1: broken}, ack_wait_s=5)
    async with roost.connect(nats_url, namespace=namespace) as bus, bus.serving(agent_of(task, do_2)):
        dead = await (await bus.submit(digest_1, page_1(1))).outcome(timeout_s=SOON_S)
        assert isinstance(dead, roost.Dead)
        assert "upgrade[1] raised KeyError: 'no such field'" in dead.letter.reason


async def test_a_field_that_a_worker_does_not_know_is_ignored_unless_its_model_forbids_it(
    nats_url: str, namespace: str
) -> None:
    """Within one version: the caller's model has a field more."""

    class More(PageV1):
        mood: str = "good"

    class Strict(BaseModel):
        model_config = ConfigDict(extra="forbid")
        title: str
        text: str

    async def do(page: Strict) -> Digest:
        return Digest(title=page.title, by=1)

    caller = roost.Task("digest", More, Digest, ack_wait_s=5)
    strict = roost.Task("digest", Strict, Digest, ack_wait_s=5)
    async with roost.connect(nats_url, namespace=namespace) as bus:
        value = More(title="more", text="")
        async with bus.serving(agent_of(digest_1, do_1)):
            assert (await (await bus.submit(caller, value)).result(timeout_s=SOON_S)).title == "more"
        async with bus.serving(agent_of(strict, do)):
            dead = await (await bus.submit(caller, value)).outcome(timeout_s=SOON_S)
            assert isinstance(dead, roost.Dead)
            assert dead.letter.reason == "invalid input: mood: Extra inputs are not permitted"


async def test_an_output_with_a_field_more_is_read_by_an_old_caller_and_one_with_a_field_less_is_kept(
    nats_url: str, namespace: str
) -> None:
    class Less(BaseModel):
        title: str

    async def do_less(page: PageV1) -> Less:
        return Less(title=page.title)

    less = roost.Task("digest", PageV1, Less, ack_wait_s=5)
    async with roost.connect(nats_url, namespace=namespace) as bus:
        async with bus.serving(agent_of(digest_2, do_2)):
            handle = await bus.submit(digest_1, page_1(1))
            assert await handle.result(timeout_s=SOON_S) == Digest(title="old1", by=2)
        async with bus.serving(agent_of(less, do_less)):
            handle = await bus.submit(digest_1, page_1(2))
            with pytest.raises(roost.InvalidMessage, match="by") as refused:
                await handle.outcome(timeout_s=SOON_S)
            assert "field 'by': Field required. The handler ran and its outcome stays stored" in str(
                refused.value
            )
            assert (refused.value.field, "no handler" in str(refused.value)) == ("by", False)
            assert (await bus.handle(less, handle.id).result(timeout_s=SOON_S)).title == "old2"


async def test_a_later_version_keeps_its_place_in_the_order_of_its_key(nats_url: str, namespace: str) -> None:
    ran: list[str] = []

    async def do(page: Any) -> Digest:
        ran.append(page.title)
        return Digest(title=page.title, by=0)

    def ordered(task: roost.Task[Any, Any]) -> roost.Task[Any, Any]:
        return roost.Task(
            "ordered", task.input, Digest, version=task.version, order_key=lambda page: "k", ack_wait_s=5
        )

    old, new = ordered(digest_1), ordered(digest_2)
    async with roost.connect(nats_url, namespace=namespace) as bus:
        events = Events(bus)
        handles = [await bus.submit(old, page_1(1)), await bus.submit(new, page_2(2))]
        handles.append(await bus.submit(new, page_2(3)))
        async with bus.serving(agent_of(old, do)):
            await events.until("task_too_new")
        async with bus.serving(agent_of(new, do)):
            for handle in handles:
                await handle.result(timeout_s=SOON_S)
    assert ran == ["old1", "new2", "new3"]


async def test_a_workflow_of_a_later_version_waits_as_well(nats_url: str, namespace: str) -> None:
    old = roost.Workflow("plan", PageV1, Digest, ack_wait_s=5)
    new = roost.Workflow("plan", PageV2, Digest, ack_wait_s=5, version=2)

    async def run_1(page: PageV1, run: roost.Run[Any]) -> Digest:
        return Digest(title=page.title, by=1)

    async def run_2(page: PageV2, run: roost.Run[Any]) -> Digest:
        return Digest(title=page.title, by=2)

    before, after = roost.Agent("planner"), roost.Agent("planner")
    before.handles(old)(run_1)
    after.handles(new)(run_2)
    async with roost.connect(nats_url, namespace=namespace) as bus:
        events = Events(bus)
        async with bus.serving(before):
            handle = await bus.start(new, page_2(1))
            await events.until("task_too_new")
            assert (await (await bus.start(old, page_1(1))).result(timeout_s=SOON_S)).by == 1
        async with bus.serving(after):
            assert (await handle.result(timeout_s=SOON_S)).by == 2


@pytest.mark.parametrize("version", [0, -1, True, 1.5, "2", 10**7])
def test_a_version_is_a_whole_number_from_one(version: Any) -> None:
    with pytest.raises(roost.ConfigError, match="version"):
        roost.Task("x", PageV1, Digest, version=version)


def test_an_upgrade_is_from_an_earlier_version() -> None:
    with pytest.raises(roost.ConfigError, match=r"upgrade\[2\]"):
        roost.Task("x", PageV1, Digest, version=2, upgrade={2: lambda page: page})
    with pytest.raises(roost.ConfigError, match="upgrade"):
        roost.Task("x", PageV1, Digest, version=2, upgrade=[1])  # type: ignore[call-overload]
    assert roost.Task("x", PageV1, Digest).json_schema().get("version") is None
    assert digest_2.json_schema()["version"] == 2
