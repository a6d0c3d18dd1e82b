"""A workflow and a handler, called directly by a test, without a server."""

from __future__ import annotations

import pytest
from pydantic import BaseModel

from roost import (
    ConfigError,
    Context,
    Dead,
    Done,
    Endpoint,
    NoResponders,
    Reject,
    RequestTimeout,
    Run,
    Signal,
    Task,
    Topic,
    Workflow,
)
from roost.testing import FakeContext, FakeRun


class Page(BaseModel):
    path: str


class Words(BaseModel):
    words: int


class Decision(BaseModel):
    ok: bool


digest = Task("digest", Page, Words)
audit = Workflow("audit", Page, Words)
approval = Signal("approval", Decision)
lookup = Endpoint("lookup", Page, Words)
status = Topic("team.{agent}.status", Words)


async def scan(folder: Page) -> list[Page]:
    return [Page(path=f"{folder.path}/{number}") for number in range(3)]


async def plan(folder: Page, run: Run) -> Words:
    pages = await run.step("scan", scan, folder)
    words = 0
    async with run.map(digest, pages, key=lambda page: page.path) as outcomes:
        async for outcome in outcomes:
            match outcome:
                case Done(value):
                    words += value.words
                case Dead(letter):
                    assert (outcome.key, letter.reason) == ("docs/2", "empty")
    try:
        decision = await run.wait_for(approval, timeout_s=60)
    except RequestTimeout:
        decision = Decision(ok=False)
    extra = await run.call(digest, folder, name="extra")
    return Words(words=words + extra.words if decision.ok else 0)


def count(page: Page) -> Words:
    if page.path.endswith("2"):
        raise Reject("empty")
    return Words(words=len(page.path))


async def test_a_workflow_is_called_with_canned_outcomes() -> None:
    run = FakeRun(outcomes={digest: count}, signals={approval: [Decision(ok=True)]})
    assert await plan(Page(path="docs"), run) == Words(words=6 + 6 + 4)
    assert run.operations == [("step", "scan"), ("map", "digest"), ("signal", "approval"), ("call", "extra")]


async def test_a_wait_that_times_out_moves_the_clock_and_nothing_else_does() -> None:
    run = FakeRun(outcomes={digest: count})
    begun = run.now()
    assert await plan(Page(path="docs"), run) == Words(words=0)
    assert run.now() - begun == 60


async def test_a_step_can_be_canned_and_one_operation_too() -> None:
    run = FakeRun(
        outcomes={digest: count, "extra": lambda page: Words(words=100)},
        signals={approval: [Decision(ok=True)]},
        steps={"scan": []},
    )
    assert await plan(Page(path="docs"), run) == Words(words=100)


async def test_what_a_test_forgot_is_named() -> None:
    with pytest.raises(AssertionError, match="no outcome for 'digest'"):
        await plan(Page(path="docs"), FakeRun())
    with pytest.raises(AssertionError, match="never comes"):
        await FakeRun().wait_for(approval)


async def test_an_ambiguous_name_is_an_error_here_too() -> None:
    run = FakeRun(outcomes={digest: count})
    await run.call(digest, Page(path="a"))
    with pytest.raises(ConfigError, match="ambiguous"):
        await run.call(digest, Page(path="b"))


def test_random_numbers_repeat() -> None:
    assert [FakeRun().random() for _ in range(2)] == [FakeRun().random()] * 2


async def handler(page: Page, ctx: Context) -> Words:
    found = await ctx.request(lookup, page)
    await ctx.publish(status.at(agent="w1"), found)
    await ctx.progress("half way")
    await ctx.submit(digest, page, key="k")
    return Words(words=await ctx.once("effect", effect) + ctx.attempt)


async def effect() -> int:
    return 40


async def test_a_handler_is_called_with_a_context_that_keeps_what_it_sends() -> None:
    ctx = FakeContext(attempt=2, answers={lookup: lambda page: Words(words=7)})
    assert await handler(Page(path="x"), ctx) == Words(words=42)
    assert ctx.published == [("team.w1.status", Words(words=7))]
    assert ctx.emitted == ["half way"]
    assert ctx.submitted == [(digest, Page(path="x"), "k")]


async def test_nobody_answers_unless_the_test_says_so() -> None:
    with pytest.raises(NoResponders):
        await handler(Page(path="x"), FakeContext())
