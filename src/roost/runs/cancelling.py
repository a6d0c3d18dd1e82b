"""Cancelling a task, or a run and all below it.

A cancelled task's outcome is written under the same guard as any other, so it wins or loses against a
worker that finishes at the same moment; then its message is removed, so that what is queued never runs.
Workers are told by a plain message and look at the record before they believe it.

A run is cancelled from its state downwards: the mark `cancelling` first, then a new epoch that stops its
coordinator, then what is below, then itself. Whoever begins may die at any point: the run's next delivery
finds the mark and finishes.
"""

from __future__ import annotations

import secrets

from roost.errors import ConfigError, JetStreamError
from roost.runs.epoch import pause, take_over
from roost.runs.records import RunSubjects, StateRecord, encode, inner_run
from roost.tasks.log import Log
from roost.tasks.records import Ref, encode_cancelled
from roost.transport.headers import block
from roost.transport.jetstream import WRONG_LAST_SEQUENCE, WRONG_LAST_SEQUENCE_PENDING


class Stopped(Exception):
    """The workflow was cancelled."""

    def __init__(self, *, by: str, reason: str) -> None:
        self.by = by
        self.reason = reason
        super().__init__(f"cancelled by {by}" + (f": {reason}" if reason else ""))


async def cancel(log: Log, ref: Ref, *, by: str, reason: str) -> bool:
    """Cancel a task, or a workflow with all below it. False when it had an outcome already.

    Raises ConfigError when there is no such task.
    """
    run = inner_run(ref)
    subjects = RunSubjects(log.subjects.namespace, run)
    task = await log.last(log.subjects.task(ref), leader=True)
    end = await log.last(log.subjects.end(ref), leader=True)
    if end is not None:
        return False
    if task is None:
        raise ConfigError(
            f"there is no task {ref} in namespace {log.subjects.namespace}; nothing was cancelled"
        )
    if await log.last(subjects.epoch, leader=True) is not None:
        mark: StateRecord = {"status": "cancelling", "at": round(log.now_s(), 6), "by": by, "reason": reason}
        await log.link.jetstream.publish(subjects.state, encode(mark))
        await take_over(log, subjects, ref, by=by)
        await cancel_below(log, run, by=by, reason=reason)
    return await end_cancelled(log, ref, task.seq, by=by, reason=reason)


async def cancel_below(log: Log, run: str, *, by: str, reason: str) -> None:
    """Cancel whatever in a run has no outcome yet, and what is below that."""
    subjects = RunSubjects(log.subjects.namespace, run)
    ended = {
        parsed[1]
        for s in await log.subjects_matching(subjects.all_of("end"))
        if (parsed := log.subjects.parse(s))
    }
    for subject in await log.subjects_matching(subjects.tasks):
        parsed = log.subjects.parse(subject)
        if parsed is not None and parsed[1] not in ended and parsed[1].id != run:
            await cancel(log, parsed[1], by=by, reason=reason)


async def end_cancelled(log: Log, ref: Ref, seq: int, *, by: str, reason: str) -> bool:
    """Write `cancelled` as a task's outcome, remove its message and tell its worker; False if another stands."""
    token = secrets.token_hex(8)
    data = encode_cancelled(token, by, reason)
    head = block(
        ("Nats-Expected-Last-Subject-Sequence", str(seq)),
        ("Nats-Expected-Last-Subject-Sequence-Subject", log.subjects.guard(ref)),
    )
    tries = 0
    while True:
        try:
            await log.link.jetstream.publish(log.subjects.end(ref), data, head)
            break
        except JetStreamError as error:
            if error.err_code == WRONG_LAST_SEQUENCE:
                there = await log.last(log.subjects.end(ref), leader=True)
                if there is None:
                    return False
                if token.encode() not in there.data:
                    return False
                break
            if error.err_code != WRONG_LAST_SEQUENCE_PENDING:
                raise
        await pause(tries)
        tries += 1
    await log.link.jetstream.call(f"STREAM.PURGE.{log.stream}", {"filter": log.subjects.task(ref)})
    log.link.client.send(log.subjects.cancel(ref))
    return True
