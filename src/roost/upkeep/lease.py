"""Which one of many processes does the upkeep of a namespace.

A stream of one marker record, and one consumer of it that lets a single delivery be out. Who has been delivered the
marker holds the lease and says so again and again (``+WPI``). Who ends hands it back (``-NAK``), and the next one has
it at once; who dies or freezes says nothing, and the next one has it after the ack wait. All others wait with one
open pull each.

This is for economy only. Whoever was frozen may go on for a moment beside the next holder, so whatever is done under
the lease must do no harm when two do it.
"""

from __future__ import annotations

import asyncio
from typing import Any

from roost.errors import ConfigError, JetStreamError, RoostError
from roost.tasks.copies import copies
from roost.tasks.log import Log
from roost.transport import Message, Pump
from roost.transport.headers import block
from roost.transport.jetstream import (
    CONSUMER_NOT_FOUND,
    STREAM_NAME_IN_USE,
    STREAM_NOT_FOUND,
    WRONG_LAST_SEQUENCE,
)
from roost.upkeep.names import HOLDER, lease_stream, lease_subject

WAIT_S = 10.0
"""After so many seconds without a sign of life of its holder another process has the lease."""
PULL_S = 60.0
PULL_BEAT_S = 20.0
"""How long one pull waits for the marker, and the pause between the server's signs of life to it, in seconds."""
BEATS = 4
"""Signs of life within the ack wait."""


class Lease:
    """One process's share in the lease of a namespace. `stop` ends it."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._stream = lease_stream(log.subjects.namespace)
        self._subject = lease_subject(log.subjects.namespace)
        self._reply = ""
        self._alive_at = 0.0  # loop time at which the last sign of life was sent that has arrived
        self._pump: Pump | None = None
        self._news = asyncio.Event()

    @property
    def held(self) -> bool:
        """Whether nobody else can have it yet, by the clock of this process."""
        return bool(self._reply) and asyncio.get_running_loop().time() < self._alive_at + WAIT_S

    async def take(self) -> None:
        """Wait until it is ours. Raises the errors of requests, PermissionDenied among them."""
        self._reply = ""
        while not self._reply:
            await self._ensure()
            if self._pump is None:
                self._pump = Pump(
                    self._log.link.client,
                    self._stream,
                    HOLDER,
                    on_message=self._given,
                    room=lambda: 0 if self._reply else 1,
                    on_trouble=self._trouble,
                    expires_s=PULL_S,
                    heartbeat_s=PULL_BEAT_S,
                )
                self._pump.start()
            self._news.clear()
            self._pump.wake()
            await self._news.wait()

    async def keep(self) -> None:
        """Say that it is held, until somebody else may have it."""
        loop = asyncio.get_running_loop()
        beat_s = WAIT_S / BEATS
        while True:
            await asyncio.sleep(beat_s)
            if not self.held:  # this process stood still, or nobody heard it
                self._reply = ""
                return
            sent_at = loop.time()
            try:
                await self._log.link.requests.ask(self._reply, b"+WPI", timeout_s=beat_s)
                self._alive_at = sent_at
            except RoostError:
                self._log.journal.count("lease_not_confirmed")

    def stop(self) -> None:
        """Let the next one have it at once, if it is held."""
        if self._pump is not None:
            self._pump.stop()
            self._pump = None
        self._send(self._reply, b"-NAK")
        self._reply = ""

    def _given(self, message: Message) -> None:
        if self._pump is None or self._reply:  # too late, or twice
            self._send(message.reply, b"-NAK")
            return
        self._reply, self._alive_at = message.reply, asyncio.get_running_loop().time()
        self._news.set()

    def _trouble(self, kind: str, text: str) -> None:
        """Look whether the marker is there; the pump tries again by itself."""
        self._log.journal.count(f"lease_not_pulled:{kind}")
        self._news.set()

    def _send(self, reply: str, word: bytes) -> None:
        if not reply:
            return
        try:
            self._log.link.client.send(reply, word)
        except RoostError:
            self._log.journal.count("lease_not_released")  # the next one has it after the ack wait

    async def _ensure(self) -> None:
        """Make the marker and its consumer unless they are there."""
        call = self._log.link.jetstream.call
        try:
            await call(f"CONSUMER.INFO.{self._stream}.{HOLDER}")
            return
        except JetStreamError as error:
            if error.err_code not in (STREAM_NOT_FOUND, CONSUMER_NOT_FOUND):
                raise
        try:
            await call(f"STREAM.CREATE.{self._stream}", self._config())
        except JetStreamError as error:
            if error.err_code != STREAM_NAME_IN_USE:
                raise ConfigError(f"the lease of upkeep could not be made: {error}") from error
        try:
            head = block(("Nats-Expected-Last-Subject-Sequence", "0"))
            await self._log.link.jetstream.publish(self._subject, b"", head)
        except JetStreamError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise
        consumer = {
            "durable_name": HOLDER,
            "filter_subject": self._subject,
            "ack_policy": "explicit",
            "ack_wait": int(WAIT_S * 1e9),
            "max_deliver": -1,
            "max_ack_pending": 1,
            "max_waiting": 4096,
        }
        await call(
            f"CONSUMER.CREATE.{self._stream}.{HOLDER}.{self._subject}",
            {"stream_name": self._stream, "config": consumer, "action": ""},
        )

    def _config(self) -> dict[str, Any]:
        return {
            "name": self._stream,
            "description": "Roost: who does the upkeep of this namespace",
            "subjects": [self._subject],
            "storage": "file",
            "retention": "limits",
            "discard": "new",
            "max_msgs": 1,
            "num_replicas": copies(self._log.link),
        }
