"""What the log says of its runs, as far as it has been read: which are over, since when, and what goes in which order.

Records come in log order. Of a run that is open only the numbers of its records are kept; of one that has been removed
nothing. Pure: no clock, no server.

The order in which the records of a run are removed is what makes a death in the middle harmless:

* a task goes before its outcome. While the outcome stands, a submission under the same key finds it and stores
  nothing; and a late worker's outcome is refused, for the task is gone;
* who coordinates goes first, so nobody resumes or forks a run of which a part is gone;
* the run's own task goes last, so nothing of an earlier run of that key is there when a later one begins.

What a death leaves over is a run without open tasks, like any other that has ended.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

from roost.errors import ConfigError
from roost.runs.listing import json_object
from roost.runs.records import inner_run
from roost.tasks.log import Record
from roost.tasks.records import Ref, Subjects
from roost.tasks.retention import Retention

EPOCH, ASIDE, TASK, END, OWN_TASK, OWN_END = PHASES = range(6)
"""What goes one after the other."""
ORPHAN_S = 120.0
"""Records of a run that is not there stay so long at least: a fork writes them before its run, within 60 s."""
NEVER = float("inf")
_DEAD = b'{"status":"dead"'
_BEHIND = {"queue": (5,), "task": (6, 7)}
"""Words of a place, of a turn and a wake (`roost.tasks.order`, `roost.tasks.delays`)."""


@dataclass(slots=True)
class Run:
    """One run, as far as it was read."""

    name: str
    records: list[int] = field(default_factory=list)
    """Of each: its sequence times the number of phases, and its phase."""
    open: set[str] = field(default_factory=set)
    """Tasks without an outcome."""
    ends: dict[str, int] = field(default_factory=dict)
    """The last outcome of each contract."""
    letters: frozenset[str] = frozenset()
    """Tasks that died and were not replayed."""
    replayed: frozenset[str] = frozenset()
    last_seq: int = 0
    """Of the records on its own subjects."""
    ended_s: float = 0.0
    """Server time of the last outcome; while there is none, of the last record."""
    whole: bool = False
    """Its own task has an outcome."""
    grows: bool = False
    """Somebody may add to it although all its tasks have outcomes: a replay, a coordinator."""
    above: str = ""
    below: frozenset[str] = frozenset()
    queues: frozenset[tuple[str, str]] = frozenset()
    """Contract and order key of its tasks."""
    listed_s: float = NEVER
    """When it is to be looked at."""


class Ledger:
    """The runs of one namespace of which something was read and is still there."""

    def __init__(self, subjects: Subjects, retention: Retention, *, orphan_s: float = ORPHAN_S) -> None:
        self.runs: dict[str, Run] = {}
        self.retention = retention
        self._orphan_s = orphan_s
        self._subjects = subjects
        self._skip = len(subjects.run("")) - len(".>")
        self._due: list[tuple[float, str]] = []  # a heap

    def take(self, record: Record) -> None:
        """Note one record."""
        words = record.subject[self._skip :].split(".")
        token, kind = words[0], words[1] if len(words) > 1 else ""
        phase, behind = ASIDE, "::" in token and len(words) in _BEHIND.get(kind, ())
        run = self._run(words[-2] if behind else token)
        if behind:  # a place, a turn or a wake: it belongs to its task
            if token[-1] != ":":
                run.queues |= {(words[2], token.partition("::")[2])}
        elif kind in ("task", "end", "dead") and (parsed := self._subjects.parse(record.subject)):
            ref, own = parsed[1], words[3] == token
            phase = (OWN_TASK if own else TASK) if kind != "end" else (OWN_END if own else END)
            self._task(run, kind, ref, own, record)
        elif kind == "epoch" and len(words) == 2:
            phase = EPOCH
            run.grows = True
            self._place(run, record)
        if not behind:
            run.last_seq = record.seq
        if phase >= TASK or not run.ends:
            run.ended_s = max(run.ended_s, record.stored_s)
        run.records.append(record.seq * len(PHASES) + phase)
        if not run.open:
            top = self._top(run)
            self.list(top, self.due_s(top))

    def _task(self, run: Run, kind: str, ref: Ref, own: bool, record: Record) -> None:
        task = f"{ref.name}.{ref.id}"
        if kind == "task":
            run.open.add(task)
            run.whole = run.whole and not own
            return
        run.open.discard(task)
        if kind == "end":
            run.ends[ref.name] = record.seq
            run.whole = run.whole or own
            if record.data.startswith(_DEAD) and task not in run.replayed:
                run.letters |= {task}
                run.grows = True
        elif json_object(record).get("replays"):
            run.replayed |= {task}
            run.letters -= {task}

    def _place(self, run: Run, epoch: Record) -> None:
        """Put a run below the one that called its workflow, as its epoch says."""
        try:
            ref = Ref.parse(str(json_object(epoch).get("task", "")), "")
        except ConfigError:
            return
        if ref.run != run.name and ref.run in self.runs and not run.above and inner_run(ref) == run.name:
            run.above = ref.run
            self.runs[ref.run].below |= {run.name}

    def _run(self, name: str) -> Run:
        run = self.runs.get(name)
        if run is None:
            run = self.runs[name] = Run(name)
        return run

    def _top(self, run: Run) -> Run:
        while run.above:
            run = self.runs[run.above]
        return run

    def family(self, top: Run) -> list[Run]:
        """A run and all below it."""
        found = [top]
        for run in found:  # it grows meanwhile
            found += [self.runs[name] for name in run.below]
        return found

    def due_s(self, top: Run) -> float:
        """When the retention of a run is over that has ended, in server time; infinite if it never is."""
        family = self.family(top)
        keep_s = self.retention.dead_s if any(run.letters for run in family) else self.retention.ended_s
        if keep_s is None:
            return NEVER
        if not top.whole:
            keep_s = max(keep_s, self._orphan_s)
        return max(run.ended_s for run in family) + keep_s

    def list(self, top: Run, due_s: float) -> None:
        """Have it looked at when it is due, or earlier if it is to be looked at already."""
        if due_s < top.listed_s:
            top.listed_s = due_s
            heapq.heappush(self._due, (due_s, top.name))

    def due(self, now_s: float) -> Iterator[Run]:
        """Ended runs with all below them, whose retention is over: each is taken off the list.

        Whoever does not `forget` it lists it again.
        """
        while self._due and self._due[0][0] <= now_s:
            listed_s, name = heapq.heappop(self._due)
            top = self.runs.get(name)
            if top is None or top.listed_s != listed_s:
                continue
            top.listed_s = NEVER
            if top.above or any(run.open for run in self.family(top)):
                continue  # its last outcome lists it again
            due_s = self.due_s(top)
            if due_s > now_s:
                self.list(top, due_s)
            else:
                yield top

    def forget(self, top: Run) -> None:
        """It was removed."""
        for run in self.family(top):
            self.runs.pop(run.name, None)
