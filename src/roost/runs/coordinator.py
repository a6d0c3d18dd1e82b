"""The coordinator: a worker whose tasks are workflows.

A workflow is delivered like a task; a redelivery resumes it, on whichever instance gets it. What differs
from a worker: crashes do not count as attempts, a run that only waits holds no slot, the outcome is stored
together with the run's state under the epoch, and a run whose code does not fit its record is parked.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from roost.contracts import Workflow
from roost.errors import HistoryMismatch, JetStreamError, Reject, TaskCancelled, TaskDead
from roost.observe import Trace
from roost.runs.cancelling import Stopped, cancel_below, end_cancelled
from roost.runs.core import Core
from roost.runs.epoch import TAKE_S, Fenced
from roost.runs.records import StateRecord, decode_state, encode
from roost.runs.run import Run
from roost.tasks.batch import Write, commit, guarded
from roost.tasks.delivery import Delivery
from roost.tasks.log import Log
from roost.tasks.outcomes import HandBack, OutcomeWriter
from roost.tasks.records import AttemptRecord
from roost.tasks.worker import Worker
from roost.transport.jetstream import WRONG_LAST_SEQUENCE

log = logging.getLogger("roost.runs")

PARKED_S = 60.0
"""How often a parked run is tried again: by then its code may have been replaced."""
MOST_CRASHES = 100
"""Attempts lost to dying processes after which a run is given up: its workflow kills them."""
MOST_WAITING = 10_000
"""Runs that one process keeps in memory while they wait."""

Execute = Callable[[Any, Run[Any]], Awaitable[Any]]


class Coordinator(Worker):
    """Executes up to `concurrency` workflows at once, and keeps any number more that wait."""

    _notes_starts = False  # the epoch records are the notes of who began when

    def __init__(
        self,
        tasks: Log,
        workflow: Workflow[Any, Any],
        execute: Execute,
        *,
        concurrency: int,
        instance: str,
        deps: Any,
    ) -> None:
        super().__init__(tasks, workflow, self._coordinate, concurrency=concurrency, instance=instance)
        self._execute = execute
        self._deps = deps
        self._cores: dict[str, Core] = {}  # by token of the attempt
        self._writer = _Writer(tasks, self._cores)

    def _room(self) -> int:
        waiting = sum(core.waiting for core in self._cores.values())
        active = len(self._running) - waiting
        return min(self._concurrency - active, MOST_WAITING - len(self._running))

    def _counted(self, past: list[AttemptRecord]) -> int:
        return sum(not attempt.get("lost") for attempt in past)

    def _changed(self) -> None:
        if self._pump is not None:
            self._pump.wake()

    async def _coordinate(self, value: Any, delivery: Delivery) -> Any:
        trace = Trace.parse(delivery.trace).child()
        core = Core(self._log, delivery, instance=self._instance, trace=trace, on_change=self._changed)
        try:
            await core.begin()
            await self._heed_state(core)
            self._cores[delivery.token] = core
            return await self._run_workflow(value, core)
        except Fenced as error:
            raise HandBack(str(error), None) from error
        except Stopped as error:
            await end_cancelled(self._log, delivery.ref, delivery.seq, by=error.by, reason=error.reason)
            self._answer(delivery, b"+ACK")
            raise HandBack(str(error), None) from error
        except HistoryMismatch as error:
            await self._park(core, error)
            raise HandBack(str(error), PARKED_S) from error

    async def _run_workflow(self, value: Any, core: Core) -> Any:
        main = asyncio.current_task()
        try:
            result = await self._execute(value, Run(core, self._deps))
        except asyncio.CancelledError:
            if core.halted is None:
                raise
            if main is not None:
                main.uncancel()
            raise core.halted from None
        except (TaskDead, TaskCancelled) as error:
            await core.fence.check()
            raise Reject(_without(error)) from error  # another attempt would read the same outcome
        except Exception:
            await core.fence.check()  # what befalls a workflow that was taken over is no failure of it
            raise
        finally:
            await core.close()
        if core.halted is not None:
            raise core.halted
        return result

    async def _heed_state(self, core: Core) -> None:
        """A run that is being cancelled is not resumed: its cancellation is finished instead."""
        if core.fresh:
            return
        record = await self._log.last(core.subjects.state, leader=True)
        state = decode_state(record.data, subject=core.subjects.state) if record is not None else None
        if state is not None and state["status"] == "cancelling":
            await cancel_below(self._log, core.run, by=state["by"], reason=state["reason"])
            raise Stopped(by=state["by"], reason=state["reason"])

    async def _park(self, core: Core, error: HistoryMismatch) -> None:
        self._log.journal.record("run_parked", subject=core.run, reason=str(error), level=logging.ERROR)
        state: StateRecord = {
            "status": "parked",
            "at": round(self._log.now_s(), 6),
            "by": self._instance,
            "reason": str(error),
        }
        try:
            await core.fence.write(core.subjects.state, encode(state))
        except (Fenced, JetStreamError) as refusal:
            log.info("the parking of run %s was not recorded: %s", core.run, refusal)

    def _finished(self, running: asyncio.Task[None]) -> None:
        delivery = self._running[running]
        self._cores.pop(delivery.token, None)
        super()._finished(running)


def _without(error: TaskDead | TaskCancelled) -> str:
    """Why a workflow has no outcome when a task that it needed has none."""
    if isinstance(error, TaskDead):
        return f"task {error.id} is dead: {error.letter.reason}"
    return f"task {error.id} was cancelled by {error.by}" + (f": {error.reason}" if error.reason else "")


class _Writer(OutcomeWriter):
    """Stores the end of a workflow and its run's state as one, under the epoch."""

    def __init__(self, tasks: Log, cores: dict[str, Core]) -> None:
        super().__init__(tasks)
        self._cores = cores

    async def _put(self, delivery: Delivery, subject: str, data: bytes, newest: int) -> None:
        core = self._cores.get(delivery.token)
        if core is None:  # it never began: its input could not be read, or its deadline had passed
            await super()._put(delivery, subject, data, newest)
            return
        state: StateRecord = {
            "status": "done" if data.startswith(b'{"status":"done"') else "dead",
            "at": round(self._log.now_s(), 6),
            "by": core.instance,
            "reason": "",
        }
        end = Write(subject, data, guarded(self._log.subjects.guard(delivery.ref), newest, delivery.trace))
        writes = [Write(core.subjects.state, encode(state), core.fence.guard), end]
        try:
            await commit(self._log.link, writes, timeout_s=TAKE_S)
        except JetStreamError as error:
            if error.err_code == WRONG_LAST_SEQUENCE:
                try:
                    await core.fence.check()
                except Fenced as fenced:
                    raise HandBack(str(fenced), None) from error
            raise
