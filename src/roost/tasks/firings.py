"""What the server's schedules send to the workers of one contract: made into records of the log, once each.

A schedule that was fired twice around a crash of the server, or delivered twice around one of a worker, makes one
record: the id of the task says which firing it is of, and a wake which task it is for. Whoever can write here what
no schedule sent can write schedules as well.
"""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime
from typing import Any

from roost.contracts import Task, Workflow
from roost.errors import Conflict, RoostError
from roost.tasks.deadlines import due
from roost.tasks.delays import Delays
from roost.tasks.delivery import TRACE_LENGTH, nak
from roost.tasks.log import Log
from roost.tasks.marks import find, read_marks, renewed
from roost.tasks.outcomes import HandBack
from roost.tasks.provision import consumer_of_fired
from roost.tasks.records import Ref
from roost.tasks.submit import Item, Submitter
from roost.tasks.timetable import Timetable
from roost.transport import Message, Pump

AT_ONCE = 32
"""Firings that one worker has in hand."""
SUBMIT_S = 20.0
"""Seconds for storing the task of a firing; then it is delivered again."""
AGAIN_S = 1.0
LOOK_S = 60.0
"""How often a worker that finds no consumer makes sure that there is no stream of schedules."""
REVISION = "Roost-Revision"
"""Of the definition of a schedule: two that differ may fire at the same time."""

_fired_at = re.compile(r"at\.([0-9]{1,15})\.([A-Za-z0-9_:-]+)\.([A-Za-z0-9_:-]+)").fullmatch
_fired_cron = re.compile(r"cron\.([A-Za-z0-9_-]{1,64})").fullmatch
_is_revision = re.compile("[a-z0-9]{1,16}").fullmatch


class Firings:
    """Takes what fires for one contract, beside the worker that runs its tasks."""

    def __init__(self, log: Log, contract: Task[Any, Any] | Workflow[Any, Any], delays: Delays) -> None:
        self._log = log
        self._contract = contract
        self._delays = delays
        self._submitter = Submitter(log)
        self._timetable = Timetable(log)
        self._stopping = False
        self._busy: set[asyncio.Task[None]] = set()
        self._pump: Pump | None = None
        self._looked_at: float | None = None
        self._looking: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to take them. Where nothing was ever scheduled, nobody answers for the consumer; it is asked again."""
        self._pump = Pump(
            self._log.link.client,
            self._timetable.stream,
            consumer_of_fired(self._contract.name),
            on_message=self._take,
            room=lambda: AT_ONCE - len(self._busy),
            on_trouble=self._trouble,
        )
        self._pump.start()

    def hurry(self) -> None:
        """There are schedules now."""
        if self._pump is not None:
            self._pump.hurry()

    def quiesce(self) -> None:
        """Take no more."""
        self._stopping = True
        if self._pump is not None:
            self._pump.stop()

    async def stop(self) -> None:
        """Leave what is in hand to others."""
        rest = [*self._busy, *([self._looking] if self._looking is not None else [])]
        for one in rest:
            one.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    def _trouble(self, kind: str, text: str) -> None:
        if kind != "missing":
            self._log.journal.record(
                f"pull_{kind}", subject=f"schedules of {self._contract.name}", reason=text
            )
            return
        loop = asyncio.get_running_loop()
        if self._looking is None and (self._looked_at is None or loop.time() - self._looked_at > LOOK_S):
            self._looked_at = loop.time()
            self._looking = loop.create_task(self._look(), name="roost-look-for-schedules")

    async def _look(self) -> None:
        """If there are schedules, this contract's consumer should be there: somebody has removed it."""
        try:
            if await self._timetable.exists():
                await self._timetable.ensure_consumer(self._contract.name)
        except RoostError as error:
            self._log.journal.record(
                "schedules_unavailable", subject=f"task {self._contract.name}", reason=str(error)
            )
        finally:
            self._looking = None

    def _take(self, message: Message) -> None:
        if self._stopping:
            self._answer(message, b"-NAK")
            return
        busy = asyncio.get_running_loop().create_task(self._handle(message), name="roost-firing")
        self._busy.add(busy)
        busy.add_done_callback(self._done)

    def _done(self, busy: asyncio.Task[None]) -> None:
        self._busy.discard(busy)
        if self._pump is not None:
            self._pump.wake()

    async def _handle(self, message: Message) -> None:
        try:
            await self._store(message)
            word = b"+ACK"
        except (ValueError, Conflict) as error:
            self._log.journal.record("firing_refused", subject=message.subject, reason=str(error))
            word = b"+TERM"
        except HandBack as error:
            word = nak(error.after_s or AGAIN_S)
        except RoostError as error:
            self._log.journal.record("firing_delayed", subject=message.subject, reason=str(error))
            word = nak(AGAIN_S)
        except asyncio.CancelledError:
            self._answer(message, b"-NAK")
            raise
        self._answer(message, word)

    def _answer(self, message: Message, word: bytes) -> None:
        try:
            self._log.link.client.send(message.reply, word)
        except RoostError:
            self._log.journal.count("ack_not_sent")  # it is delivered again, and recognised then

    async def _store(self, message: Message) -> None:
        """Raises ValueError for what is no firing, HandBack, and the errors of writes."""
        name = self._contract.name
        rest = message.subject.removeprefix(f"{self._log.subjects.namespace}.fired.{name}.")
        if found := _fired_at(rest):
            await self._delays.wake(Ref(found[2], name, found[3]), int(found[1]))
            return
        found = _fired_cron(rest)
        if found is None:
            raise ValueError("its subject names no task and no schedule")
        id = firing_id(name, found[1], message.head)
        trace = find(message.head, "traceparent")[:TRACE_LENGTH]
        marks = renewed(read_marks(message.head), due(self._contract, self._log.now_s()))
        await self._submitter.submit(Item(Ref(id, name, id), message.data, trace, marks), timeout_s=SUBMIT_S)
        self._log.journal.count(f"fired:{found[1]}")


def firing_id(name: str, schedule: str, head: bytes) -> str:
    """The id of the task that a firing makes.

    A firing has no name of its own, but the server says when the next one is: that is the same when it has forgotten
    in a crash that it has fired already. Raises ValueError when it does not say.
    """
    text, revision = find(head, "Nats-Schedule-Next"), find(head, REVISION)
    if not _is_revision(revision):
        raise ValueError(f"it has no {REVISION}")
    try:
        following = datetime.fromisoformat(text)
        stamp = following.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    except (ValueError, OverflowError) as error:
        raise ValueError(f"Nats-Schedule-Next is no time: {text[:60]!r}") from error
    return f"{name}:{schedule}:{stamp}-{revision}"
