"""What a run has on record of its operations, from its step records and its tasks. Pure.

A fan-out of 100,000 items has 500 step records: here it is one operation.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from roost.runs.records import StepRecord
from roost.tasks.history import Attempt, TaskHistory


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One operation of a run.

    A fan-out has `items`; `complete` says that no more follow. A call or wait that is not complete goes on.
    """

    name: str
    kind: Literal["step", "call", "map", "signal"]
    contract: str  # empty for a step
    by: str  # who recorded it; of a call, who worked on it last
    at_s: float  # when it began; of a signal without a limit, when it was taken
    took_s: float | None
    complete: bool = True
    items: int = 0
    parts: int = 0
    detail: str = ""


class Operations:
    """Takes step records in log order, and keeps none of their values."""

    def __init__(self) -> None:
        self._found: dict[str, Operation] = {}  # by token

    def add(self, token: str, step: StepRecord) -> None:
        """`token` is that of the record's subject."""
        kind, op = step["kind"], token.partition(":")[0]
        before = self._found.get(op)
        if kind == "map":
            self._found[op] = self._part(step, before)
        elif kind == "wait" or kind == "signal":
            self._found[op] = self._wait(step, before)
        else:
            self._found[op] = Operation(
                name=step["op"],
                kind=kind,
                contract=step["contract"],
                by=step["by"],
                at_s=step["at"],
                took_s=step.get("s"),
            )

    def _part(self, step: StepRecord, before: Operation | None) -> Operation:
        items = step.get("count", 0) + (before.items if before is not None else 0)
        last = bool(step.get("last"))
        return Operation(
            name=step["op"],
            kind="map",
            contract=step["contract"],
            by=step["by"],
            at_s=before.at_s if before is not None else step["at"],
            took_s=None,
            complete=last,
            items=items,
            parts=1 + (before.parts if before is not None else 0),
            detail=f"{items:,} {'item' if items == 1 else 'items'}" + ("" if last else ", and more to come"),
        )

    def _wait(self, step: StepRecord, before: Operation | None) -> Operation:
        began_s = before.at_s if before is not None else step["at"]
        over = step["kind"] == "signal"
        return Operation(
            name=step["op"],
            kind="signal",
            contract=step["contract"],
            by=step["by"],
            at_s=began_s,
            took_s=step["at"] - began_s if over and before is not None else None,
            complete=over,
            detail=("taken" if step.get("seq") else "timed out") if over else "waits",
        )

    def all(self, tasks: Sequence[TaskHistory]) -> tuple[Operation, ...]:
        """All of them in the order in which they began; `tasks` are those of the run, its calls among them."""
        found = list(self._found.values())
        for one in tasks:
            if ":" not in one.id:  # else an item of a fan-out, or a dead letter submitted again
                found.append(
                    Operation(
                        name=one.id,
                        kind="call",
                        contract=one.name,
                        by=one.attempts[-1].by if one.attempts else "",
                        at_s=one.submitted_s,
                        took_s=one.ended_s - one.submitted_s if one.ended_s is not None else None,
                        complete=one.ended_s is not None,
                        detail=one.status,
                    )
                )
        return tuple(sorted(found, key=lambda one: one.at_s))

    def steps(self, run: str) -> list[TaskHistory]:
        """The steps, as something that somebody worked on."""
        return [
            TaskHistory(
                run=run,
                name=one.name,
                id=one.name,
                submitted_s=one.at_s,
                ended_s=one.at_s + one.took_s,
                status="done",
                attempts=(
                    Attempt(
                        number=1,
                        by=one.by,
                        started_s=one.at_s,
                        ended_s=one.at_s + one.took_s,
                        result="done",
                    ),
                ),
                kind="step",
            )
            for one in self._found.values()
            if one.kind == "step" and one.took_s is not None
        ]


__all__ = ["Operation", "Operations"]
