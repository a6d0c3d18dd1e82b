"""A pull pump: keeps a durable consumer's messages coming, never more than the handlers have room for.

Two pulls overlap, so that the next batch is asked for before the last one has run out. Each has an
expiry and idle heartbeats; one that falls silent is given up and asked again. nats-py's ``fetch`` stalls
after a timeout, takes a publisher's ``Status`` header for the server's and never looks at heartbeats.
"""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import Callable

from roost.errors import RoostError
from roost.transport.client import Client, Listener
from roost.transport.message import Message

log = logging.getLogger("roost.transport")

PULLS = 2
EXPIRES_S = 20.0
HEARTBEAT_S = 2.0
"""Idle heartbeat asked of the server; two missed in a row and the pull is given up."""
RETRY_CAP_S = 5.0


class Pump:
    """Pulls from one consumer.

    `on_message` is called synchronously for each message. `room` says how many more messages may be
    taken on; call `wake` when it has grown. `on_trouble` hears of refusals, as (kind, text): ``missing``
    when the consumer (or JetStream) does not answer or was deleted, ``refused`` for anything else.
    """

    def __init__(
        self,
        client: Client,
        stream: str,
        consumer: str,
        *,
        on_message: Callable[[Message], None],
        room: Callable[[], int],
        on_trouble: Callable[[str, str], None],
    ) -> None:
        self._client = client
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._on_message = on_message
        self._room = room
        self._on_trouble = on_trouble
        self._pulls: list[_Pull] = []
        self._running = False
        self._failures = 0
        self._watch: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None
        self.silent = 0
        """Pulls given up because heartbeats stayed away."""

    def start(self) -> None:
        """Subscribe and send the first pull."""
        self._running = True
        inbox = self._client.new_inbox()
        for number in range(PULLS):
            pull = _Pull(f"{inbox}.{number}")
            pull.listener = self._client.listen(f"{pull.inbox}.*", self._receiver(pull))
            self._pulls.append(pull)
        self._client.on_reconnect.append(self._restart)
        self._tick()
        self.wake()

    def stop(self) -> None:
        """Ask for nothing more. What the server has sent already is not taken: it is delivered again."""
        if not self._running:
            return
        self._running = False
        self._client.on_reconnect.remove(self._restart)
        for timer in (self._watch, self._retry):
            if timer is not None:
                timer.cancel()
        for pull in self._pulls:
            if pull.listener is not None and not self._client.is_closed:
                self._client.unlisten(pull.listener)

    @property
    def asked(self) -> int:
        """Messages asked for and not yet received."""
        return sum(pull.remaining for pull in self._pulls)

    def wake(self) -> None:
        """Ask for as many messages as there is room for, unless both pulls are out or a retry is due."""
        if not self._running or self._retry is not None or not self._client.is_connected:
            return
        asked = self.asked
        room = self._room() - asked
        if room <= 0 or (asked and room < asked):
            return
        for pull in self._pulls:
            if not pull.remaining:
                self._send(pull, room)
                return

    def _send(self, pull: _Pull, batch: int) -> None:
        pull.number += 1
        pull.remaining = batch
        pull.heard = self._client._loop.time()
        request = {
            "batch": batch,
            "expires": int(EXPIRES_S * 1e9),
            "idle_heartbeat": int(HEARTBEAT_S * 1e9),
        }
        try:
            self._client.send(self._subject, json.dumps(request).encode(), f"{pull.inbox}.{pull.number:x}")
        except RoostError as error:
            pull.remaining = 0
            self._later("refused", str(error))

    def _receiver(self, pull: _Pull) -> Callable[[Message], None]:
        def receive(message: Message) -> None:
            if not self._running:
                return
            pull.heard = self._client._loop.time()
            if not message.reply and not message.data:
                self._status(pull, message)
                return
            if pull.remaining:
                pull.remaining -= 1
            self._failures = 0
            self._on_message(message)
            if not pull.remaining:
                self.wake()

        return receive

    def _status(self, pull: _Pull, message: Message) -> None:
        status = message.status
        if not status or status == 100:
            return
        if not message.subject.endswith(f".{pull.number:x}"):
            return  # the end of an earlier pull that was given up
        pull.remaining = 0
        if status in (404, 408):
            self.wake()
            return
        text = message.status_text
        missing = status == 503 or "deleted" in text.lower()
        if status == 409 and ("leadership" in text.lower() or "shutdown" in text.lower()):
            self._later(None, text)
            return
        self._later("missing" if missing else "refused", text or "nobody answers")

    def _later(self, kind: str | None, text: str) -> None:
        """Ask again after a growing, jittered delay."""
        if kind is not None:
            self._on_trouble(kind, text)
        if self._retry is not None or not self._running:
            return
        delay_s = min(RETRY_CAP_S, 0.1 * 2 ** min(self._failures, 8)) * (0.5 + random.random() / 2)
        self._failures += 1
        self._retry = self._client._loop.call_later(delay_s, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self.wake()

    def _restart(self) -> None:
        for pull in self._pulls:
            pull.remaining = 0
            pull.number += 1
        self._failures = 0
        self.wake()

    def _tick(self) -> None:
        """Give up pulls of which nothing was heard for two heartbeats."""
        loop = self._client._loop
        self._watch = loop.call_later(HEARTBEAT_S, self._tick)
        for pull in self._pulls:
            if pull.remaining and loop.time() - pull.heard > 2.5 * HEARTBEAT_S and self._client.is_connected:
                self.silent += 1
                pull.remaining = 0
                pull.number += 1
                log.warning("a pull from %s fell silent and is asked again", self._subject)
        self.wake()


class _Pull:
    __slots__ = ("heard", "inbox", "listener", "number", "remaining")

    def __init__(self, inbox: str) -> None:
        self.inbox = inbox
        self.listener: Listener | None = None
        self.number = 0
        self.remaining = 0
        self.heard = 0.0
