"""One instance's presence: it answers when asked who is there, and says so by itself at intervals.

It costs nine subscriptions and one timer; handlers are not slowed by it, since what it tells is read from
counters at the moment it tells them. An instance whose process dies or hangs falls silent by that alone.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from roost.discovery import micro
from roost.discovery.card import Card, Part
from roost.discovery.names import beat_subject
from roost.discovery.standing import State, standing
from roost.errors import RoostError, TooLarge
from roost.observe import Journal
from roost.transport import Client, Listener, Message

INBOX = "_INBOX"
"""What the subject of an answer has to begin with: else whoever asks could choose what we publish to."""
JITTER = 0.1


class Presence:
    """Made with the instance, `start`ed before it serves, `leave`s at its end. `parts` grows while it is set up."""

    def __init__(self, client: Client, journal: Journal, card: Card) -> None:
        self.card = card
        self.parts: list[Part] = []
        self.state: State = "joined"
        self._client = client
        self._journal = journal
        self._subject = beat_subject(card.namespace, card.agent, card.instance)
        self._listeners: list[Listener] = []
        self._timer: asyncio.TimerHandle | None = None
        self._denied = ""
        self._gone = False

    def start(self) -> None:
        """Answer from now on, and say so. The server may not let us: then `denied` tells after a flush."""
        answers: dict[str, Callable[[], bytes]] = {
            "PING": self._ping,
            "INFO": self._info,
            "STATS": self._stats,
        }
        for verb in micro.VERBS:
            for subject in micro.service_subjects(self.card, verb):
                self._listeners.append(self._client.listen(subject, self._answering(answers[verb])))
        self._client.on_denied.append(self._refused)
        self._client.on_reconnect.append(self._say)
        self._beat()

    @property
    def denied(self) -> tuple[str, str]:
        """A subject that this user needs and the server refuses, and the action; empty if there is none."""
        if self._denied:
            return self._denied, "publish"
        return next(((one.subject, "subscribe") for one in self._listeners if one.denied), ("", ""))

    def become(self, state: State) -> None:
        """Say at once that this has changed."""
        if not self._gone and state != self.state:
            self.state = state
            self._say()

    def leave(self) -> None:
        """Say goodbye and fall silent. A second call does nothing."""
        if self._gone:
            return
        self.become("left")
        self._gone = True
        if self._timer is not None:
            self._timer.cancel()
        if self._refused in self._client.on_denied:
            self._client.on_denied.remove(self._refused)
        if self._say in self._client.on_reconnect:
            self._client.on_reconnect.remove(self._say)
        if not self._client.is_closed:
            for listener in self._listeners:
                self._client.unlisten(listener)

    # Heartbeats ---------------------------------------------------------------------------------

    def _beat(self) -> None:
        delay_s = self.card.heartbeat_s * random.uniform(1 - JITTER, 1 + JITTER)
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._beat)
        self._say()

    def _say(self) -> None:
        now = standing(self.card, self.parts, self.state)
        try:
            self._client.send(self._subject, now.model_dump_json().encode())
        except RoostError:
            self._journal.count(
                "beat_not_sent"
            )  # the next one says more; after a reconnect one is sent at once

    def _refused(self, action: str, subject: str) -> None:
        if action == "publish" and subject == self._subject:
            self._denied = subject

    # Answers ------------------------------------------------------------------------------------

    def _answering(self, make: Callable[[], bytes]) -> Callable[[Message], None]:
        def answer(message: Message) -> None:
            if not message.reply.startswith(INBOX):
                reason = f"no inbox to answer: {message.reply!r}"
                self._journal.record("request_refused", subject=message.subject, reason=reason)
                return
            try:
                self._send(message.reply, make)
            except RoostError as error:
                self._journal.record("answer_not_sent", subject=message.subject, reason=str(error))

        return answer

    def _send(self, reply: str, make: Callable[[], bytes]) -> None:
        try:
            self._client.send(reply, make())
        except TooLarge:
            if make != self._info:
                raise
            self._client.send(reply, self._info(schemas=False))

    def _ping(self) -> bytes:
        return micro.ping(self.card)

    def _info(self, *, schemas: bool = True) -> bytes:
        return micro.info(self.card, self.parts, standing(self.card, self.parts, self.state), schemas=schemas)

    def _stats(self) -> bytes:
        return micro.stats(self.card, self.parts)
