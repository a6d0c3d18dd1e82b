"""Records and messages that almost fit: what a broken or a hostile peer with the right to write would send to Roost.

`raw_messages` is noise, most of which is refused at the first look. What is made here gets further: the subject is
one that Roost reads, the payload is JSON of the right kind with one thing wrong, the headers are those that Roost
looks at with values that nobody would write. All of it is in runs of its own, so that nobody else's work is forged.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from typing import Any

_ATTEMPT = {"k": 1, "by": "x-1", "at": 1763796000.1, "s": 0.02}
_ERROR = {"type": "ValueError", "message": "no"}
_INPUT = {"text": "x", "number": 1}
_ENDS = [
    {"status": "done", "token": "t", "attempts": [_ATTEMPT], "value": _INPUT},
    {"status": "dead", "token": "t", "reason": "r", "attempts": [{**_ATTEMPT, "error": _ERROR}]},
    {"status": "cancelled", "token": "t", "by": "x", "reason": "r", "attempts": []},
]
_NOTE = {
    "k": 1,
    "event": "failed",
    "by": "x-1",
    "at": 1763796000.1,
    "s": 0.02,
    "error": _ERROR,
    "retry_in_s": 0.4,
}
_SAID = {"at": 1763796000.1, "by": "x", "n": 1, "value": _INPUT}
_EPOCH = {
    "token": "t",
    "by": "x-1",
    "at": 1763796000.1,
    "workflow": "w",
    "task": {"run": "a", "name": "b", "id": "c"},
}
_BEAT = {
    "state": "ready",
    "version": "1",
    "roost": "0.1.0",
    "host": "h",
    "pid": 4711,
    "started": 1763796000.1,
    "interval_s": 5.0,
    "handlers": [{"kind": "task", "name": "n", "hash": "h", "running": 1, "limit": 2, "waiting": 0}],
}  # fmt: skip
_WRONG: list[Any] = [
    None,
    -1,
    1e300,
    10**30,
    "",
    "\u202e\u001b[31m",
    "x" * 2000,
    [],
    {},
    [[[[]]]],
    True,
    "*",
    "a.b.>",
]

# {r}: a run, {n}: a contract, {i}: an id, {k}: a number that may be none
_RECORDS: list[tuple[str, Sequence[Any]]] = [
    ("run.{r}.task.{n}.{i}", [_INPUT]),
    ("run.{r}.task.{n}.{i}", [_INPUT]),
    ("run.{r}.end.{n}.{i}", _ENDS),
    ("run.{r}.end.{n}.{i}", _ENDS),
    ("run.{r}.dead.{n}.{i}", [{"reason": "r", "replays": ["x"]}]),
    ("run.{r}.note.{n}.{i}.{k}", [_NOTE]),
    ("run.{r}.chunk.{n}.{i}.{k}", [_SAID]),
    ("run.{r}.progress.{n}.{i}.{k}", [_SAID]),
    ("run.{r}.once.{n}.{i}.{k}", [_INPUT]),
    ("run.{r}.deadline.{n}.{i}.{k}", [None]),
    ("run.{r}.epoch", [_EPOCH]),
    ("run.{r}.step.{i}", [_INPUT, [1, "a"], {"until": 1.5}]),
    ("run.{r}.step.{i}:{k}", [{"count": 3, "hash": "h"}]),
    ("run.{r}.state", [{"status": "parked", "reason": "r"}, {"status": "cancelling"}, {"status": "done"}]),
    ("run.{r}.signal.{n}", [_INPUT]),
    ("run.{n}::{r}.queue.{n}.{r}.{i}", [None]),
    ("run.{n}::{r}.queue.{n}.{r}.\u202e", [None]),
    ("run.{n}::{r}.task.{n}.{k}.{r}.{i}", [None]),
    ("run.{n}::.task.{n}.wake.{k}.{r}.{i}", [None]),
    ("sched.at.{n}.{k}.{r}.{i}", [None]),
    ("sched.cron.{r}", [_INPUT]),
    ("fired.{n}.at.{k}.{r}.{i}", [None]),
    ("fired.{n}.cron.{r}", [_INPUT]),
    ("upkeep", [{"by": "x"}]),
    ("beat.{n}.{r}", [_BEAT]),
    ("beat.{n}.{r}", [_BEAT]),
    ("cancel.{n}.{r}.{i}", [None]),
    ("live.run.{r}.end.{n}.{i}", [None]),
    ("live.run.{r}.chunk.{n}.{i}.{k}", [None]),
]
_BESIDE = (
    "note.{n}.{i}.{k}",
    "chunk.{n}.{i}.{k}",
    "progress.{n}.{i}.{k}",
    "deadline.{n}.{i}.{k}",
    "signal.s",
    "state",
)
_NO_JSON = (b"", b"{", b"\xff\xfe", b"[" * 3000, b"NaN", b'"\\ud800"', b'{"k": 1, "k": 2}', b"null")
_NUMBERS = ("1", "0", "7", "-1", "99999999999999999999", "x", "1763796000000", "1e9")
_HEADERS = {
    "Roost-Version": ("0", "-1", "1.5", "x", ""),
    "Roost-Order": ("k", "*", "a.b", "", "x" * 300, "\x00"),
    "Roost-Not-Before": ("0", "-5", "x", "9" * 40, "1e3"),
    "Roost-Deadline": ("0", "-5", "x", "9" * 40, "1763796000000"),
    "Roost-Timeout-Ms": ("0", "-5", "x", "9" * 40),
    "Roost-Stream": ("0", "-1", "9" * 40, "x"),
    "Roost-Schedule": ("{}", '{"task":"work","cron":7}', "["),
    "Roost-Revision": ("", "*", "a" * 99),
    "Nats-Schedule": ("@at 2000-01-01T00:00:00Z", "@every 1ns", "x"),
    "Nats-Schedule-Next": ("purge", "2026-01-01T00:00:00Z", "x"),
    "Nats-Expected-Last-Subject-Sequence": ("0", "7", "-1", "x"),
    "Nats-Batch-Id": ("b",),
    "Nats-Subject": ("elsewhere.run.a.task.b.c",),
    "Nats-Sequence": ("0", "x", "9" * 40),
    "Nats-Time-Stamp": ("", "yesterday"),
    "Nats-Stream": ("ROOST_x",),
    "traceparent": ("00-" + "0" * 32 + "-" + "0" * 16 + "-00", "x", "\u00e9"),
}
_FIRST_LINES = (
    "NATS/1.0",
    "NATS/1.0",
    "NATS/1.0",
    "NATS/1.0 503",
    "NATS/1.0 404 No Messages",
    "NATS/1.0 409 Consumer Deleted",
)


def foreign_records(
    seed: int | str,
    namespace: str,
    names: Sequence[str],
    *,
    keys: Sequence[str] = (),
    inboxes: Sequence[str] = (),
    ids: Sequence[str] = (),
) -> Iterator[bytes]:
    """Messages without end in the client's protocol: every kind of subject of `docs/wire.md`, each a little wrong.

    `names` are those of contracts that somebody serves, `keys` tokens of order keys that are in use: their queues get
    places and turns of tasks that are not there. `inboxes` are prefixes of inboxes at which somebody listens: forged
    answers and statuses go to tokens below them. `ids` are those of tasks that stand alone, such as ``work:one``:
    beside them come notes, chunks and the like that are no JSON. (What fits would be a forgery, and count.)
    """
    chance = random.Random(f"{seed}/foreign")
    while True:
        if inboxes and chance.random() < 0.1:
            subject = f"{chance.choice(inboxes)}.{chance.choice(['0', '1', '0.1', 'x', f'{chance.random():.9f}'[2:]])}"
            yield _message(subject, _bytes(chance, chance.choice(_ENDS)), _head(chance, forged=True))
            continue
        if ids and chance.random() < 0.1:
            id = chance.choice(ids)
            kind = chance.choice(_BESIDE).format(n=id.partition(":")[0], i=id, k=chance.choice(_NUMBERS))
            yield _message(f"{namespace}.run.{id}.{kind}", chance.choice(_NO_JSON), b"")
            continue
        form, examples = chance.choice(_RECORDS)
        run = f"x{chance.randrange(5000)}"
        if "::" in form and keys and chance.random() < 0.5:
            form = form.replace("::{r}.", f"::{chance.choice(keys)}.", 1)
        subject = form.format(
            r=run,
            n=chance.choice(names),
            i=chance.choice([run, f"i{chance.randrange(100)}"]),
            k=chance.choice(_NUMBERS),
        )
        head = _head(chance, forged=False) if chance.random() < 0.4 else b""
        yield _message(f"{namespace}.{subject}", _bytes(chance, chance.choice(examples)), head)


def _bytes(chance: random.Random, example: Any) -> bytes:
    """An example as JSON, mostly with something wrong somewhere in it; None is an empty payload, mostly."""
    if example is None:
        return b"" if chance.random() < 0.8 else b'{"unexpected": 1}'
    if chance.random() < 0.2:
        return json.dumps(example).encode()
    text = json.dumps(_spoilt(chance, example))
    if chance.random() < 0.1:
        text = text[: chance.randrange(len(text) + 1)]
    return text.encode()


def _spoilt(chance: random.Random, example: Any) -> Any:
    if isinstance(example, dict) and example:
        changed = dict(example)
        name = chance.choice(sorted(changed))
        kind = chance.randrange(4)
        if kind == 0:
            del changed[name]
        elif kind == 1:
            changed[chance.choice(["extra", "", "\u0000", "__proto__"])] = chance.choice(_WRONG)
        else:
            changed[name] = _spoilt(chance, changed[name])
        return changed
    if isinstance(example, list) and example and chance.random() < 0.7:
        return [_spoilt(chance, example[0])] * chance.choice([1, 2, 200])
    return chance.choice(_WRONG)


def _head(chance: random.Random, *, forged: bool) -> bytes:
    first = chance.choice(_FIRST_LINES if forged else _FIRST_LINES[:1])
    names = chance.sample(sorted(_HEADERS), chance.randrange(4))
    lines = [f"{name}: {chance.choice(_HEADERS[name])}" for name in names]
    if forged:
        lines.append(f"Status: {chance.choice(['100', '404', '408', '409', '503', 'x'])}")
    return ("\r\n".join([first, *lines]) + "\r\n\r\n").encode()


def _message(subject: str, payload: bytes, head: bytes) -> bytes:
    if not head:
        return b"PUB %s %d\r\n%s\r\n" % (subject.encode(), len(payload), payload)
    return b"HPUB %s %d %d\r\n%s%s\r\n" % (
        subject.encode(),
        len(head),
        len(head) + len(payload),
        head,
        payload,
    )
