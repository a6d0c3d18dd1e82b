"""The program of one agent process: ``python -m roost.runtime.process module:agent``.

A supervisor gives everything else in the environment, because arguments are visible to every user of the
machine: NATS_URL, ROOST_NAMESPACE, ROOST_INSTANCE (or ROOST_PLACE, which makes it after the agent's name),
ROOST_GRACE_S, ROOST_LOG_LEVEL, and in ROOST_LIFELINE the number of the socket to it. Without a supervisor the
process runs until SIGTERM or SIGINT. On standard output is what the agent's own code prints, on standard error
are log lines.
"""

from __future__ import annotations

import os
import socket
import sys
from typing import Any

from roost.agent import Agent
from roost.discovery import instance_name
from roost.errors import ConfigError
from roost.runtime.lifeline import Lifeline
from roost.runtime.load import load_agent
from roost.runtime.logs import set_up
from roost.runtime.run import run
from roost.runtime.specs import GRACE_S, check_grace


def main(arguments: list[str]) -> int:
    """Exit code 0: stopped in order; 1: could not be started, or not be ended in time; 2: wrong usage."""
    try:
        (target,) = arguments
        lifeline = Lifeline(
            _connection(), grace_s=check_grace(float(os.environ.pop("ROOST_GRACE_S", GRACE_S)))
        )
    except (ValueError, OSError) as error:  # ConfigError is a ValueError
        sys.stderr.write(f"usage: python -m roost.runtime.process module:agent ({error})\n")
        return 2
    lifeline.start()
    return run(lambda: _loaded(target), lifeline)


def _connection() -> socket.socket | None:
    number = os.environ.pop("ROOST_LIFELINE", "")
    if not number:
        return None
    connection = socket.socket(fileno=int(number))
    connection.set_inheritable(False)  # what a handler starts must not hold it
    return connection


def _loaded(target: str) -> Agent[Any]:
    level = os.environ.pop("ROOST_LOG_LEVEL", "info")
    place = os.environ.pop("ROOST_PLACE", "")
    try:
        agent = load_agent(target)
    except ConfigError:
        set_up(os.environ.get("ROOST_INSTANCE", target), level)  # with `debug`, the whole traceback is logged
        raise
    if place:
        os.environ["ROOST_INSTANCE"] = instance_name(agent.name, place)
    # After the import: a module that sets up logging has its way.
    set_up(os.environ.get("ROOST_INSTANCE", agent.name), level)
    return agent


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
