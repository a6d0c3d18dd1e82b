"""Processes of agents: one (`run_agent`), and many under a supervisor (`Supervisor`, `up`).

Here live starting, watching, restarting and ending processes, and nothing about messages or tasks: what an
agent does with its work at the end is `roost.instance`'s. `process.py` is the program that each child runs.
"""

from roost.runtime.load import load_agent
from roost.runtime.notices import AgentsFailed, Notice
from roost.runtime.run import run_agent
from roost.runtime.specs import AgentSpec, SupervisorOptions
from roost.runtime.supervisor import Supervisor
from roost.runtime.up import up

__all__ = [
    "AgentSpec",
    "AgentsFailed",
    "Notice",
    "Supervisor",
    "SupervisorOptions",
    "load_agent",
    "run_agent",
    "up",
]
