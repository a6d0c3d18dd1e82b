"""What is open, by contract: what waits, what is in work, what died. From the server's own counts alone.

A consumer knows how many tasks it has not delivered and how many are delivered and not acknowledged; the index of
the stream knows the dead letters. No task is read, so it costs the same for ten tasks and for a hundred thousand.
Only contracts that no worker has ever served have no consumer: theirs are found by the subjects of the tasks.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any

from roost.contracts import MAX_OPEN
from roost.errors import JetStreamError
from roost.tasks.log import Log
from roost.tasks.pausing import paused_until
from roost.tasks.provision import consumer_name, timetable_stream
from roost.tasks.records import Ref
from roost.transport.jetstream import STREAM_NOT_FOUND

PAGE = 100_000
"""Subjects that nats-server lists in one answer; in a log with more tasks some unserved contract may be missed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backlog:
    """One contract. A task in backoff, and a workflow that waits, counts as in work: both were delivered."""

    name: str
    waiting: int
    """Not delivered to any worker yet."""
    in_work: int
    """Delivered, and without an outcome as far as the consumer knows: at work, or in backoff."""
    delayed: int
    """Not to begin yet, and outside of the consumer until then: the server has a schedule for each."""
    next_s: float | None
    """When the first of those may begin, seconds since 1970; None if there are none, or none that may be seen."""
    dead: int
    """Dead letters, whether they were replayed or not."""
    consumer: str
    """That all its workers share; empty when there is none, as no worker of it was ever started."""
    pulls: int
    """Requests for work that are open now: none for long means that no worker has a free hand, or none runs."""
    max_running: int | None
    """The contract's limit over all processes; None if it has none."""
    paused_until: str
    """When its pause ends (RFC 3339); empty if it is not paused."""


async def backlog(log: Log) -> tuple[list[Backlog], bool]:
    """Every contract that has, or had, tasks in the log, by name; and whether all tasks were looked at."""
    subjects = log.subjects
    consumers = {name: info for name, info in await _consumers(log) if name}
    dead = Counter(ref.name for ref in _refs(log, await log.subjects_matching(subjects.all_dead())))
    tasks, complete = await _first_page(log, f"{subjects.namespace}.run.*.task.>")
    later = await _later(log)
    found = []
    for name in sorted({*consumers, *dead, *(ref.name for ref in tasks)}):
        begins = {ref: begin_s for ref, begin_s in later.items() if ref.name == name}
        info = consumers.get(name)
        waiting = _number(info, "num_pending")
        if (
            info is None
        ):  # some tasks that nobody ever served may have been cancelled, or passed their deadline
            ended = _refs(log, await log.subjects_matching(subjects.ends_of(name)))
            waiting = len({ref for ref in tasks if ref.name == name} - ended - begins.keys())
        found.append(
            Backlog(
                name=name,
                waiting=waiting,
                in_work=_number(info, "num_ack_pending"),
                delayed=len(begins),
                next_s=min(begins.values(), default=None),
                dead=dead[name],
                consumer=consumer_name(name) if info is not None else "",
                pulls=_number(info, "num_waiting"),
                max_running=_limit(info),
                paused_until=paused_until(info) if info is not None else "",
            )
        )
    return found, complete


async def _later(log: Log) -> dict[Ref, float]:
    """The tasks that have a schedule, and when each may begin; none if this user may not see schedules."""
    prefix, found = f"{log.subjects.namespace}.sched.at.", dict[Ref, float]()
    stream = timetable_stream(log.subjects.namespace)
    try:
        answer = await log.link.jetstream.call(f"STREAM.INFO.{stream}", {"subjects_filter": f"{prefix}>"})
    except PermissionError:
        return {}
    except JetStreamError as error:
        if error.err_code != STREAM_NOT_FOUND:
            raise
        return {}
    for subject in answer["state"].get("subjects") or {}:
        parts = subject.removeprefix(prefix).split(".")
        if len(parts) == 4 and parts[1].isdecimal():
            found[Ref(parts[2], parts[0], parts[3])] = int(parts[1]) / 1000
    return found


async def paused(log: Log) -> list[tuple[str, str]]:
    """The contracts that are paused, by name, and until when."""
    found = [(name, paused_until(info)) for name, info in await _consumers(log)]
    return sorted((name, until) for name, until in found if until)


async def _consumers(log: Log) -> list[tuple[str, dict[str, Any]]]:
    """The consumers of workers, by the name of the contract."""
    found: list[tuple[str, dict[str, Any]]] = []
    prefix = consumer_name("")
    offset = 0
    while True:
        answer = await log.link.jetstream.call(f"CONSUMER.LIST.{log.stream}", {"offset": offset})
        page = answer.get("consumers") or []
        for info in page:
            name = str(info.get("name", ""))
            if name.startswith(prefix):
                found.append((name.removeprefix(prefix), info))
        offset += len(page)
        if not page or offset >= int(answer.get("total", 0)):
            return found


async def _first_page(log: Log, pattern: str) -> tuple[set[Ref], bool]:
    """The tasks that come first in the index, and whether these are all."""
    info = await log.link.jetstream.call(f"STREAM.INFO.{log.stream}", {"subjects_filter": pattern})
    page = list(info["state"].get("subjects") or {})
    return _refs(log, page), len(page) >= int(info.get("total", 0))


def _refs(log: Log, subjects: list[str]) -> set[Ref]:
    found = map(log.subjects.parse, subjects)
    return {one[1] for one in found if one is not None}


def _limit(info: dict[str, Any] | None) -> int | None:
    most = _number(info["config"], "max_ack_pending") if info is not None else MAX_OPEN
    return most if 0 < most < MAX_OPEN else None


def _number(info: dict[str, Any] | None, field: str) -> int:
    value = info.get(field, 0) if info is not None else 0
    return value if isinstance(value, int) else 0
