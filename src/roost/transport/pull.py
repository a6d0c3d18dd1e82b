"""A pull pump: keeps a durable consumer's messages coming, never more than the handlers have room for.

Two pulls overlap, so that the next batch is asked for before the last one has run out. Each has an expiry
and idle heartbeats; one that falls silent is given up and asked again. nats-py's `fetch` stalls after a
timeout, takes a publisher's `Status` header for the server's and never looks at heartbeats.

Pull requests and their statuses: https://github.com/nats-io/nats-architecture-and-design, ADR-13.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable

from roost.errors import NotConnected, RoostError
from roost.transport.client import Client
from roost.transport.listener import Listener
from roost.transport.message import Message

PULLS = 2
EXPIRES_S = 20.0
HEARTBEAT_S = 2.0
"""Idle heartbeat asked of the server; two missed in a row and the pull is given up."""
SILENT_BEATS = 2.5
DELIVERED = "$JS.ACK."
"""How the reply subject of every delivery begins; whoever answers another could be made to publish anywhere."""
UNHEARD_S = 0.5
"""Nobody answers for a consumer that was made just now until the servers of a cluster have told each other of it."""
RETRY_BASE_S = 0.1
RETRY_CAP_S = 1.0
"""Longest pause between two tries: so much later than it could work goes on when the consumer has a leader again."""


class Pump:
    """Pulls from one consumer.

    `on_message` is called synchronously for each message. `room` says how many more messages may be taken
    on; call `wake` when it has grown. `on_trouble` hears of refusals, as (kind, text): `missing` when the
    consumer was deleted, or nobody has answered for it (or for JetStream) for half a second, `silent` when
    heartbeats stay away, `strayed` for a message on the inbox that is no delivery, `refused` for anything else.
    The pump tries again by itself, after 0.1 s to 1 s with jitter.

    More messages than there was room for may come only when a pull fell silent, was given up, and was
    answered after all: at most one batch.
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
        expires_s: float = EXPIRES_S,
        heartbeat_s: float = HEARTBEAT_S,
    ) -> None:
        self._client = client
        self._loop = client._loop
        self._subject = f"$JS.API.CONSUMER.MSG.NEXT.{stream}.{consumer}"
        self._on_message = on_message
        self._room = room
        self._on_trouble = on_trouble
        self._expires_s = expires_s
        self._heartbeat_s = heartbeat_s
        self._limits = f'"expires":{int(expires_s * 1e9)},"idle_heartbeat":{int(heartbeat_s * 1e9)}'
        self._pulls: list[_Pull] = []
        self._running = False
        self._failures = 0
        self._unheard_at = 0.0  # since when nobody answers
        self._watch: asyncio.TimerHandle | None = None
        self._retry: asyncio.TimerHandle | None = None
        self.silent = 0
        """Pulls given up because heartbeats stayed away."""

    def start(self) -> None:
        """Subscribe and send the first pull. Raises ConnectionClosed, WrongLoop."""
        inbox = self._client.new_inbox()
        self._pulls = [_Pull(f"{inbox}.{number}") for number in range(PULLS)]
        for pull in self._pulls:
            pull.listener = self._client.listen(f"{pull.inbox}.*", self._receiver(pull))
            pull.listener.on_denied = self._inbox_denied
        self._running = True
        self._client.on_reconnect.append(self._restart)
        self._client.on_denied.append(self._denied)
        self._tick()

    def stop(self) -> None:
        """Ask for nothing more.

        What the server has sent already still reaches `on_message`, which may hand it back: to pass it over
        would leave it waiting for the ack wait to end.
        """
        if not self._running:
            return
        self._running = False
        self._client.on_reconnect.remove(self._restart)
        self._client.on_denied.remove(self._denied)
        for timer in (self._watch, self._retry):
            if timer is not None:
                timer.cancel()
        self._watch = self._retry = None
        listeners = [pull.listener for pull in self._pulls if pull.listener is not None]
        for listener in listeners:
            self._client.end_interest(listener)

        def release() -> None:
            for listener in listeners:
                self._client.unlisten(listener)

        self._client.when_processed(release)

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
        pull.sent = pull.heard = self._loop.time()
        request = f'{{"batch":{batch},{self._limits}}}'.encode()
        try:
            self._client.send(self._subject, request, f"{pull.inbox}.{pull.number:x}")
        except NotConnected:
            pull.remaining = 0  # asked again by `_restart`, or by the next tick
        except RoostError as error:
            pull.remaining = 0
            self._later("refused", str(error))

    def _receiver(self, pull: _Pull) -> Callable[[Message], None]:
        def receive(message: Message) -> None:
            if not message.reply.startswith(DELIVERED):
                if message.reply or message.data:
                    self._on_trouble(
                        "strayed", f"{message.subject}: neither a delivery nor a status of the server"
                    )
                    return
                pull.heard = self._loop.time()
                self._status(pull, message)
                return
            pull.heard = self._loop.time()
            if pull.remaining:
                pull.remaining -= 1
            self._failures = 0
            self._unheard_at = 0.0
            self._on_message(message)
            if not pull.remaining:
                self.wake()

        return receive

    def _status(self, pull: _Pull, message: Message) -> None:
        status = message.status
        if status != 503:
            self._unheard_at = 0.0
        if not status or status == 100:  # an idle heartbeat
            return
        if not message.subject.endswith(f".{pull.number:x}"):
            return  # the end of an earlier pull that was given up
        pull.remaining = 0
        text = message.status_text
        low = text.lower()
        if status in (404, 408):
            if (
                pull.heard - pull.sent < self._expires_s / 4
            ):  # ended before its time: do not ask in a tight loop
                self._later("", text)
                return
            self._failures = 0
            self.wake()
        elif "deleted" in low:
            self._later("missing", text)
        elif status == 503:
            self._unheard_at = self._unheard_at or pull.heard
            lasting = pull.heard - self._unheard_at >= UNHEARD_S
            self._later("missing" if lasting else "", text or "nobody answers for this consumer")
        elif "leadership" in low or "shutdown" in low:
            self._later("", text)
        else:
            self._later("refused", f"{status} {text}")

    def _inbox_denied(self) -> None:
        self._give_up("the server does not allow this user to subscribe to its inbox")

    def _denied(self, action: str, subject: str) -> None:
        if action == "publish" and subject == self._subject:
            self._give_up(f"the server does not allow this user to publish on {subject}")

    def _give_up(self, why: str) -> None:
        for pull in self._pulls:
            pull.abandon()
        self._later("refused", why)

    def _later(self, kind: str, text: str) -> None:
        """Ask again after a growing, jittered delay; tell of it once."""
        if self._retry is not None or not self._running:
            return
        delay_s = min(RETRY_CAP_S, RETRY_BASE_S * 2 ** min(self._failures, 8)) * (0.5 + random.random() / 2)
        self._failures += 1
        self._retry = self._loop.call_later(delay_s, self._try_again)
        if kind:
            self._on_trouble(kind, text)

    def _try_again(self) -> None:
        self._retry = None
        self.wake()

    def hurry(self) -> None:
        """Ask again now if a retry is due later: what was missing is there."""
        if self._retry is not None:
            self._retry.cancel()
            self._retry = None
            self._failures = 0
            self.wake()

    def _restart(self) -> None:
        """A new connection: the pulls of the old one are gone."""
        for pull in self._pulls:
            pull.abandon()
        self._failures = 0
        self._unheard_at = 0.0
        self.wake()

    def _tick(self) -> None:
        """Give up pulls of which nothing was heard for two heartbeats."""
        if self._client.is_closed:
            return
        now = self._loop.time()
        self._watch = self._loop.call_later(self._heartbeat_s / 2, self._tick)
        for pull in self._pulls:
            if (
                pull.remaining
                and now - pull.heard > SILENT_BEATS * self._heartbeat_s
                and self._client.is_connected
            ):
                self.silent += 1
                pull.abandon()
                self._on_trouble("silent", f"no heartbeat for {now - pull.heard:.1f} s; it is asked again")
        self.wake()


class _Pull:
    """One of the overlapping pull requests."""

    __slots__ = ("heard", "inbox", "listener", "number", "remaining", "sent")

    def __init__(self, inbox: str) -> None:
        self.inbox = inbox
        self.listener: Listener | None = None
        self.number = 0  # of the request that is out, the last token of its reply subject
        self.remaining = 0
        self.heard = 0.0
        self.sent = 0.0

    def abandon(self) -> None:
        """Expect nothing more of the request that is out, and do not take its end for a later one's."""
        self.remaining = 0
        self.number += 1
