"""Histories and dead letters as JSON for programs."""

from __future__ import annotations

import json
from typing import Any

from roost.cli.terminal import stamp
from roost.tasks import Attempt, DeadLetter, Ref, TaskHistory


def attempt_json(attempt: Attempt) -> dict[str, Any]:
    return {
        "number": attempt.number,
        "by": attempt.by,
        "started": stamp(attempt.started_s),
        "seconds": round(attempt.ended_s - attempt.started_s, 6) if attempt.ended_s is not None else None,
        "result": attempt.result,
        "error": attempt.error,
    }


def history_json(one: TaskHistory, id: str) -> dict[str, Any]:
    return {
        "id": id,
        "task": one.name,
        "run": one.run,
        "status": one.status,
        "submitted": stamp(one.submitted_s),
        "begins": stamp(one.begins_s),
        "ended": stamp(one.ended_s),
        "reason": one.reason,
        "attempts": [attempt_json(attempt) for attempt in one.attempts],
    }


def letter_json(letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": str(letter.ref),
        "task": letter.name,
        "run": letter.run,
        "died": stamp(letter.died_s),
        "reason": letter.reason,
        "error": letter.error,
        "attempts": [attempt_json(attempt) for attempt in letter.history],
        "replays": [str(Ref(letter.run, letter.name, id)) for id in letter.replays],
        "input": payload_json(letter.input),
    }


def payload_json(data: bytes) -> Any:
    """The value of a payload; its text when it is no JSON."""
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return data.decode(errors="replace")
