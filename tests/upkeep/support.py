"""What the tests of upkeep share: a log that is read later than it is, and a look at the log that knows no Roost."""

from __future__ import annotations

import base64
from collections import defaultdict
from collections.abc import Mapping

from nats.aio.client import Client as NatsClient

import roost
from roost.tasks.log import Log
from roost.tasks.retention import Retention
from roost.upkeep import Prune, Pruned
from tasks.support import api

HOUR_S = 3600.0
MINUTE_S = 60.0


class LaterLog(Log):
    """The same log, some time from now."""

    later_s = HOUR_S

    def now_s(self) -> float:
        return super().now_s() + self.later_s


def later(bus: roost.Bus, later_s: float = HOUR_S) -> LaterLog:
    log = LaterLog(bus.link, bus.namespace, bus.journal)
    log.later_s = later_s
    return log


async def prune(
    bus: roost.Bus,
    *,
    later_s: float = HOUR_S,
    ended_s: float = MINUTE_S,
    dead_s: float | None = None,
    dry_run: bool = False,
) -> Pruned:
    """One pass, as it would be some time from now."""
    duty = Prune(later(bus, later_s), retention=Retention(ended_s=ended_s, dead_s=dead_s), dry_run=dry_run)
    await duty.run_once()
    return duty.total


async def stored(nc: NatsClient, namespace: str) -> dict[int, tuple[str, bytes]]:
    """Every record by its number, read one by one through plain nats-py."""
    found: dict[int, tuple[str, bytes]] = {}
    seq = 1
    while True:
        answer = await api(nc, f"STREAM.MSG.GET.ROOST_{namespace}", {"seq": seq, "next_by_subj": ">"})
        if "error" in answer:
            return found
        message = answer["message"]
        found[message["seq"]] = message["subject"], base64.b64decode(message.get("data", ""))
        seq = message["seq"] + 1


def of_open_runs(records: Mapping[int, tuple[str, bytes]]) -> dict[int, tuple[str, bytes]]:
    """The records of runs in which a task has no outcome: counted by hand, by what the subjects say."""
    tasks: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    ends: dict[str, set[tuple[str, ...]]] = defaultdict(set)
    of: dict[str, dict[int, tuple[str, bytes]]] = defaultdict(dict)
    for seq, (subject, data) in records.items():
        _, _, run, kind, *rest = subject.split(".")
        if "::" in run:  # of an order key or a delay: the last two words name the task
            run = rest[-2]
        elif kind in ("task", "end") and len(rest) == 2:
            (tasks if kind == "task" else ends)[run].add(tuple(rest))
        of[run][seq] = subject, data
    return {seq: one for run in of if tasks[run] - ends[run] for seq, one in of[run].items()}
