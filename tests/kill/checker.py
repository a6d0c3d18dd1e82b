"""Recomputes from the log what became of every task, and compares it with the submitter's own file of ids.

    python checker.py URL NAMESPACE FILE

Plain nats-py; nothing of Roost is imported, so that no mistake of it can hide itself. FILE has a line `try <id>`
before a submission and `ok <id>` after one that was accepted; an id without `ok` (or with `unknown`) may be
stored or not. Exit code 0 if all holds, 1 if not; the summary on standard output is JSON either way.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections import Counter, defaultdict
from pathlib import Path

import nats

READ_TIMEOUT_S = 10


async def read_log(url: str, namespace: str) -> list[tuple[int, list[str], bytes]]:
    """Every record as (sequence, subject tokens behind `<ns>.run.`, payload), in log order."""
    client = await nats.connect(url)
    try:
        js = client.jetstream()
        stream = f"ROOST_{namespace}"
        left = (await js.stream_info(stream)).state.messages
        subscription = await js.subscribe(f"{namespace}.run.>", stream=stream, ordered_consumer=True)
        found = []
        while left > 0:
            message = await subscription.next_msg(timeout=READ_TIMEOUT_S)
            left = message.metadata.num_pending
            sequence = message.metadata.sequence.stream
            found.append((sequence, message.subject.split(".")[2:], message.data))
        return found
    finally:
        await client.close()


def check(
    log: list[tuple[int, list[str], bytes]], lines: list[str]
) -> tuple[dict[str, int], dict[str, list[str]]]:
    """Figures, and under each broken promise how many broke it and the first of them."""
    tried, accepted = set(), set()
    for word, _, id in (line.partition(" ") for line in lines):
        tried.add(id)
        if word == "ok":
            accepted.add(id)
    stored: dict[str, list[int]] = defaultdict(list)
    ends: dict[str, list[tuple[int, str]]] = defaultdict(list)
    listed: Counter[str] = Counter()
    kinds: Counter[str] = Counter()
    faults: dict[str, set[str]] = defaultdict(set)
    for sequence, (_run, kind, *rest), data in log:
        kinds[kind] += 1
        id = rest[1] if len(rest) > 1 else ""
        if kind == "task":
            stored[id].append(sequence)
        elif kind == "end":
            try:
                status = str(json.loads(data)["status"])
            except (ValueError, KeyError, TypeError):
                status = "unreadable"
            if status not in ("done", "dead", "cancelled"):
                faults["unreadable outcome"].add(id)
            ends[id].append((sequence, status))
        elif kind == "dead":
            listed[id] += 1
    for id in accepted:
        if id not in stored:
            faults["accepted but not stored"].add(id)
        if not ends[id]:
            faults["accepted without outcome"].add(id)
    for id, sequences in stored.items():
        if len(sequences) > 1:
            faults["stored twice"].add(id)
        if id not in tried:
            faults["foreign id"].add(id)
    dead = {id for id, found in ends.items() if any(status == "dead" for _, status in found)}
    for id, found in ends.items():
        if len(found) > 1:
            faults["several outcomes"].add(id)
        if found and (not stored[id] or found[0][0] < stored[id][0]):
            faults["outcome without task"].add(id)
    faults["dead but not listed"] |= dead - set(listed)
    faults["listed but not dead"] |= set(listed) - dead
    statuses = Counter(status for found in ends.values() for _, status in found)
    figures = {"tried": len(tried), "accepted": len(accepted), "unknown": len(tried - accepted)}
    figures |= {"unknown but stored": len((tried - accepted) & set(stored)), **kinds, **statuses}
    return figures, {name: [f"{len(ids)} of them", *sorted(ids)[:5]] for name, ids in faults.items() if ids}


if __name__ == "__main__":
    records = asyncio.run(read_log(sys.argv[1], sys.argv[2]))
    figures, faults = check(records, Path(sys.argv[3]).read_text().splitlines())
    print(json.dumps({"ok": not faults, "faults": faults, "figures": figures}, indent=1))
    sys.exit(1 if faults else 0)
