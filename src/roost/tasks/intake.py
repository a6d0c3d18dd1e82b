"""Taking deliveries of one contract: pulled, kept alive by heartbeats, handed back, and stopped when cancelled.

What is done with a delivery is the worker's (`worker`), or the coordinator's.
"""

from __future__ import annotations

import asyncio
import logging
import math
import random
from typing import Any, Literal

from roost.contracts import Task, Workflow
from roost.errors import PermissionDenied, RoostError
from roost.tasks.delays import Delays
from roost.tasks.delivery import Delivery, nak
from roost.tasks.firings import Firings
from roost.tasks.gate import Gate
from roost.tasks.log import Log
from roost.tasks.order import Order
from roost.tasks.outcomes import HandBack, OutcomeWriter
from roost.tasks.records import NoteRecord, encode_note
from roost.transport import Listener, Message, Pump

log = logging.getLogger("roost.tasks")

HAND_BACK_S = 1.0
"""Delay of a delivery that is handed back because the server did not answer."""
NOT_ALLOWED_CAP_S = 60.0
"""And at most, twice as long each time, if this user lacks a permission: another worker may have it."""
SETTLE_S = 0.5
"""About how long after the news of its deletion a consumer is made again, in seconds."""
CLOCK_S = 0.5
"""How far the known server time may be off, in seconds."""


class Intake:
    """Takes up to `concurrency` deliveries of one contract at once in this process; a `Worker` says what is done."""

    _notes_starts = True

    def __init__(
        self,
        tasks: Log,
        task: Task[Any, Any] | Workflow[Any, Any],
        *,
        concurrency: int,
        instance: str,
        gate: Gate | None = None,
    ) -> None:
        self._log = tasks
        self._task = task
        self._concurrency = concurrency
        self._instance = instance
        self._gate = gate
        self._writer = OutcomeWriter(tasks)
        self._order = Order(tasks) if isinstance(task, Task) else None
        self._delays = Delays(tasks)
        self._firings = Firings(tasks, task, self._delays)
        self._running: dict[asyncio.Task[None], Delivery] = {}
        self._at_work: dict[int, Delivery] = {}  # the same, by the sequence of what was delivered
        self._pump: Pump | None = None
        self._beat: asyncio.TimerHandle | None = None
        self._since_s = 0.0  # server time; older tasks are looked up before they run
        self._back_s = 0.0  # server time of the last reconnect
        self._stopping = False
        self._ensuring: asyncio.Task[None] | None = None
        self._cancels: Listener | None = None
        self._checks: set[asyncio.Task[None]] = set()

    @property
    def running(self) -> int:
        """Handlers at work."""
        return len(self._running)

    async def start(self) -> None:
        """Begin to take work. Raises ConfigMismatch, StreamMissing."""
        durable, self._since_s = await self._log.ensure_consumer(self._task)
        self._pump = Pump(
            self._log.link.client,
            self._log.stream,
            durable,
            on_message=self._take,
            room=self._room,
            on_trouble=self._trouble,
        )
        self._log.link.client.on_reconnect.append(self._reconnected)
        client = self._log.link.client
        self._cancels = client.listen(
            f"{self._log.subjects.namespace}.cancel.{self._task.name}.>", self._cancel_asked
        )
        self._heartbeat()
        if self._gate is not None:
            self._gate.attach(self._pump)
        self._pump.start()
        self._firings.start()

    def _room(self) -> int:
        """How many more deliveries may be taken on."""
        room = self._concurrency - len(self._running)
        return room if self._gate is None else self._gate.room(room)

    def quiesce(self) -> None:
        """Take no new work; what runs goes on."""
        self._stopping = True
        if self._gate is not None:
            self._gate.stop()
        if self._pump is not None:
            self._pump.stop()
        self._firings.quiesce()
        if self._reconnected in self._log.link.client.on_reconnect:
            self._log.link.client.on_reconnect.remove(self._reconnected)

    async def stop(self, grace_s: float) -> None:
        """Take no new work, let handlers finish for `grace_s` seconds, hand back the rest."""
        self.quiesce()
        if self._running:
            await asyncio.wait(list(self._running), timeout=max(0.0, grace_s))
        rest = list(self._running)
        for running in rest:
            running.cancel()
        if rest:
            await asyncio.wait(rest, timeout=2.0)
        if self._gate is not None:
            await self._gate.close()
        if self._beat is not None:
            self._beat.cancel()
        if self._cancels is not None:
            self._log.link.client.unlisten(self._cancels)
        await self._firings.stop()
        others = [*self._checks, *([self._ensuring] if self._ensuring is not None else [])]
        for other in others:
            other.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    # Deliveries ---------------------------------------------------------------------------------

    def _take(self, message: Message) -> None:
        journal = self._log.journal
        try:
            delivery = Delivery.of(message, self._log.subjects)
            if delivery.turn is not None and self._order is None:
                raise ValueError("a workflow has no order")
        except ValueError as error:
            journal.record("task_refused", subject=message.subject, reason=f"not a task record: {error}")
            self._log.link.client.send(message.reply, b"+TERM not a task record")
            return
        if self._stopping:
            self._answer(delivery, b"-NAK")
            return
        there = self._at_work.get(delivery.seq)
        if there is not None and there.attempt:  # the server forgot of it, or this process stood still
            self._answer(delivery, nak(self._task.ack_wait_s / 2))
            journal.count("delivered_while_at_work")
            return
        if self._gate is not None:
            self._gate.take(delivery)
        loop = asyncio.get_running_loop()
        delivery.begun = loop.time()
        running = loop.create_task(self._run(delivery), name=f"roost-task-{delivery.ref.name}")
        self._running[running] = self._at_work[delivery.seq] = delivery
        delivery.taken = delivery.seq
        running.add_done_callback(self._finished)

    def _finished(self, running: asyncio.Task[None]) -> None:
        delivery = self._running.pop(running)
        if self._at_work.get(delivery.taken) is delivery:
            del self._at_work[delivery.taken]
        if self._gate is not None:
            self._gate.left(delivery)
        if self._pump is not None:
            self._pump.wake()
        if not running.cancelled() and running.exception() is not None:
            log.error("a task could not be processed and is delivered again", exc_info=running.exception())

    def _answer(self, delivery: Delivery, word: bytes) -> None:
        try:
            self._log.link.client.send(delivery.reply, word)
        except RoostError:
            self._log.journal.count("ack_not_sent")  # it is delivered again, and recognised then

    def _heartbeat(self) -> None:
        """Tell the server of each delivery still at work, at a third of the ack wait; the first time, note its start.

        So a long first attempt is to be seen while it runs, and counts if its process dies.
        """
        loop = asyncio.get_running_loop()
        period_s = self._task.ack_wait_s / 3
        self._beat = loop.call_later(period_s, self._heartbeat)
        young = loop.time() - period_s / 2
        for delivery in self._running.values():
            if delivery.begun < young:
                self._answer(delivery, b"+WPI")
                if self._notes_starts and delivery.attempt and not delivery.noted:
                    started_s = self._log.now_s() - (loop.time() - delivery.begun)
                    self._note_later(delivery, "started", started_s)
                    delivery.noted = True

    def _reconnected(self) -> None:
        """A server that crashed may have forgotten the last acks and deliveries: older tasks are looked up."""
        self._back_s = self._log.now_s() + CLOCK_S
        self._since_s = max(self._since_s, self._back_s)
        for running, delivery in self._running.items():  # the word of a cancellation may have been missed
            self._check(running, delivery)

    def _cancel_asked(self, message: Message) -> None:
        """Somebody says that a task was cancelled: look, if it runs here."""
        place = message.subject.split(".")[3:]
        for running, delivery in self._running.items():
            if [delivery.ref.run, delivery.ref.id] == place:
                self._check(running, delivery)

    def _check(self, running: asyncio.Task[None], delivery: Delivery) -> None:
        check = asyncio.get_running_loop().create_task(
            self._stop_if_ended(running, delivery), name="roost-check-cancelled"
        )
        self._checks.add(check)
        check.add_done_callback(self._checks.discard)

    async def _stop_if_ended(self, running: asyncio.Task[None], delivery: Delivery) -> None:
        """Cancel a handler whose task has an outcome already; the record is believed, not the message."""
        try:
            end = await self._log.last(self._log.subjects.end(delivery.ref), leader=True)
        except RoostError as error:
            self._log.journal.count(f"cancel_not_checked:{type(error).__name__}")
            return
        if end is not None and end.data.startswith(b'{"status":"cancelled"') and not running.done():
            delivery.withdrawn = True
            running.cancel()

    def _trouble(self, kind: str, text: str) -> None:
        self._log.journal.record(f"pull_{kind}", subject=f"task {self._task.name}", reason=text)
        if kind == "missing" and self._ensuring is None:
            self._since_s = math.inf  # until it is known how old the consumer is that delivers now
            self._ensuring = asyncio.get_running_loop().create_task(
                self._ensure_again(), name="roost-ensure-consumer"
            )

    async def _ensure_again(self) -> None:
        """Make the consumer again that is missing.

        Not at once: the server tells of a deletion before it has finished it, and a consumer made meanwhile loses
        its files (error 10012) or its first delivery to that. Nor all workers in the same instant.
        """
        try:
            await asyncio.sleep(SETTLE_S * (0.5 + random.random()))
            _, created_s = await self._log.ensure_consumer(self._task)
            self._since_s = max(created_s, self._back_s)
        except RoostError as error:
            self._log.journal.record(
                "consumer_unavailable", subject=f"task {self._task.name}", reason=str(error)
            )
        finally:
            self._ensuring = None

    async def _process(self, delivery: Delivery) -> None:
        """What becomes of a delivery. Raises HandBack and RoostError, after which it is delivered again."""
        raise NotImplementedError

    async def _run(self, delivery: Delivery) -> None:
        try:
            await self._process(delivery)
        except asyncio.CancelledError:
            if delivery.withdrawn:
                await self._withdraw(delivery)
                return
            self._return(delivery)
            self._answer(delivery, b"-NAK")
            self._log.journal.record(
                "task_handed_back", subject=str(delivery.ref), reason="shutting down", level=logging.INFO
            )
        except HandBack as error:
            self._hand_back(delivery, error.after_s, str(error))
        except PermissionDenied as error:
            after_s = min(NOT_ALLOWED_CAP_S, HAND_BACK_S * 2 ** min(delivery.delivered - 1, 10))
            reason = (
                f"this worker's user may not {error.action} on {error.subject!r}, which the task needs; it waits for a "
                f"worker that may (`roost permissions` lists what one needs), and is looked at again in {after_s:g} s"
            )
            self._hand_back(delivery, after_s, reason)
        except RoostError as error:
            self._hand_back(delivery, HAND_BACK_S, str(error))

    async def _withdraw(self, delivery: Delivery) -> None:
        """The task was cancelled while its handler ran."""
        self._log.journal.record("task_cancelled", subject=str(delivery.ref), level=logging.INFO)
        try:
            await self._settle(delivery)
        except (HandBack, RoostError) as error:
            self._hand_back(delivery, HAND_BACK_S, str(error))

    async def _settle(self, delivery: Delivery) -> None:
        """Acknowledge a delivery whose task has its outcome; first, the next in the queue of its key gets its turn."""
        if delivery.turn is not None and self._order is not None:
            await self._order.hand_on(delivery.turn, again=delivery.delivered > 1 or not delivery.token)
        self._answer(delivery, b"+ACK")

    def _hand_back(self, delivery: Delivery, after_s: float | None, reason: str) -> None:
        self._log.journal.record("task_handed_back", subject=str(delivery.ref), reason=reason)
        if after_s is not None:
            self._answer(delivery, nak(after_s))

    def _return(self, delivery: Delivery) -> None:
        """Take back the note that this attempt has started: being told to stop is no failure of the task."""
        if delivery.noted:
            self._note_later(delivery, "returned", self._log.now_s())

    def _note_later(self, delivery: Delivery, event: Literal["started", "returned"], at_s: float) -> None:
        """Write a note without waiting for it to be stored."""
        note: NoteRecord = {"k": delivery.attempt, "event": event, "by": self._instance, "at": at_s}
        try:
            subject = self._log.subjects.note(delivery.ref, delivery.attempt)
            self._log.link.client.send(subject, encode_note(note))
        except RoostError:
            self._log.journal.count("note_not_sent")
