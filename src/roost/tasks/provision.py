"""What the code asks of the server, and how what is there differs from it. Pure.

A consumer that was silently overwritten loses the settings that others rely on, and a stream with a
rollup or an age limit loses tasks. So configuration is compared, never imposed: a difference is a
`ConfigMismatch`, and applying it is the explicit act of an administrator (`roost provision`).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from roost.contracts import MAX_OPEN
from roost.errors import Difference
from roost.subjects import key_token
from roost.tasks.records import Subjects

MAX_WAITING_PULLS = 4096
"""Open pulls per consumer; each worker process keeps two."""

RUN_REPORT_S = 7 * 86_400
"""How long the server keeps the place of a reporter of one run while no instance of it is up, in seconds. Runs
are many, and the consumer of each would stay for ever; one that comes back later begins at the first outcome."""

MOST_MISSED = 100
"""Firings of one schedule that are kept while no worker takes them; of more, the oldest go."""
FIRED_ACK_WAIT_S = 5.0
"""What a worker had in hand when it died goes to another after so many seconds; it is a write or two."""
FIRED_MAX_PENDING = 1000

RESERVE = 0.8
"""Share of `max_bytes` up to which new work is accepted; the rest is for accepted work to finish."""


def stream_config(subjects: Subjects) -> dict[str, Any]:
    """The log's stream. Size, replicas and placement are the administrator's and not compared."""
    return {
        "name": subjects.stream,
        "subjects": [f"{subjects.namespace}.run.>"],
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_msgs": -1,
        "max_msgs_per_subject": -1,
        "max_age": 0,
        "deny_purge": False,
        "allow_rollup_hdrs": False,
        "allow_direct": True,
        "allow_atomic": True,
        "allow_msg_ttl": False,
        "allow_msg_schedules": False,
        "republish": {
            "src": f"{subjects.namespace}.run.>",
            "dest": f"{subjects.live}>",
            "headers_only": True,
        },
        # What would refuse, redirect or never acknowledge records if somebody had set it:
        "sealed": False,
        "no_ack": False,
        "max_msg_size": -1,
        "discard_new_per_subject": False,
        "mirror": None,
        "sources": None,
        "subject_transform": None,
    }


def consumer_config(
    subjects: Subjects, name: str, ack_wait_s: float, max_running: int | None = None
) -> dict[str, Any]:
    """The consumer that all workers of a task contract share; it delivers `max_running` tasks at most at once."""
    return {
        "durable_name": consumer_name(name),
        "filter_subject": subjects.tasks_of(name),
        "deliver_policy": "all",
        "replay_policy": "instant",
        "ack_policy": "explicit",
        "ack_wait": int(ack_wait_s * 1e9),
        "max_deliver": -1,
        "max_ack_pending": max_running or MAX_OPEN,
        "max_waiting": MAX_WAITING_PULLS,
        # What would withhold payloads or deliveries if somebody had set it:
        "headers_only": False,
        "backoff": None,
        "rate_limit_bps": 0,
        "max_batch": 0,
        "max_expires": 0,
        "max_bytes": 0,
        "inactive_threshold": 0,
        "mem_storage": False,
        "filter_subjects": None,
        "priority_groups": None,
        "deliver_subject": None,
    }


def consumer_name(name: str) -> str:
    return f"task_{name}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Reported:
    """The outcomes that an agent follows (`Agent.reports`): of one contract, in all runs or in some."""

    agent: str
    name: str  # of the contract
    workflow: str = ""  # only in runs of this workflow
    run: str = ""  # only in this run
    large: bool = False  # whether its outcomes may be large

    @property
    def durable(self) -> str:
        """The name of the consumer that all instances of the agent share."""
        of = f"_of_{self.workflow}" if self.workflow else f"_run_{key_token(self.run)}" if self.run else ""
        return f"report_{self.agent}_{self.name}{of}"

    def wants(self, run: str) -> bool:
        """Whether an outcome in this run is followed. The server's filter cannot tell by a part of a token."""
        return not self.workflow or run.startswith(f"{self.workflow}:")

    def __str__(self) -> str:
        of = (
            f" in runs of {self.workflow}"
            if self.workflow
            else f" in run {self.run[:200]}"
            if self.run
            else ""
        )
        return f"agent {self.agent}: outcomes of {self.name}{of}"


def report_config(subjects: Subjects, reported: Reported, ack_wait_s: float) -> dict[str, Any]:
    """The consumer of what one agent follows: one outcome at a time, so in order.

    Its description says whose it is: the parts of two names may be joined to one and the same.
    """
    return {
        **consumer_config(subjects, reported.name, ack_wait_s),
        "durable_name": reported.durable,
        "description": str(reported),
        "filter_subject": subjects.ends_of(reported.name, reported.run or "*"),
        "max_ack_pending": 1,
        "inactive_threshold": RUN_REPORT_S * 10**9 if reported.run else 0,
    }


def timetable_stream(namespace: str) -> str:
    """Not ``ROOST_…``: a namespace may have any name, and its log is called so."""
    return f"ROOST-SCHED_{namespace}"


def timetable_config(namespace: str) -> dict[str, Any]:
    """The stream of schedules. Its replicas and placement are the administrator's and not compared.

    The server refuses ``discard: new`` where there are schedules, so a limit in bytes would remove the oldest of them:
    there is none. What workers have taken is removed, which is what ``workqueue`` is for.
    """
    return {
        "name": timetable_stream(namespace),
        "subjects": [f"{namespace}.sched.>", f"{namespace}.fired.>"],
        "retention": "workqueue",
        "storage": "file",
        "discard": "old",
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msgs_per_subject": MOST_MISSED,
        "max_age": 0,
        "allow_direct": True,
        "allow_msg_schedules": True,
        "sealed": False,
        "no_ack": False,
        "max_msg_size": -1,
        "mirror": None,
        "sources": None,
        "subject_transform": None,
    }


def fired_config(namespace: str, name: str) -> dict[str, Any]:
    """The consumer of what fires for one contract, which its workers share."""
    return {
        "durable_name": consumer_of_fired(name),
        "filter_subject": f"{namespace}.fired.{name}.>",
        "deliver_policy": "all",
        "replay_policy": "instant",
        "ack_policy": "explicit",
        "ack_wait": int(FIRED_ACK_WAIT_S * 1e9),
        "max_deliver": -1,
        "max_ack_pending": FIRED_MAX_PENDING,
        "max_waiting": MAX_WAITING_PULLS,
        "headers_only": False,
        "inactive_threshold": 0,
        "mem_storage": False,
        "deliver_subject": None,
    }


def consumer_of_fired(name: str) -> str:
    """The consumer of what fires for a contract."""
    return f"fired_{name}"


def differences(wanted: Mapping[str, Any], found: Mapping[str, Any]) -> list[Difference]:
    """Fields that are not as asked for. The server leaves out fields that are zero or false."""
    listed = []
    for field, value in wanted.items():
        there = found.get(field)
        if there == value or (not value and not there) or (value == -1 and not there):
            continue
        if isinstance(value, dict) and isinstance(there, dict):
            listed += [
                Difference(field=f"{field}.{one.field}", found=one.found, wanted=one.wanted)
                for one in differences(value, there)
            ]
            continue
        listed.append(Difference(field=field, found=there, wanted=value))
    return listed
