"""An agent of one version of its code, in a process of its own: `python -m tasks.version_process MODE URL NAMESPACE`.

MODE is `1` or `2`: which version was deployed. It prints `ready`, `did <title>` and `event <kind> <subject> <reason>`.
"""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from pydantic import BaseModel

import roost
from tasks.support import agent_of
from tasks.worker_process import tell

RETRY = roost.Retry(attempts=1)


class PageV1(BaseModel):
    title: str
    text: str


class PageV2(BaseModel):
    """`text` has become `paragraphs`, and `language` is new and required."""

    title: str
    paragraphs: list[str]
    language: str


class Digest(BaseModel):
    title: str
    by: int  # version of the worker


class DigestV2(Digest):
    words: int = 0


def to_2(page: Any) -> Any:
    return {"title": page["title"], "paragraphs": page["text"].split("\n"), "language": "en"}


digest_1 = roost.Task("digest", PageV1, Digest, retry=RETRY, ack_wait_s=5)
digest_2 = roost.Task("digest", PageV2, DigestV2, retry=RETRY, ack_wait_s=5, version=2, upgrade={1: to_2})
abrupt_2 = roost.Task("digest", PageV2, DigestV2, retry=RETRY, ack_wait_s=5, version=2)
"""The same without a word on how to read version 1."""


async def do_1(page: PageV1) -> Digest:
    tell("did", page.title)
    return Digest(title=page.title, by=1)


async def do_2(page: PageV2) -> DigestV2:
    tell("did", page.title)
    return DigestV2(title=page.title, by=2, words=len(" ".join(page.paragraphs).split()))


async def serve(mode: str, url: str, namespace: str) -> None:
    agent = agent_of(digest_1, do_1) if mode == "1" else agent_of(digest_2, do_2)
    async with roost.connect(url, namespace=namespace) as bus:
        bus.watch(lambda event: tell("event", event.kind, event.subject, event.reason))
        async with bus.serving(agent):
            tell("ready")
            await asyncio.get_running_loop().create_future()


if __name__ == "__main__":
    asyncio.run(serve(*sys.argv[1:4]))
