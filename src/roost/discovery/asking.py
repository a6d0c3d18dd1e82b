"""Who is there now: one question to all, and the answers that come within a moment.

Whoever is dead cannot answer, so nothing here can show a dead instance as alive. Nobody knows how many will answer:
when the first has, the others are waited for as long as that took, and at least a tenth of a second.
"""

from __future__ import annotations

import asyncio
import logging

from roost.discovery import micro
from roost.discovery.info import AgentInfo, Capability, from_answer
from roost.errors import ConfigError, Disconnected, InvalidMessage, PermissionDenied, UnsafeToken
from roost.observe import Journal
from roost.subjects import token
from roost.transport import Client, Message

TIMEOUT_S = 0.4
"""Seconds after which no more answers are waited for, unless said otherwise."""
QUIET_S = 0.1
MOST = 10_000
"""Instances that are told apart; answers beyond that are counted and dropped."""


async def find_agents(
    client: Client,
    namespace: str,
    journal: Journal,
    agent: str | None = None,
    capability: Capability | None = None,
    timeout_s: float = TIMEOUT_S,
) -> list[AgentInfo]:
    """The instances that answer, by name. Raises as `Bus.agents` documents."""
    if not 0 < timeout_s <= 60:
        raise ConfigError(f"timeout_s = {timeout_s!r}: must be more than 0 and at most 60 seconds")
    subject = f"{micro.PREFIX}.INFO" + (f".{token(agent, name='agent')}" if agent is not None else "")
    question = _Question(client, namespace, journal, subject)
    try:
        await question.ask(timeout_s)
    finally:
        question.close()
    found = question.found
    return [one for _, one in sorted(found.items()) if capability is None or one.handles(capability)]


class _Question:
    """One question and its inbox."""

    def __init__(self, client: Client, namespace: str, journal: Journal, subject: str) -> None:
        self.found: dict[str, AgentInfo] = {}
        self._client = client
        self._namespace = namespace
        self._journal = journal
        self._subject = subject
        self._news = asyncio.Event()
        self._over = False
        self._failure: Exception | None = None
        self._inbox = client.new_inbox()
        self._listener = client.listen(self._inbox, self._arrived)
        client.on_disconnect.append(self._disconnected)
        client.on_denied.append(self._denied)

    async def ask(self, timeout_s: float) -> None:
        loop = asyncio.get_running_loop()
        began = loop.time()
        until = began + timeout_s
        self._client.send(self._subject, b"", self._inbox)
        patience_s = timeout_s
        while not self._over:
            self._news.clear()
            try:
                async with asyncio.timeout_at(min(until, loop.time() + patience_s)):
                    await self._news.wait()
            except TimeoutError:
                return
            if patience_s == timeout_s:
                patience_s = max(QUIET_S, loop.time() - began)
        if self._failure is not None:
            raise self._failure

    def close(self) -> None:
        self._client.on_disconnect.remove(self._disconnected)
        self._client.on_denied.remove(self._denied)
        if not self._client.is_closed:
            self._client.unlisten(self._listener)

    def _arrived(self, message: Message) -> None:
        self._news.set()
        if message.status:  # 503: no service of any kind is there
            self._over = True
            return
        try:
            info = from_answer(message, self._namespace)
        except (InvalidMessage, UnsafeToken) as error:
            # Any service of the account answers this, also such as are none of ours.
            self._journal.record(
                "answer_refused", subject=self._subject, reason=str(error), level=logging.DEBUG
            )
            return
        if info is None:
            return
        if len(self.found) >= MOST and info.instance not in self.found:
            self._journal.record("agents_dropped", subject=self._subject, reason=f"more than {MOST} answer")
            return
        self.found[info.instance] = info

    def _disconnected(self) -> None:
        self._fail(Disconnected(f"a question on {self._subject}"))

    def _denied(self, action: str, subject: str) -> None:
        if subject in (self._subject, self._inbox):
            self._fail(PermissionDenied(subject, action))

    def _fail(self, error: Exception) -> None:
        self._failure = error
        self._over = True
        self._news.set()
