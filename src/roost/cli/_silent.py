"""Which agents have a connection and do not answer: those are frozen, or block their event loop."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence

from roost.bus import Bus
from roost.discovery import AgentInfo
from roost.errors import NoResponders, PermissionDenied, RequestTimeout
from roost.permissions import Rights, check_rights
from roost.transport import Message

WHO = "$SYS.REQ.ACCOUNT.PING.CONNZ"
ASK_S = 1.0
QUIET_S = 0.2
"""Seconds without a further answer after which nobody else is waited for."""
PROBE_S = 1.0
"""Seconds that an agent has to answer before it counts as silent."""
MOST_CONNECTIONS = 1024
MOST_PROBED = 50


async def silent(bus: Bus, agents: Sequence[AgentInfo]) -> list[tuple[str, str]] | None:
    """Agent and instance of those that are connected and are not among `agents`, who answered; None: not known."""
    connected = await _connected(bus)
    if connected is None:
        return None
    missing = sorted(connected - {(one.agent, one.instance) for one in agents})[:MOST_PROBED]
    asked = await asyncio.gather(*(_is_silent(bus, *one) for one in missing))
    return [one for one, is_silent in zip(missing, asked, strict=True) if is_silent]


async def _is_silent(bus: Bus, agent: str, instance: str) -> bool:
    try:
        await bus.link.requests.ask(f"$SRV.INFO.{agent}.{instance}", timeout_s=PROBE_S)
    except RequestTimeout:
        return True
    except NoResponders:  # it has left meanwhile
        return False
    return False


async def _connected(bus: Bus) -> set[tuple[str, str]] | None:
    """Agent and instance of all that have a connection, as the servers know it; None if they do not say."""
    try:  # a server writes into its log whatever it refuses
        await check_rights(bus.link, Rights(publish={WHO: "who is connected"}), bus.journal)
    except PermissionDenied:
        return None
    body = json.dumps({"subscriptions": True, "limit": MOST_CONNECTIONS}).encode()
    answers = await _all_answers(bus, WHO, body)
    if not answers:
        return None
    found = set()
    for answer in answers:
        for one in (json.loads(answer.data).get("data") or {}).get("connections") or ():
            subjects = [str(subject).split(".") for subject in one.get("subscriptions_list") or ()]
            if any(words[0] == bus.namespace for words in subjects):  # of this namespace
                found |= {(w[2], w[3]) for w in subjects if len(w) == 4 and w[:2] == ["$SRV", "INFO"]}
    return found


async def _all_answers(bus: Bus, subject: str, body: bytes) -> list[Message]:
    """Of every server; none if this user may not ask."""
    client, news, found = bus.link.client, asyncio.Event(), list[Message]()

    def take(message: Message) -> None:
        if not message.status:
            found.append(message)
        news.set()

    inbox = client.new_inbox()
    listener = client.listen(inbox, take)
    try:
        client.send(subject, body, inbox)
        patience_s = ASK_S
        while True:
            news.clear()
            try:
                await asyncio.wait_for(news.wait(), patience_s)
            except TimeoutError:
                return found
            patience_s = QUIET_S
    finally:
        client.unlisten(listener)
