"""What happened to a task, as plain values: the data under every timeline, table and dead letter.

Pure. Times are server time in seconds since 1970, so that lanes of several machines line up.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Status = Literal["open", "done", "dead", "cancelled"]
Kind = Literal["task", "run", "step"]
"""A `run` is the task of a workflow: its attempts are its coordinators. A `step` has one attempt."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """One attempt of a task."""

    number: int  # from 1
    by: str  # the instance that ran it, such as "digest-1"
    started_s: float
    ended_s: float | None  # None: still running, or its process died
    result: Literal["done", "failed", "lost", "running"]
    error: str = ""  # "ValueError: no such page", empty unless it failed


@dataclass(frozen=True, slots=True, kw_only=True)
class TaskHistory:
    """One task from its submission to its outcome."""

    run: str
    name: str
    id: str
    submitted_s: float
    ended_s: float | None  # None while it is open
    status: Status
    reason: str = ""  # of a dead or cancelled task
    attempts: tuple[Attempt, ...] = ()
    kind: Kind = "task"
    begins_s: float | None = None  # before which it may not begin; None: at once

    @property
    def retries(self) -> int:
        """Attempts beyond the first."""
        return max(0, len(self.attempts) - 1)
