"""Following outcomes: each of a contract's outcomes, at least once, in the order of the log.

A durable consumer with one delivery out at a time, so the order holds over all instances of the agent and
over their deaths: the next outcome is delivered when the last one has been acknowledged. A handler that
fails gets the same outcome again, with backoff, for as long as it takes: to go on would break the order, and
only the handler knows what may be left out. It says so with `Reject`, and sees in ``ctx.attempt`` how often it
was tried. An outcome that cannot be read (a stranger's record, a value of another model) would never get
better by itself: it is passed over, counted and told of.

One at a time is about 3,500 outcomes a second (Python 3.11, one machine, two slow cores), and 4,500 that are in
runs of other workflows and passed over.

What is repeated: the outcome in hand when its process died, and what a crash of the server forgot of the last
acknowledgements. A process that was paused for longer than the ack wait may end its call late, beside the next.
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
from roost.tasks.calling import HandlerLeft
from roost.tasks.delivery import nak
from roost.tasks.intake import SETTLE_S
from roost.tasks.log import Log, Record
from roost.tasks.marks import read_marks
from roost.tasks.outcome import Outcome, decode_outcome, whole
from roost.tasks.provision import Reported, report_config
from roost.tasks.records import Ref, error_record
from roost.transport import Message, Pump
from roost.transport.ackinfo import parse_ack

log = logging.getLogger("roost.tasks")

ACK_WAIT_S = 10.0
"""How long after the last sign of life another instance gets the outcome in hand, in seconds. All others wait for
that, so it is less than for a task."""
BACKOFF = Retry(base_s=0.2, cap_s=30)
"""Between tries of one outcome; their number does not count."""
AGAIN_S = 1.0
"""Delay of an outcome that came while another was in hand."""
END_S = 2.0
"""How long a cancelled handler may take to end, in seconds."""

Report = Callable[[Outcome[Any], Ref, Message, int], Awaitable[None]]
"""Gets the outcome, its task, the message, and how often this outcome has been delivered."""


class Reporter:
    """One instance's share in following what `what` says."""

    def __init__(self, tasks: Log, what: Reported, codec: Codec[Any], report: Report) -> None:
        self._log = tasks
        self._what = what
        self._codec = codec
        self._report = report
        self._pump: Pump | None = None
        self._running: asyncio.Task[None] | None = None
        self._seq = 0  # of the outcome in hand, or the last one
        self._reply = ""  # where it is answered
        self._answered = b""  # with what, once it was
        self._reported = 0  # the last outcome that the handler has taken
        self._beat: asyncio.TimerHandle | None = None
        self._ensuring: asyncio.Task[None] | None = None
        self._stopping = False

    async def start(self) -> None:
        """Begin where the last instance stopped. Raises ConfigMismatch, StreamMissing."""
        await self._ensure()
        client = self._log.link.client
        self._pump = Pump(
            client,
            self._log.stream,
            self._what.durable,
            on_message=self._take,
            room=lambda: 0 if self._running is not None else 1,
            on_trouble=self._trouble,
        )
        client.on_reconnect.append(self._reconnected)
        self._heartbeat()
        self._pump.start()

    @property
    def running(self) -> int:
        """Outcomes at work: one, or none."""
        return int(self._running is not None)

    def quiesce(self) -> None:
        """Take no further outcome."""
        self._stopping = True
        if self._pump is not None:
            self._pump.stop()
        if self._reconnected in self._log.link.client.on_reconnect:
            self._log.link.client.on_reconnect.remove(self._reconnected)

    async def stop(self, grace_s: float) -> None:
        """Let the handler finish for `grace_s` seconds, else hand its outcome back."""
        self.quiesce()
        running = self._running
        if running is not None:
            await asyncio.wait([running], timeout=max(0.0, grace_s))
            if not running.done():
                running.cancel()
                await asyncio.wait([running], timeout=END_S)
        if self._beat is not None:
            self._beat.cancel()
        if self._ensuring is not None:
            self._ensuring.cancel()
            await asyncio.gather(self._ensuring, return_exceptions=True)

    async def _ensure(self) -> None:
        config = report_config(self._log.subjects, self._what, ACK_WAIT_S)
        await self._log.ensure_consumer_of(self._what.durable, config)

    def _trouble(self, kind: str, text: str) -> None:
        self._log.journal.record(f"pull_{kind}", subject=str(self._what), reason=text)
        if kind == "missing" and self._ensuring is None:
            self._reported = 0  # whoever deleted it may want to hear everything again
            self._ensuring = asyncio.get_running_loop().create_task(
                self._ensure_again(), name="roost-ensure-consumer"
            )

    async def _ensure_again(self) -> None:
        """Make the consumer again that is missing: it begins at the first outcome. Not at once, as workers do."""
        try:
            await asyncio.sleep(SETTLE_S * (0.5 + random.random()))
            await self._ensure()
        except RoostError as error:
            self._log.journal.record("consumer_unavailable", subject=str(self._what), reason=str(error))
        finally:
            self._ensuring = None

    def _take(self, message: Message) -> None:
        try:
            ack = parse_ack(message.reply)
        except ValueError as error:
            self._log.journal.record("outcome_refused", subject=message.subject, reason=str(error))
            return
        if self._stopping:
            self._send(message.reply, b"-NAK")
        elif self._running is not None:
            if ack.stream_seq == self._seq:  # this process was silent for too long, and has got it again
                self._reply = message.reply
                self._log.journal.count("redelivered_in_hand")
            else:
                self._send(message.reply, nak(AGAIN_S))
        elif ack.stream_seq == self._reported:  # only its acknowledgement was lost
            self._send(message.reply, b"+ACK")
            self._log.journal.count("redelivered_after_report")
            if self._pump is not None:
                self._pump.wake()
        else:
            self._seq, self._reply, self._answered = ack.stream_seq, message.reply, b""
            self._running = asyncio.get_running_loop().create_task(
                self._one(message, ack.delivered), name=f"roost-report-{self._what.name}"
            )
            self._running.add_done_callback(self._finished)

    def _finished(self, running: asyncio.Task[None]) -> None:
        self._running = None
        if not running.cancelled() and running.exception() is not None:
            log.error("an outcome could not be reported and is delivered again", exc_info=running.exception())
        if self._pump is not None:
            self._pump.wake()

    async def _one(self, message: Message, delivered: int) -> None:
        journal, subject = self._log.journal, message.subject
        parsed = self._log.subjects.parse(subject)
        if parsed is None or parsed[0] != "end":
            journal.record("outcome_refused", subject=subject, reason="its subject does not name a task")
            self._answer(b"+ACK")
            return
        ref = parsed[1]
        if not self._what.wants(ref.run):
            self._answer(b"+ACK")
            return
        try:
            key = ref.id.partition(":")[2] or ref.id
            record = Record(subject, self._seq, message.data, marks=read_marks(message.head))
            record = await whole(self._log, record, self._codec)
            outcome = decode_outcome(record, ref, key, self._codec)
        except InvalidMessage as error:
            journal.record("outcome_unreadable", subject=subject, reason=str(error), level=logging.ERROR)
            self._answer(b"+ACK")
            return
        try:
            await self._report(outcome, ref, message, delivered)
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if self._stopping or (current is not None and current.cancelling()):
                self._answer(b"-NAK")
                raise
            left = HandlerLeft("it raised CancelledError although nobody cancelled it")
            self._failed(subject, left, delivered)
        except Reject as error:
            journal.record("report_passed_over", subject=subject, reason=error.reason)
            self._answer(b"+ACK")
        except (Exception, SystemExit) as error:
            self._failed(subject, error, delivered)
        else:
            self._reported = self._seq
            self._answer(b"+ACK")
            journal.count(f"reported:{self._what.name}")

    def _failed(self, subject: str, error: BaseException, delivered: int) -> None:
        """The same outcome again, later: the others wait behind it."""
        if isinstance(error, RetryLater):
            later_s, level = error.after_s, logging.DEBUG
        else:
            later_s, level = BACKOFF.delay_s(delivered, random.random()), logging.WARNING
            log.info("the report of %s failed", subject, exc_info=error)
        record = error_record(error)
        reason = f"{record['type']}: {record['message']}"
        self._log.journal.record("report_failed", subject=subject, reason=reason, level=level)
        self._answer(nak(later_s))

    def _answer(self, word: bytes) -> None:
        """Say what became of the outcome in hand."""
        self._answered = word
        self._send(self._reply, word)

    def _reconnected(self) -> None:
        """The last answer may have been lost with the connection; that it comes twice does no harm."""
        if self._running is None and self._answered:
            self._send(self._reply, self._answered)

    def _send(self, reply: str, word: bytes) -> None:
        try:
            self._log.link.client.send(reply, word)
        except RoostError:
            self._log.journal.count("ack_not_sent")  # it is delivered again: at least once

    def _heartbeat(self) -> None:
        self._beat = asyncio.get_running_loop().call_later(ACK_WAIT_S / 3, self._heartbeat)
        if self._running is not None and not self._answered:
            self._send(self._reply, b"+WPI")
