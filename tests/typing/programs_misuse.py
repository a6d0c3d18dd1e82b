"""Agents, buses and workflows as users write them; each line marked E must be refused, and no other."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from pydantic import BaseModel

from roost import Agent, Bus, Context, Endpoint, Outcome, Run, Signal, StreamEndpoint, Task, Topic, Workflow


class Page(BaseModel):
    path: str


class Digest(BaseModel):
    words: int


@dataclass
class Deps:
    prefix: str


@asynccontextmanager
async def open_deps() -> AsyncIterator[Deps]:
    yield Deps("x")


digest = Task("digest", Page, Digest)
nothing = Task("nothing", Page)
lookup = Endpoint("lookup", Page, Digest)
chat = StreamEndpoint("chat", Page, Digest)
status = Topic("team.{agent}.status", Digest)
audit = Workflow("audit", Page, Digest)
approval = Signal("approval", Digest)
plain = Agent("plain")
rich = Agent("rich", lifespan=open_deps)


@plain.handles(digest)
async def one(page: Page) -> Digest:
    return Digest(words=1)


@rich.handles(digest, concurrency=2)
async def two(page: Page, ctx: Context[Deps]) -> Digest:
    return Digest(words=len(ctx.deps.prefix))


@rich.handles(lookup)
def three(page: Page, ctx: Context[Deps]) -> Digest:
    return Digest(words=1)


@rich.handles(chat)
async def four(page: Page, ctx: Context[Deps]) -> AsyncIterator[Digest]:
    yield Digest(words=1)


@rich.handles(status, deliver="every")
async def five(message: Digest, ctx: Context[Deps]) -> None:
    print(ctx.parameters["agent"])


@rich.handles(audit)
async def six(page: Page, run: Run[Deps]) -> Digest:
    async with run.map(digest, [page], key=lambda p: p.path) as outcomes:
        async for outcome in outcomes:
            print(outcome.key)
    total = await run.call(digest, page)
    decision = await run.wait_for(approval, timeout_s=5)
    return Digest(words=total.words + decision.words)


@rich.reports(digest)
async def seven(outcome: Outcome[Digest], ctx: Context[Deps]) -> None:
    print(outcome.key)


async def wrong_input(page: Digest) -> Digest:
    return page


async def wrong_output(page: Page) -> Page:
    return page


async def wrong_deps(page: Page, ctx: Context[int]) -> Digest:
    return Digest(words=ctx.deps)


async def wrong_run(page: Page, run: Run[int]) -> Digest:
    return Digest(words=run.deps)


plain.handles(digest)(wrong_input)  # E
plain.handles(digest)(wrong_output)  # E
rich.handles(digest)(wrong_deps)  # E
rich.handles(audit)(wrong_run)  # E
rich.handles(digest, deliver="every")  # E
rich.handles(status, deliver="some")  # E


async def misuse(bus: Bus, run: Run) -> None:
    handle = await bus.submit(digest, Page(path="p"))
    words: int = (await handle.result()).words
    print(words)
    await bus.submit(digest, Digest(words=1))  # E
    await bus.submit(lookup, Page(path="p"))  # E
    await bus.request(lookup, Digest(words=1))  # E
    await bus.request(digest, Page(path="p"))  # E
    await bus.publish(status.at(agent="a"), Page(path="p"))  # E
    await bus.start(audit, Digest(words=1))  # E
    await bus.signal("r", approval, Page(path="p"))  # E
    (await handle.result()).path  # E
    await run.call(digest, Digest(words=1))  # E
