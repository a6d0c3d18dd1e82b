"""Durable workflows: a coordinator's steps, calls and fan-outs as records, so that any instance can go on.

A run is a subject prefix in the log. Nothing here knows of agents; what a workflow does between two records
is lost with its process and done again, what is in a record is not.
"""

from roost.runs.cancelling import cancel
from roost.runs.coordinator import Coordinator
from roost.runs.run import Run
from roost.runs.signals import send_signal
from roost.runs.standing import why_open

__all__ = ["Coordinator", "Run", "cancel", "send_signal", "why_open"]
