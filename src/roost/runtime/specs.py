"""What a supervisor is to run, checked before a process is started."""

from __future__ import annotations

import math
from dataclasses import dataclass

from roost._text import quoted
from roost.errors import ConfigError
from roost.runtime.load import check_target
from roost.runtime.logs import LEVELS
from roost.subjects import token

MAX_PROCESSES = 512
GRACE_S = 10.0


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentSpec:
    """One agent and how many processes of it. Raises ConfigError, UnsafeToken."""

    target: str
    """Where it is: ``module:attribute``, such as ``shop.agents:packer``."""

    processes: int = 1
    """How many processes; each is one instance and runs its handlers concurrently."""

    name: str = ""
    """Instances are called ``<name>-1-<random>``, ``<name>-2-<random>`` ...; empty: after the agent. The random
    part is one for all of them, and stays when a process is started again."""

    def __post_init__(self) -> None:
        check_target(self.target)
        if type(self.processes) is not int or not 1 <= self.processes <= MAX_PROCESSES:
            raise ConfigError(
                f"processes = {quoted(self.processes)}: must be an int from 1 to {MAX_PROCESSES}"
            )
        if self.name:
            token(self.name, name="name")


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorOptions:
    """How processes are run. Raises ConfigError."""

    grace_s: float = GRACE_S
    """Seconds that running handlers have to finish when a process is stopped."""

    log_level: str = "info"
    """Of the processes' own logging, on standard error: debug, info, warning, error."""

    def __post_init__(self) -> None:
        check_grace(self.grace_s)
        if self.log_level not in LEVELS:
            raise ConfigError(f"log_level = {quoted(self.log_level)}: must be debug, info, warning or error")


def check_grace(grace_s: float) -> float:
    """`grace_s` itself, if it is a number of seconds >= 0; else ConfigError."""
    if type(grace_s) not in (int, float) or not math.isfinite(grace_s) or grace_s < 0:
        raise ConfigError(f"grace_s = {quoted(grace_s)}: must be a finite number of seconds >= 0")
    return float(grace_s)
