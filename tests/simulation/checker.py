"""What every history must have come to, whatever befell it: read from the simulated log, record by record."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

from roost.runs.records import inner_run
from roost.tasks.records import Ref, Subjects
from simulation.stream import Stored
from simulation.work import Order, Report, expected
from simulation.world import NAMESPACE, STREAM, World


def check(world: World) -> None:
    """Complains to the world."""
    stream = world.server.streams.get(STREAM)
    if stream is None:
        world.complain("there is no stream")
        return
    Check(world, [record for record in stream.records if record is not None]).everything()


class Check:
    def __init__(self, world: World, records: list[Stored]) -> None:
        self.world = world
        self.records = {record.seq: record for record in records}
        self.tasks: dict[Ref, list[Stored]] = defaultdict(list)
        self.ends: dict[Ref, list[Stored]] = defaultdict(list)
        self.dead: dict[Ref, list[Stored]] = defaultdict(list)
        self.steps: dict[str, list[Stored]] = defaultdict(list)
        self.epochs: dict[str, list[Stored]] = defaultdict(list)
        self.states: dict[str, list[Stored]] = defaultdict(list)
        subjects = Subjects(NAMESPACE)
        for record in records:
            kind = record.tokens[3]
            if kind in ("task", "end", "dead"):
                parsed = subjects.parse(record.subject)
                assert parsed is not None
                {"task": self.tasks, "end": self.ends, "dead": self.dead}[kind][parsed[1]].append(record)
            elif kind in ("step", "epoch", "state"):
                where = {"step": self.steps, "epoch": self.epochs, "state": self.states}[kind]
                where[record.subject if kind == "step" else record.tokens[2]].append(record)

    def everything(self) -> None:
        self.outcomes()
        self.submissions()
        self.fences()
        self.commits()
        self.steps_once()
        self.reports()
        self.repetitions()

    def outcomes(self) -> None:
        """Each task has one outcome; dead ones, and no others, are listed."""
        complain = self.world.complain
        for ref in {**self.tasks, **self.ends, **self.dead}:
            tasks, ends, dead = self.tasks[ref], self.ends[ref], self.dead[ref]
            status = json.loads(ends[0].data)["status"] if ends else ""
            if len(tasks) > 1:
                complain(f"task {ref} is stored {len(tasks)} times")
            if not tasks and status != "cancelled":
                complain(f"{ref} has an outcome or a listing, and no task")
            if not ends:
                complain(f"task {ref} has no outcome")
            if len(ends) > 1:
                complain(f"task {ref} has {len(ends)} outcomes")
            if len(dead) != (status == "dead"):
                complain(f"task {ref} ended as {status!r} and is listed {len(dead)} times as dead")

    def submissions(self) -> None:
        """What was accepted is there; what is there was submitted."""
        there = {ref.id for ref in {**self.tasks, **self.ends} if ref.run == ref.id}
        for id in self.world.clients.accepted - there:
            self.world.complain(f"{id} was accepted, and is not stored")
        for id in there - self.world.clients.tried:
            if not id.startswith(("job:", "bomb:", "voyage:")) and id in self.world.clients.accepted:
                continue
            if ":" in id:
                self.world.complain(f"{id} is stored, and was never submitted")
        for group, size in self.world.clients.groups.items():
            seqs = [
                task[0].seq for ref, task in self.tasks.items() if task and ref.id.startswith(f"job:{group}-")
            ]
            if seqs and (len(seqs) != size or max(seqs) - min(seqs) != size - 1):
                self.world.complain(f"batch {group} was stored in pieces: {sorted(seqs)}, {size} records")

    def fences(self) -> None:
        """Only who coordinates a run writes to it."""
        for run, epochs in self.epochs.items():
            written = [
                one for subject, found in self.steps.items() if subject.split(".")[2] == run for one in found
            ]
            written += [one for one in self.states[run] if json.loads(one.data)["status"] != "cancelling"]
            for record in written:
                by = json.loads(record.data)["by"]
                epoch = [one for one in epochs if one.seq < record.seq]
                if not epoch or json.loads(epoch[-1].data)["by"] != by:
                    self.world.complain(
                        f"{record.subject} ({record.seq}) was written by {by} after another had taken over"
                    )

    def commits(self) -> None:
        """The parts of a commit stand together: a plan and its tasks, an outcome and its run's state."""
        for found in self.steps.values():
            for record in found:
                step = json.loads(record.data)
                if step["kind"] != "map":
                    continue
                before = [self.records.get(record.seq - 1 - n) for n in range(step["count"])]
                contract = step["contract"]
                # the task of what was cancelled meanwhile is gone
                if any(one is not None and one.tokens[3:5] != ["task", contract] for one in before):
                    self.world.complain(
                        f"the plan {record.subject} ({record.seq}) does not stand with its {step['count']} tasks"
                    )
        for ref, ends in self.ends.items():
            if ref.name != "voyage" or not ends or json.loads(ends[0].data)["status"] != "done":
                continue
            state = self.records.get(ends[0].seq - 1)
            if state is None or state.subject != f"{NAMESPACE}.run.{inner_run(ref)}.state":
                self.world.complain(
                    f"the outcome of {ref} ({ends[0].seq}) does not stand with its run's state"
                )

    def steps_once(self) -> None:
        """One record per operation."""
        for subject, found in self.steps.items():
            if len(found) > 1:
                self.world.complain(f"{subject} was stored {len(found)} times")

    def reports(self) -> None:
        """Each run came to what an undisturbed one comes to."""
        for ref, tasks in self.tasks.items():
            if ref.name != "voyage" or not tasks or not self.ends[ref]:
                continue
            order = Order.model_validate_json(tasks[0].data)
            end = json.loads(self.ends[ref][0].data)
            if end["status"] == "done":
                report = Report.model_validate(end["value"])
                if report != expected(order, report.version):
                    self.world.complain(
                        f"run {ref} reports {report!r} instead of {expected(order, report.version)!r}"
                    )
            elif end["status"] == "dead" or not self.world.clients.cancelled:
                self.world.complain(f"run {ref} ended as {end['status']}: {end.get('reason')}")

    def repetitions(self) -> None:
        """Each execution of a run saw what those before it had seen."""
        for run, executions in self.world.seen.items():
            longest: list[Any] = []
            for seen in executions.values():
                for number, (one, other) in enumerate(zip(longest, seen, strict=False)):
                    if one != other:
                        self.world.complain(
                            f"executions of run {run} saw {one} and {other} as number {number}"
                        )
                        break
                if len(seen) > len(longest):
                    longest = seen
