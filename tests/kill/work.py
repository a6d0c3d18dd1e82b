"""What the kill test's submitter asks for and its workers do: the same from the same number and seed."""

from __future__ import annotations

import random
from typing import Literal

from pydantic import BaseModel

import roost
from roost.contracts import Retry

Kind = Literal["quick", "flaky", "hopeless", "rejected", "slow", "late"]
ACK_WAIT_S = 2.0
BOMB_ATTEMPTS = 3
BOMB_EVERY = 1200
"""Of so many tasks one kills whichever process runs it."""


class Job(BaseModel):
    """`late` asks for another attempt by RetryLater; `slow_s` is how long a slow one takes."""

    n: int
    kind: Kind = "quick"
    slow_s: float = 0.0


work = roost.Task(
    "work",
    Job,
    Job,
    retry=Retry(attempts=6, base_s=0.05, cap_s=0.4),
    ack_wait_s=ACK_WAIT_S,
    attempt_timeout_s=20,
)
bomb = roost.Task("bomb", Job, Job, retry=Retry(attempts=BOMB_ATTEMPTS, base_s=0.05), ack_wait_s=1.5)


def is_bomb(n: int) -> bool:
    return n % BOMB_EVERY == BOMB_EVERY // 3


def id_of(n: int) -> str:
    """The id that a task gets from its key, known before it is submitted."""
    return f"bomb:{n}" if is_bomb(n) else f"work:{n}"


def job_of(n: int, seed: int) -> Job:
    chance = random.Random(f"{seed}/{n}")
    if is_bomb(n):
        return Job(n=n)
    kind: Kind = chance.choices(
        ("quick", "flaky", "late", "rejected", "hopeless", "slow"), weights=(76, 10, 4, 3, 1, 6)
    )[0]
    return Job(n=n, kind=kind, slow_s=round(chance.uniform(0.2, 1.0), 3) if kind == "slow" else 0.0)
