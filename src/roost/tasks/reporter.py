"""Following outcomes: each of a contract's outcomes, at least once, in the order of the log.

A durable consumer with one delivery out at a time, so the order holds over all instances of the agent and
over their deaths: the next outcome is delivered when the last one has been acknowledged. A handler that
fails gets the same outcome again, with backoff, for as long as it takes; `Reject` passes it over, counted.
"""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Awaitable, Callable
from typing import Any

from roost.codec import Codec
from roost.contracts import Retry
from roost.errors import InvalidMessage, Reject, RetryLater, RoostError
from roost.tasks.log import Log, Record
from roost.tasks.outcome import Outcome, decode_outcome
from roost.tasks.provision import report_config, report_name
from roost.tasks.records import Ref
from roost.transport import Message, Pump
from roost.transport.ackinfo import parse_ack

log = logging.getLogger("roost.tasks")

ACK_WAIT_S = 30.0
BACKOFF = Retry(attempts=1_000_000, base_s=0.2, cap_s=30)

Report = Callable[[Outcome[Any], Ref, Message], Awaitable[None]]


class Reporter:
    """One instance's share in following the outcomes of one contract.

    `wants` says which runs are followed; the outcomes of others are passed over.
    """

    def __init__(
        self,
        tasks: Log,
        agent: str,
        name: str,
        codec: Codec[Any],
        report: Report,
        *,
        suffix: str,
        wants: Callable[[str], bool],
    ) -> None:
        self._log = tasks
        self._agent = agent
        self._name = name
        self._codec = codec
        self._report = report
        self._suffix = suffix
        self._wants = wants
        self._pump: Pump | None = None
        self._running: asyncio.Task[None] | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._reply = ""
        self._failures = 0
        self._stopping = False

    async def start(self) -> None:
        """Begin where the last instance stopped. Raises ConfigMismatch, StreamMissing."""
        durable = report_name(self._agent, self._name, self._suffix)
        await self._log.ensure_consumer_of(
            durable, report_config(self._log.subjects, durable, self._name, ACK_WAIT_S)
        )
        self._pump = Pump(
            self._log.link.client,
            self._log.stream,
            durable,
            on_message=self._take,
            room=lambda: 0 if self._running is not None else 1,
            on_trouble=lambda kind, text: self._log.journal.record(
                f"pull_{kind}", subject=durable, reason=text
            ),
        )
        self._heartbeat()
        self._pump.start()

    def quiesce(self) -> None:
        """Take no further outcome."""
        self._stopping = True
        if self._pump is not None:
            self._pump.stop()

    async def stop(self, grace_s: float) -> None:
        """Let the handler finish for `grace_s` seconds, else hand its outcome back."""
        self.quiesce()
        if self._running is not None:
            await asyncio.wait([self._running], timeout=max(0.0, grace_s))
        if self._running is not None:
            self._running.cancel()
            await asyncio.gather(self._running, return_exceptions=True)
        if self._beat is not None:
            self._beat.cancel()

    def _take(self, message: Message) -> None:
        if self._stopping:
            self._answer(message.reply, b"-NAK")
            return
        self._reply = message.reply
        self._running = asyncio.get_running_loop().create_task(
            self._one(message), name=f"roost-report-{self._name}"
        )
        self._running.add_done_callback(self._finished)

    def _finished(self, running: asyncio.Task[None]) -> None:
        self._running = None
        self._reply = ""
        if not running.cancelled() and running.exception() is not None:
            log.error("an outcome could not be reported and is delivered again", exc_info=running.exception())
        if self._pump is not None:
            self._pump.wake()

    async def _one(self, message: Message) -> None:
        journal, subject = self._log.journal, message.subject
        parsed = self._log.subjects.parse(subject)
        if parsed is None or parsed[0] != "end" or not self._wants(parsed[1].run):
            self._answer(message.reply, b"+ACK")
            return
        ref = parsed[1]
        try:
            seq = parse_ack(message.reply).stream_seq
            outcome = decode_outcome(Record(subject, seq, message.data), ref, ref.id, self._codec)
        except (InvalidMessage, ValueError) as error:
            journal.record("outcome_unreadable", subject=subject, reason=str(error))
            self._answer(message.reply, b"+ACK")
            return
        try:
            await self._report(outcome, ref, message)
        except asyncio.CancelledError:
            self._answer(message.reply, b"-NAK")
            raise
        except Reject as error:
            journal.record("report_passed_over", subject=subject, reason=error.reason)
        except (Exception, SystemExit) as error:
            self._failures += 1
            later = (
                error.after_s
                if isinstance(error, RetryLater)
                else BACKOFF.delay_s(self._failures, random.random())
            )
            journal.record("report_failed", subject=subject, reason=f"{type(error).__name__}: {error}")
            self._answer(message.reply, b'-NAK {"delay": %d}' % int(later * 1e9))
            return
        self._failures = 0
        self._answer(message.reply, b"+ACK")
        journal.count(f"reported:{self._name}")

    def _answer(self, reply: str, word: bytes) -> None:
        try:
            self._log.link.client.send(reply, word)
        except RoostError:
            self._log.journal.count("ack_not_sent")  # it is delivered again: at least once

    def _heartbeat(self) -> None:
        self._beat = asyncio.get_running_loop().call_later(ACK_WAIT_S / 3, self._heartbeat)
        if self._reply:
            self._answer(self._reply, b"+WPI")
