"""Runs and contexts without a server: canned outcomes, a clock that the test moves, errors that say what is missing."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

import pytest
from pydantic import BaseModel

import roost
from roost.errors import ConfigError, InvalidMessage
from roost.testing import FakeContext, FakeRun


class Page(BaseModel):
    path: str


class Words(BaseModel):
    words: int


class Decision(BaseModel):
    ok: bool


DAY_S = 86_400
digest = roost.Task("digest", Page, Words)
audit = roost.Workflow("audit", Page, Words)
approval = roost.Signal("approval", Decision)
folder = Page(path="docs")


def letter(reason: str) -> roost.Dead:
    return roost.Dead(roost.DeadLetter(reason=reason, attempts=3))


def pages(count: int) -> list[Page]:
    return [Page(path=f"p{n}") for n in range(count)]


async def approved(value: Page, run: roost.Run) -> str:
    """Waits a day for somebody; asks again, then gives up."""
    for asked in ("first", "second"):
        try:
            decision = await run.wait_for(approval, timeout_s=DAY_S, name=asked)
            return f"{asked} {decision.ok}"
        except roost.RequestTimeout:
            continue
    return "nobody answered"


async def test_a_wait_ends_when_the_test_moves_the_clock_past_its_limit() -> None:
    run = FakeRun(wait_by_hand=True)
    waiting = asyncio.create_task(approved(folder, run))
    begun = run.now()
    await run.until_waiting()
    for days, asked in ((0.5, ["first"]), (0.6, ["first", "second"])):
        run.advance(days * DAY_S)
        await run.until_waiting()
        assert [name for _, name in run.operations] == asked
    run.advance(DAY_S)
    assert await waiting == "nobody answered"
    assert run.now() - begun == pytest.approx(2.1 * DAY_S)


async def test_a_signal_that_comes_while_the_workflow_waits_is_taken() -> None:
    run = FakeRun(wait_by_hand=True)
    waiting = asyncio.create_task(approved(folder, run))
    await run.until_waiting()
    run.send(roost.Signal("other", Decision), Decision(ok=False))
    await run.until_waiting()
    run.send(approval, Decision(ok=True))
    assert await waiting == "first True"


async def test_without_a_hand_a_wait_times_out_at_once_and_moves_the_clock() -> None:
    run = FakeRun()
    begun = run.now()
    assert await approved(folder, run) == "nobody answered"
    assert run.now() - begun == 2 * DAY_S


async def test_a_fan_out_gives_canned_outcomes_with_key_and_index() -> None:
    def outcome(page: Page) -> Any:
        match page.path:
            case "p0":
                return Words(words=1)
            case "p1":
                return letter("no text")
            case "p2":
                return roost.Cancelled("somebody")
            case _:
                raise roost.Reject("never")

    run = FakeRun(outcomes={digest: outcome})
    async with run.map(digest, pages(4), key=lambda page: page.path) as outcomes:
        found = [one async for one in outcomes]
    assert [(type(one).__name__, one.key, one.index) for one in found] == [
        ("Done", "p0", 0),
        ("Dead", "p1", 1),
        ("Cancelled", "p2", 2),
        ("Dead", "p3", 3),
    ]
    assert [one.letter.reason for one in found if isinstance(one, roost.Dead)] == ["no text", "never"]


async def test_a_dead_or_cancelled_call_raises_as_it_does_in_a_run() -> None:
    run = FakeRun(outcomes={"a": lambda _: letter("gone"), "b": lambda _: roost.Cancelled("me", "enough")})
    with pytest.raises(roost.TaskDead, match="gone"):
        await run.call(digest, folder, name="a")
    with pytest.raises(roost.TaskCancelled, match="enough"):
        await run.call(audit, folder, name="b")


async def test_an_async_handler_may_stand_for_itself() -> None:
    async def handler(page: Page) -> Words:
        return Words(words=len(page.path))

    assert await FakeRun(outcomes={digest: handler}).call(digest, folder) == Words(words=4)


async def test_what_a_test_left_out_is_named_in_the_error() -> None:
    run = FakeRun(outcomes={"other": lambda page: Words(words=1)})
    with pytest.raises(AssertionError, match=r"no outcome for 'two'.*contract 'digest' or the name 'two'"):
        await run.call(digest, folder, name="two")
    with pytest.raises(AssertionError, match=r"no outcome for 'digest'"):
        async with run.map(digest, pages(1)) as outcomes:
            await anext(outcomes)
    with pytest.raises(AssertionError, match=r"waits for signal 'approval', which never comes"):
        await run.wait_for(approval)
    handle = await FakeContext().submit(digest, folder, key="k")
    with pytest.raises(AssertionError, match=r"no outcome for 'digest'"):
        await handle.result()


async def test_an_assertion_in_a_canned_outcome_fails_the_test_and_is_no_dead_letter() -> None:
    def outcome(page: Page) -> Words:
        assert page.path == "other"
        return Words(words=1)

    with pytest.raises(AssertionError, match="docs"):
        await FakeRun(outcomes={digest: outcome}).call(digest, folder)


async def test_values_that_no_contract_allows_are_refused_here_too() -> None:
    run = FakeRun(outcomes={digest: lambda page: "many"})
    with pytest.raises(InvalidMessage, match="Words"):
        await run.call(digest, folder)
    wrong: Any = Words(words=1)
    with pytest.raises(InvalidMessage, match="Page"):
        await run.call(digest, wrong, name="again")


@dataclass
class Place:
    at: tuple[int, int]


async def test_a_step_gives_what_its_record_would_give() -> None:
    async def place() -> Place:
        return Place((1, 2))

    def blocking() -> list[int]:
        return [1]

    async def unannotated():  # type: ignore[no-untyped-def]
        return (1, 2)

    run = FakeRun()
    assert await run.step("place", place) == Place((1, 2))
    assert await run.step("blocking", blocking) == [1]  # type: ignore[arg-type]
    assert await run.step("tuple", unannotated) == [1, 2], "as JSON reads it, after a resume as well"


async def test_the_name_of_a_step_that_failed_may_be_used_again() -> None:
    tries = 0

    async def flaky() -> int:
        nonlocal tries
        tries += 1
        if tries == 1:
            raise OSError("not yet")
        return tries

    run = FakeRun()
    with pytest.raises(OSError, match="not yet"):
        await run.step("s", flaky)
    assert await run.step("s", flaky) == 2
    with pytest.raises(ConfigError, match="ambiguous"):
        await run.step("s", flaky)


async def test_a_fan_out_is_as_strict_as_a_real_one() -> None:
    run = FakeRun(outcomes={digest: lambda page: Words(words=1)})
    with pytest.raises(ConfigError, match="ahead"):
        run.map(digest, pages(1), ahead=0)
    async with run.map(digest, pages(2), key=lambda _: "same", name="keys") as outcomes:
        await anext(outcomes)
        with pytest.raises(ConfigError, match="item 1 has the key 'same'"):
            await anext(outcomes)
    async with run.map(digest, pages(2), name="late") as outcomes:
        pass
    with pytest.raises(ConfigError, match="inside of its block only"):
        await anext(outcomes)


async def test_a_handler_with_little_time_left_is_tested_by_moving_its_clock() -> None:
    lookup = roost.Endpoint("lookup", Page, Words)
    ctx = FakeContext(remaining_s=10, answers={lookup: lambda page: Words(words=1)})
    assert await ctx.request(lookup, folder) == Words(words=1)
    ctx.advance(9)
    assert ctx.remaining_s == 1
    ctx.advance(9)
    assert ctx.remaining_s == 0
    with pytest.raises(roost.DeadlineExceeded):
        await ctx.request(lookup, folder)
    assert FakeContext().remaining_s is None


async def test_tasks_that_a_handler_submits_come_to_what_the_test_says() -> None:
    ctx = FakeContext(outcomes={digest: lambda page: Words(words=len(page.path))})
    one, two = await ctx.submit_many(digest, [folder, Page(path="x")], keys=["a", "b"])
    assert (await one.result(), await two.result()) == (Words(words=4), Words(words=1))
    assert (one.id, one.created) == ("a", True)
    three = await ctx.start(audit, folder)
    assert await three.cancel("enough")
    assert await three.outcome() == roost.Cancelled("test", "enough", three.key)
    assert not await one.cancel()
    assert [key for _, _, key in ctx.submitted] == ["a", "b", None]
