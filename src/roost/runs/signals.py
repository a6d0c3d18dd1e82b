"""Sending a signal to a run."""

from __future__ import annotations

from typing import TypeVar

from roost._text import quoted
from roost.contracts import Signal
from roost.errors import ConfigError
from roost.runs.records import RunSubjects, decode_state
from roost.tasks.log import Log
from roost.tasks.records import Ref

M = TypeVar("M")


async def send_signal(log: Log, run: str, signal: Signal[M], value: M) -> None:
    """Store a signal; the run takes each once, oldest first.

    A run may be sent signals before it is started. Raises ConfigError for what is no id of a run, and when the
    run has ended: nobody would ever take it.
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
    record = await log.last(subjects.state)
    state = decode_state(record.data, subject=subjects.state) if record is not None else None
    if state is not None and state["status"] in ("done", "dead", "cancelling", "cancelled"):
        raise ConfigError(
            f"run {run} is over ({state['status']}); signal {signal.name} would never be taken, and was not sent"
        )
    await log.link.jetstream.publish(subject, data)
