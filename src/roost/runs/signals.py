"""Sending a signal to a run."""

from __future__ import annotations

from typing import TypeVar

from roost.contracts import Signal
from roost.errors import ConfigError
from roost.runs.records import RunSubjects
from roost.tasks.log import Log
from roost.tasks.records import Ref

M = TypeVar("M")


async def send_signal(log: Log, run: str, signal: Signal[M], value: M) -> None:
    """Store a signal; the run takes each once, oldest first. Raises ConfigError for what is no id of a run."""
    if "/" in run:
        raise ConfigError(
            f"{run!r} is a task inside of a run; a signal goes to a run: use Handle.id of Bus.start, or Run.id"
        )
    Ref.parse(run, signal.name)
    await log.ensure()
    subject = RunSubjects(log.subjects.namespace, run).signal(signal.name)
    await log.link.jetstream.publish(subject, signal.codec.encode(value, subject=subject))
