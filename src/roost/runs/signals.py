"""Sending a signal to a run."""

from __future__ import annotations

import asyncio
import itertools
from typing import TypeVar

from roost._text import quoted
from roost.contracts import Signal
from roost.errors import ConfigError, StreamMissing
from roost.runs.epoch import pause
from roost.runs.records import RunSubjects, decode_state
from roost.tasks.absent import Absence
from roost.tasks.log import Log
from roost.tasks.records import Ref
from roost.tasks.storing import newest

M = TypeVar("M")

AWAY_S = 15.0
"""For how long a log without a leader is waited for, in seconds: an election takes up to 9, seldom two."""


async def send_signal(log: Log, run: str, signal: Signal[M], value: M) -> None:
    """Store a signal; the run takes each once, oldest first.

    A run may be sent signals before it is started. While no server leads the log it is tried again, for some `AWAY_S`
    seconds. Raises ConfigError for what is no id of a run, and when the run has ended: nobody would ever take it.
    After RequestTimeout and Disconnected it is not known whether it was stored: sent again, it may be taken twice.
    """
    if "/" in run:
        raise ConfigError(
            f"{quoted(run)} is a task inside of a run; a signal goes to a run: use Handle.id of Bus.start, or Run.id"
        )
    Ref.parse(run, signal.name)
    await log.ensure()
    subjects = RunSubjects(log.subjects.namespace, run)
    subject = subjects.signal(signal.name)
    data = signal.codec.encode(value, subject=subject)
    record = await newest(log, subjects.state, patience_s=AWAY_S)
    state = decode_state(record.data, subject=subjects.state) if record is not None else None
    if state is not None and state["status"] in ("done", "dead", "cancelling", "cancelled"):
        raise ConfigError(
            f"run {run} is over ({state['status']}); signal {signal.name} would never be taken, and was not sent"
        )
    absence = Absence(log)
    until = asyncio.get_running_loop().time() + AWAY_S
    for tries in itertools.count():
        try:
            await log.link.jetstream.publish(subject, data)
            return
        except StreamMissing as error:
            await absence.check(error)
            if asyncio.get_running_loop().time() > until:
                raise
        await pause(tries)
