"""Who would get a message on a subject: the server's own answer, without sending one.

A message with `Nats-Trace-Dest` and `Nats-Trace-Only` walks the same way through all servers as any other, and is
neither delivered nor stored; each server reports what it would have done (ADR-41, nats-server 2.11). A server before
2.11 does not know these headers and would deliver the message, so that its version is looked at first.

Of a queue group one report names one member, taken by chance as for any message. So where there is a group the question
is asked again until a member not seen yet is unlikely (`_enough`).
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Sequence

from roost._text import clean, quoted
from roost.contracts import Address, Topic
from roost.errors import ConfigError, Disconnected, PermissionDenied, RequestTimeout
from roost.observe._explanation import Explanation
from roost.observe._hops import Walk, read_hop
from roost.subjects import matches
from roost.transport import Client, Message
from roost.transport.headers import block

SINCE = (2, 11)
"""The first nats-server that traces messages."""
TIMEOUT_S = 2.0
BURST = 64
"""Questions that are on their way at a time."""
MOST = 1024
"""Questions in all, which finds the members of groups of about 65."""
_UNSEEN = 12.0
"""exp(-12), 6 in a million, is the chance that one of equal members was never named."""


async def explain(
    client: Client, subject: str | Address[object] | Topic[object], *, timeout_s: float = TIMEOUT_S
) -> Explanation:
    """Ask the servers who would get a message on `subject`. Raises as `Bus.explain` documents."""
    text = checked(subject)
    if not 0 < timeout_s <= 60:
        raise ConfigError(f"timeout_s = {timeout_s!r}: must be more than 0 and at most 60 seconds")
    question = _Question(client, text)
    try:
        return Explanation.of(text, await question.ask(timeout_s))
    finally:
        question.close()


def checked(subject: str | Address[object] | Topic[object]) -> str:
    """The subject itself. Raises ConfigError if no message can have it."""
    if isinstance(subject, Topic):
        subject = subject.at()
    text = subject.subject if isinstance(subject, Address) else subject
    if not isinstance(text, str):
        raise ConfigError(
            f"subject = {quoted(text)}: a str, or a topic's address (`topic.at(...)`), is needed"
        )
    words = text.split(".")
    if "*" in words or ">" in words:
        raise ConfigError(
            f"subject {quoted(text)}: a message has one subject without wildcards; explain one that is published"
        )
    if not matches(text, text) or not text.isprintable() or " " in text:
        raise ConfigError(
            f"subject {quoted(text)}: tokens joined by `.`, none empty and without white space, are needed"
        )
    return text


def _check_version(client: Client) -> None:
    version = str(client._server_info.get("version") or "")
    found = re.match(r"(\d+)\.(\d+)", version)
    if found is None or (int(found[1]), int(found[2])) < SINCE:
        raise ConfigError(
            f"this is nats-server {clean(version) or 'of unknown version'}; explain needs 2.11 or later (an "
            "earlier one would deliver the message). Nothing was sent"
        )


def _enough(members: int) -> int:
    """How many answers of a group of which so many members have been named make another one unlikely.

    If there were one more, all alike, the chance that it was never named is (1 - 1/n)^answers.
    """
    return math.ceil((members + 1) * (math.log(members + 1) + _UNSEEN))


class _Question:
    """The walks of one question, and the inbox for what the servers report of them."""

    def __init__(self, client: Client, subject: str) -> None:
        self._client = client
        self._subject = subject
        self._walks: dict[str, Walk] = {}
        self._news = asyncio.Event()
        self._failure: Exception | None = None
        self._inbox = client.new_inbox()
        self._listener = client.listen(f"{self._inbox}.*", self._arrived)
        client.on_disconnect.append(self._disconnected)
        client.on_denied.append(self._denied)

    async def ask(self, timeout_s: float) -> list[Walk]:
        """One walk; of a subject with queue groups as many as it takes, in the time there is."""
        until = asyncio.get_running_loop().time() + timeout_s
        [first] = walks = self._send(1)
        await self._until_complete(walks, until)
        if not first.hops:
            raise RequestTimeout(self._subject, timeout_s)
        while first.complete and (missing := self._missing(walks)) > 0:
            more = self._send(min(missing, BURST, MOST - len(walks)))
            walks += more
            if not await self._until_complete(more, until) or len(walks) >= MOST:
                first.sampled = self._missing(walks) <= 0
                break
        return walks

    def _missing(self, walks: Sequence[Walk]) -> int:
        members: dict[str, set[object]] = {}
        for walk in walks:
            for group, one in walk.members():
                members.setdefault(group, set()).add(one)
        return max((_enough(len(found)) for found in members.values()), default=0) - len(walks)

    def _send(self, count: int) -> list[Walk]:
        _check_version(self._client)
        sent = []
        for _ in range(count):
            to = f"{self._inbox}.{len(self._walks)}"
            head = block(("Nats-Trace-Dest", to), ("Nats-Trace-Only", "true"))
            self._walks[to] = walk = Walk()
            sent.append(walk)
            self._client.send(self._subject, b"", "", head)
        return sent

    async def _until_complete(self, walks: Sequence[Walk], until: float) -> bool:
        while not all(walk.complete for walk in walks):
            self._news.clear()
            try:
                async with asyncio.timeout_at(until):
                    await self._news.wait()
            except TimeoutError:
                return False
            if self._failure is not None:
                raise self._failure
        return True

    def close(self) -> None:
        self._client.on_disconnect.remove(self._disconnected)
        self._client.on_denied.remove(self._denied)
        if not self._client.is_closed:
            self._client.unlisten(self._listener)

    def _arrived(self, message: Message) -> None:
        walk = self._walks.get(message.subject)
        hop = read_hop(message.data)
        if walk is None or hop is None:
            return
        if hop.refused.startswith("Permissions Violation"):
            self._fail(PermissionDenied(self._subject, "publish"))
        walk.add(hop)
        self._news.set()

    def _disconnected(self) -> None:
        self._fail(Disconnected(f"the question who would get {self._subject}"))

    def _denied(self, action: str, subject: str) -> None:
        if subject == self._subject or subject.startswith(self._inbox):
            self._fail(PermissionDenied(subject, action))

    def _fail(self, error: Exception) -> None:
        self._failure = self._failure or error
        self._news.set()
