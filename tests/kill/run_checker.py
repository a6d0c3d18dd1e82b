"""Recomputes from the log what became of every run, and compares it with what was started and what was seen.

Plain nats-py beside `checker`; what is known of Roost is its wire contract (docs/wire.md).
"""

from __future__ import annotations

import base64
import hashlib
import json
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from typing import Any

from nats.aio.client import Client

from kill.checker import READ_TIMEOUT_S, check
from kill.run_work import CHAPTERS, LINES, expected, tasks_of

BOOK_STEPS = ("outline", "order", "binding")
CHAPTER_STEPS = ("scan", "close")


@dataclass(frozen=True)
class Stored:
    seq: int
    tokens: list[str]
    data: bytes
    at_s: float
    """Seconds since 1970, by the server's clock."""


class Reader(Client):
    """Takes what a stranger wrote into the log for what it is: a malformed header ends the loop of nats-py 2.16."""

    async def _process_headers(self, headers: bytes) -> dict[str, str] | None:
        try:
            found: dict[str, str] | None = await super()._process_headers(headers)
            return found
        except Exception:
            return None

    def _build_message(self, sid: int, subject: bytes, *rest: Any) -> Any:
        return super()._build_message(sid, subject.decode(errors="replace").encode(), *rest)


async def read(url: str, namespace: str) -> list[Stored]:
    """Every record, in log order."""
    client = Reader()
    await client.connect(url.split(","))
    try:
        js = client.jetstream()
        stream = f"ROOST_{namespace}"
        left = (await js.stream_info(stream)).state.messages
        subscription = await js.subscribe(f"{namespace}.run.>", stream=stream, ordered_consumer=True)
        found = []
        while left > 0:
            message = await subscription.next_msg(timeout=READ_TIMEOUT_S)
            about = message.metadata
            left = about.num_pending
            tokens = message.subject.split(".")[2:]
            found.append(Stored(about.sequence.stream, tokens, message.data, about.timestamp.timestamp()))
        return found
    finally:
        await client.close()


def inner_run(run: str, name: str, id: str) -> str:
    """Where the records of a workflow below another stand."""
    hashed = hashlib.sha256(f"{run}/{name}/{id}".encode()).digest()
    return f"{name}:{base64.b32encode(hashed).decode().lower()[:26]}"


@dataclass
class Verdict:
    faults: dict[str, list[str]] = field(default_factory=dict)
    figures: dict[str, int] = field(default_factory=dict)

    def add(self, promise: str, what: str) -> None:
        self.faults.setdefault(promise, []).append(what)


def check_runs(log: list[Stored], ids: list[str], starts: list[str]) -> Verdict:
    """What is wrong with these runs."""
    verdict = Verdict()
    numbers = sorted({int(line.rpartition(":")[2]) for line in ids if line.startswith("ok ")})
    _check_tasks(verdict, log, numbers)
    _check_records(verdict, log, numbers)
    _check_functions(verdict, log, starts)
    return verdict


def _check_tasks(verdict: Verdict, log: list[Stored], numbers: list[int]) -> None:
    """The checker of tasks, over every task of every run: each expected one has one outcome, and there is no other."""
    lines = []
    for n in numbers:
        run = f"book:{n}"
        lines.append(f"ok {run}")
        for name, operation, key in tasks_of(n):
            lines.append(f"ok {run}/{name}/{operation}{':' if key else ''}{key}")
        for at in range(CHAPTERS):
            m = CHAPTERS * n + at
            inner = inner_run(run, "chapter", f"chapters:c{m}")
            lines += [f"ok {inner}/piece/lines:l{10 * m + i}" for i in range(LINES)]
            lines.append(f"ok {inner}/piece/last")
    renamed = []
    for record in log:
        run, kind, *rest = record.tokens
        if kind in ("task", "end", "dead", "note"):
            id = run if run == rest[1] else f"{run}/{rest[0]}/{rest[1]}"
            renamed.append((record.seq, [run, kind, rest[0], id], record.data))
    figures, faults = check(renamed, lines)
    verdict.figures |= figures
    verdict.faults |= faults


def _check_records(verdict: Verdict, log: list[Stored], numbers: list[int]) -> None:
    """Each run has ended, with the report of an undisturbed one, and has each of its records once."""
    by_run: dict[str, list[Stored]] = defaultdict(list)
    for record in log:
        by_run[record.tokens[0]].append(record)
    for n in numbers:
        run = f"book:{n}"
        ends = [json.loads(r.data) for r in by_run[run] if r.tokens[1:3] == ["end", "book"]]
        report = ends[0].get("value") if ends else None
        if report != expected(n).model_dump():
            verdict.add("another report than that of an undisturbed run", f"{run}: {ends[:1]}")
        runs: list[tuple[str, tuple[str, ...], tuple[str, ...]]] = [(run, BOOK_STEPS, ("pages", "chapters"))]
        for at in range(CHAPTERS):
            inner = inner_run(run, "chapter", f"chapters:c{CHAPTERS * n + at}")
            runs.append((inner, CHAPTER_STEPS, ("lines",)))
        for one, steps, maps in runs:
            found = Counter(".".join(r.tokens[2:]) for r in by_run[one] if r.tokens[1] == "step")
            for name, count in found.items():
                if count > 1:
                    verdict.add("a step recorded twice", f"{one} {name}")
            for name in (*steps, *(f"{name}:0" for name in maps)):
                if not found[name]:
                    verdict.add("a step that is not on record", f"{one} {name}")
            states = [json.loads(r.data)["status"] for r in by_run[one] if r.tokens[1] == "state"]
            if states[-1:] != ["done"]:
                verdict.add("a run that is not done", f"{one}: {states}")
            if "parked" in states:
                verdict.add("a run that was parked", one)
    epochs = [r for r in log if r.tokens[1] == "epoch"]
    verdict.figures |= {"runs": len({r.tokens[0] for r in epochs}), "takeovers": len(epochs)}


def _check_functions(verdict: Verdict, log: list[Stored], starts: list[str]) -> None:
    """Each step ran its function at most once per successful record.

    An execution whose epoch is newer than a step's record has read that record. An older one ran the function at
    most once; if another recorded it meanwhile, this one had been taken over, and its own record was refused.
    """
    recorded = {(r.tokens[0], r.tokens[2]): r.seq for r in log if r.tokens[1] == "step"}
    ran: Counter[tuple[str, str, str]] = Counter()
    for run, operation, execution, epoch in (line.split() for line in starts):
        ran[run, operation, execution] += 1
        if int(epoch) > recorded.get((run, operation), int(epoch)):
            verdict.add("a step that ran although it was on record", f"{run} {operation} in {execution}")
    for (run, operation, execution), times in ran.items():
        if times > 1:
            verdict.add("a step that ran twice in one execution", f"{run} {operation} in {execution}")
    steps = sum(operation in (*BOOK_STEPS, *CHAPTER_STEPS) for _, operation in recorded)
    verdict.figures |= {"functions of steps": sum(ran.values()), "steps recorded": steps}
