"""The team of 07-a-team: what its agents agree on, and the agents. `python team.py worker` runs one of them."""

from __future__ import annotations

import asyncio
import sys
from collections import Counter

from pydantic import BaseModel

import roost
from roost.runtime import run_agent


class Book(BaseModel):
    title: str
    text: str


class Page(BaseModel):
    number: int
    text: str


class Counts(BaseModel):
    """How often each word stands on a page."""

    words: dict[str, int]


class Report(BaseModel):
    pages: int
    words: int
    frequent: dict[str, int]


# What the agents agree on. After 1 s without a sign of life a process counts as dead; unless told otherwise, 30 s.
count = roost.Task("count", Page, Counts, ack_wait_s=1)
report = roost.Task("report", list[Counts], Report, ack_wait_s=1)
study = roost.Workflow("study", Book, Report, ack_wait_s=1)

coordinator = roost.Agent("coordinator", calls=[count, report])
worker = roost.Agent("worker")
reporter = roost.Agent("reporter")


@coordinator.handles(study)
async def plan(book: Book, run: roost.Run) -> Report:
    """Split the book, have all pages counted side by side, have a report made of the counts."""
    pages = await run.step("split", split, book)
    counts = []
    async with run.map(count, pages, key=lambda page: f"page-{page.number}", ordered=True) as outcomes:
        async for outcome in outcomes:
            if isinstance(outcome, roost.Done):  # a page that could not be counted is left out
                counts.append(outcome.value)
    return await run.call(report, counts)


async def split(book: Book) -> list[Page]:
    lines = [line for line in book.text.splitlines() if line.strip()]
    return [Page(number=number, text=line) for number, line in enumerate(lines, 1)]


@worker.handles(count, concurrency=2)
async def count_words(page: Page) -> Counts:
    await asyncio.sleep(0.25)  # stands for work that takes longer, such as asking a language model
    return Counts(words=Counter(word.strip(".,:;!?*-").lower() for word in page.text.split()))


@reporter.handles(report)
async def make_report(counts: list[Counts]) -> Report:
    total: Counter[str] = Counter()
    for one in counts:
        total.update(one.words)
    frequent = sorted(total.items(), key=lambda item: (-item[1], item[0]))[:3]
    return Report(pages=len(counts), words=total.total(), frequent=dict(frequent))


if __name__ == "__main__":
    agents = {"coordinator": coordinator, "worker": worker, "reporter": reporter}
    sys.exit(run_agent(agents[sys.argv[1]]))  # until SIGTERM; server and name are in its environment
