"""A durable workflow: nested workflows write the parts, a person approves, and the coordinator may die at any time."""

import asyncio

from pydantic import BaseModel

import roost
from roost import Agent, Dead, Done, Reject, Run, Signal, Task, Workflow


class Topic(BaseModel):
    name: str


class Issue(BaseModel):
    topics: list[Topic]


class Article(BaseModel):
    text: str


class Letter(BaseModel):
    articles: int
    left_out: list[str]
    approved_by: str


class Approval(BaseModel):
    by: str


draft = Task("draft", Topic, Article)
polish = Task("polish", Article, Article)
article = Workflow("article", Topic, Article)
newsletter = Workflow("newsletter", Issue, Letter)
approval = Signal("approval", Approval)

writers = Agent("writers")
editors = Agent("editors")


@writers.handles(draft)
async def write(topic: Topic) -> Article:
    if topic.name == "nothing":
        raise Reject("there is nothing to say about nothing")
    return Article(text=f"about {topic.name}")


@writers.handles(polish)
def rewrite(text: Article) -> Article:  # a sync handler runs on a thread
    return Article(text=text.text.capitalize() + ".")


@editors.handles(article)
async def one(topic: Topic, run: Run) -> Article:
    return await run.call(polish, await run.call(draft, topic))


@editors.handles(newsletter)
async def whole(issue: Issue, run: Run) -> Letter:
    written, left_out = 0, list[str]()
    async with run.map(article, issue.topics, key=lambda topic: topic.name) as outcomes:
        async for outcome in outcomes:
            match outcome:
                case Done():
                    written += 1
                case Dead():
                    left_out.append(outcome.key)
    decision = await run.wait_for(approval, timeout_s=3 * 86_400)  # holds no slot meanwhile
    return Letter(articles=written, left_out=left_out, approved_by=decision.by)


async def main() -> None:
    topics = [Topic(name=name) for name in ("owls", "nothing", "wrens")]
    async with roost.local_server() as url, roost.connect(url) as bus:
        async with bus.serving(writers):
            async with bus.serving(editors):
                handle = await bus.start(newsletter, Issue(topics=topics), key="2026-11")
            # The editors are gone. Others go on where they were, and nothing is written twice.
            async with bus.serving(editors):
                await bus.signal(handle.id, approval, Approval(by="ada"))
                letter = await handle.result()
        print(f"{letter.articles} articles, without {letter.left_out}, approved by {letter.approved_by}")


asyncio.run(main())
