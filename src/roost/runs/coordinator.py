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
from roost.errors import HistoryMismatch, JetStreamError, Reject, RoostError, TaskCancelled, TaskDead
from roost.observe import Trace
from roost.runs.cancelling import Stopped, finish, finish_below
from roost.runs.core import Core
from roost.runs.epoch import Ended, Fence, Fenced, commit_in_turn, take_over
from roost.runs.records import RunSubjects, StateRecord, encode, inner_run
from roost.runs.run import Run
from roost.runs.slots import Slots
from roost.tasks.batch import Pairs, Write, guarded
from roost.tasks.calling import HandlerLeft
from roost.tasks.delivery import Delivery
from roost.tasks.intake import HAND_BACK_S
from roost.tasks.log import Log, Record
from roost.tasks.outcomes import HandBack, OutcomeWriter
from roost.tasks.records import AttemptRecord, Ref
from roost.tasks.worker import Worker
from roost.transport.jetstream import WRONG_LAST_SEQUENCE

log = logging.getLogger("roost.runs")

PARKED_S = 60.0
"""How often a parked run is tried again: by then its code may have been replaced."""
MOST_CRASHES = 100
"""Executions in a row that died and left no record, after which a run is given up: its workflow kills them."""
MOST_WAITING = 10_000
"""Runs that one process keeps in memory while they wait; beyond that the oldest goes back to the server."""
AWAY_S = 30.0
"""Seconds for which it is gone."""
CHECKS = 16
"""Runs that are looked up side by side after a reconnect: ten thousand questions at once would time out."""
CLEANUP_S = 10.0
"""Seconds that a workflow may take to end once it was cancelled; then it is left behind, and can do nothing."""

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
        self._slots = Slots(concurrency, self._slot_is_free)
        self._lining_up = 0
        self._cores: dict[str, Core] = {}  # by token of the attempt
        self._owners: dict[Core, asyncio.Task[Any]] = {}  # what processes the delivery
        self._checking = asyncio.Semaphore(CHECKS)
        self._abandoned: set[asyncio.Task[Any]] = set()
        self._writer: RunWriter = RunWriter(tasks, self._cores, instance)

    @property
    def running(self) -> int:
        """Workflows at work; those that wait are not counted."""
        return self._concurrency - max(0, self._slots.free)

    def _room(self) -> int:
        coming = len(self._running) - len(self._cores) - self._lining_up
        return min(self._slots.free - coming, MOST_WAITING - len(self._running))

    def _counted(self, past: list[AttemptRecord]) -> int:
        return sum(not attempt.get("lost") for attempt in past)

    def _slot_is_free(self) -> None:
        if self._pump is not None:
            self._pump.wake()

    def _rests(self) -> None:
        """A run has begun to wait."""
        if self._stopping:
            self._let_go()
        elif len(self._running) >= MOST_WAITING:
            oldest = next(core for core in self._cores.values() if core.activity.waiting)
            oldest.halt(HandBack("too many runs wait in this process", AWAY_S))

    def _let_go(self) -> None:
        """Runs that wait do not make a process wait that is told to stop: others go on with them."""
        for core, owner in self._owners.items():
            if core.activity.waiting:
                owner.cancel()

    def quiesce(self) -> None:
        super().quiesce()
        self._let_go()

    # One run ------------------------------------------------------------------------------------

    async def _coordinate(self, value: Any, delivery: Delivery) -> Any:
        self._lining_up += 1
        try:
            await self._slots.take()
        finally:
            self._lining_up -= 1
        core = Core(
            self._log,
            delivery,
            instance=self._instance,
            trace=Trace.parse(delivery.trace).child(),
            ack_wait_s=self._task.ack_wait_s,
            slots=self._slots,
            on_rest=self._rests,
        )
        self._cores[delivery.token] = core
        owner = asyncio.current_task()
        if owner is not None:
            self._owners[core] = owner
        try:
            await self._begin(core)
            return await self._run_workflow(value, core)
        except Fenced as error:
            raise HandBack(str(error), None) from error
        except Ended as error:
            await self._writer.complete(delivery.ref, error.end)
            self._answer(delivery, b"+ACK")
            raise HandBack(str(error), None) from error
        except Stopped as error:
            await self._finish_cancelling(delivery, error)
            raise HandBack(str(error), None) from error
        except HistoryMismatch as error:
            await self._park(core, error)
            raise HandBack(str(error), PARKED_S) from error
        finally:
            self._owners.pop(core, None)
            await core.close()

    async def _begin(self, core: Core) -> None:
        try:
            await core.begin()
        except RoostError as error:  # nothing that the workflow has done
            raise HandBack(str(error), HAND_BACK_S) from error
        state = core.fence.state
        if state is not None and state["status"] == "cancelling":
            raise Stopped(by=state["by"], reason=state["reason"])
        deaths = core.fence.record.get("deaths", 0)
        if deaths > MOST_CRASHES:
            raise Reject(f"its process died {deaths} times in a row before anything was recorded")

    async def _run_workflow(self, value: Any, core: Core) -> Any:
        execution = asyncio.get_running_loop().create_task(
            self._guarded(value, core), name=f"roost-run-{core.run}"
        )
        try:
            await asyncio.wait([execution, core.halting], return_when=asyncio.FIRST_COMPLETED)
        except (
            asyncio.CancelledError
        ):  # this process stops, the run was cancelled, or its deadline has passed
            core.halt(HandBack("the workflow was cancelled", None))
            await self._end(execution, core)
            raise
        if core.halted is not None:
            await self._end(execution, core)
            raise core.halted
        try:
            result = execution.result()
        except asyncio.CancelledError as error:
            raise HandlerLeft("it raised CancelledError although nobody cancelled it") from error
        except (TaskDead, TaskCancelled) as error:
            await core.fence.check()
            raise Reject(_without(error)) from error  # another attempt would read the same outcome
        except Exception:
            await core.fence.check()  # what befalls a workflow that was taken over is no failure of it
            raise
        unmet = core.unmet()
        if unmet:
            self._log.journal.record(
                "operations_not_met",
                subject=core.run,
                reason=f"on record and not asked for: {', '.join(unmet)}",
            )
        return result

    async def _guarded(self, value: Any, core: Core) -> Any:
        try:
            return await self._execute(value, Run(core, self._deps))
        except SystemExit as error:  # in a task of its own it would end the loop
            raise HandlerLeft(f"it called sys.exit({error.code!r})") from error

    async def _end(self, execution: asyncio.Task[Any], core: Core) -> None:
        """Cancel a workflow and let it clean up, but not for ever: its operations do nothing any more."""
        if not execution.done():
            execution.cancel()
            await asyncio.wait([execution], timeout=CLEANUP_S)
        if not execution.done():
            self._abandoned.add(execution)
            execution.add_done_callback(self._abandoned.discard)
            self._log.journal.record(
                "workflow_left_behind",
                subject=core.run,
                reason=f"it was cancelled and did not end within {CLEANUP_S:g} s",
                level=logging.ERROR,
            )
        elif not execution.cancelled() and (error := execution.exception()) is not None:
            log.info("the workflow of run %s failed as it was cancelled", core.run, exc_info=error)

    async def _finish_cancelling(self, delivery: Delivery, stopped: Stopped) -> None:
        """A run that is being cancelled is not resumed: its cancellation is finished instead."""
        try:
            await finish(self._log, delivery.ref, delivery.seq, by=stopped.by, reason=stopped.reason)
        except RoostError as error:
            raise HandBack(str(error), HAND_BACK_S) from error
        self._answer(delivery, b"+ACK")

    async def _park(self, core: Core, error: HistoryMismatch) -> None:
        self._log.journal.record("run_parked", subject=core.run, reason=str(error), level=logging.ERROR)
        state: StateRecord = {
            "status": "parked",
            "at": round(self._log.now_s(), 6),
            "by": self._instance,
            "reason": str(error),
        }
        try:
            await core.fence.write(core.subjects.state, encode(state), once=False)
        except (Fenced, JetStreamError) as refusal:
            log.info("the parking of run %s was not recorded: %s", core.run, refusal)

    async def _stop_if_ended(self, running: asyncio.Task[None], delivery: Delivery) -> None:
        """As for any task; and a run may have been taken over, by somebody who cancels it for instance."""
        async with self._checking:
            await super()._stop_if_ended(running, delivery)
            core = self._cores.get(delivery.token)
            if core is None or delivery.withdrawn or core.halted is not None or not core.begun:
                return
            try:
                await core.fence.check()
            except Fenced as error:
                core.halt(error)
            except RoostError as error:
                self._log.journal.count(f"cancel_not_checked:{type(error).__name__}")

    def _finished(self, running: asyncio.Task[None]) -> None:
        token = self._running[running].token
        self._cores.pop(token, None)
        self._writer.forget(token)
        super()._finished(running)


def _without(error: TaskDead | TaskCancelled) -> str:
    """Why a workflow has no outcome when a task that it needed has none."""
    if isinstance(error, TaskDead):
        return f"task {error.id} is dead: {error.letter.reason}"
    return f"task {error.id} was cancelled by {error.by}" + (f": {error.reason}" if error.reason else "")


class RunWriter(OutcomeWriter):
    """Stores the end of a workflow and its run's state as one, under the epoch."""

    def __init__(self, tasks: Log, cores: dict[str, Core], instance: str) -> None:
        super().__init__(tasks)
        self._cores = cores
        self._instance = instance
        self._fences: dict[str, Fence] = {}  # by token of the attempt, of runs that did not begin

    def forget(self, token: str) -> None:
        self._fences.pop(token, None)

    async def _put(
        self, delivery: Delivery, subject: str, data: bytes, newest: int, marks: Pairs = ()
    ) -> None:
        try:
            fence = await self._fence(delivery)
        except Ended:
            await super()._put(delivery, subject, data, newest, marks)  # which is refused, and says by whom
            return
        state: StateRecord = {
            "status": "done" if data.startswith(b'{"status":"done"') else "dead",
            "at": round(self._log.now_s(), 6),
            "by": self._instance,
            "reason": "",
        }
        guard = guarded(self._log.subjects.guard(delivery.ref), newest, delivery.trace)
        end = Write(subject, data, (*guard, *marks))
        try:
            await commit_in_turn(self._log, [Write(fence.subjects.state, encode(state), fence.guard), end])
        except JetStreamError as error:
            if error.err_code == WRONG_LAST_SEQUENCE:
                try:
                    await fence.check()
                except Fenced as fenced:
                    raise HandBack(str(fenced), None) from error
            raise

    async def _fence(self, delivery: Delivery) -> Fence:
        """The right to end this run. One that never began (its input cannot be read, its deadline has passed) is
        taken over first: another coordinator of it may only be paused.
        """
        core = self._cores.get(delivery.token)
        if core is not None and core.begun:
            return core.fence
        fence = self._fences.get(delivery.token)
        if fence is None:
            ref = delivery.ref
            subjects = RunSubjects(self._log.subjects.namespace, inner_run(ref))
            fence = await take_over(self._log, subjects, ref, by=self._instance)
            self._fences[delivery.token] = fence
            if fence.state is not None and fence.state["status"] == "cancelling":
                await finish(self._log, ref, delivery.seq, by=fence.state["by"], reason=fence.state["reason"])
        return fence

    async def complete(self, ref: Ref, end: Record) -> None:
        """As for any task; whoever cancelled a workflow may have died before what is below it was."""
        await finish_below(self._log, ref, end.data)
        await super().complete(ref, end)
