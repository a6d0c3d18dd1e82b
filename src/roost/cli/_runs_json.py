"""Runs as JSON for programs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from roost.cli._tasks_json import history_json
from roost.cli.terminal import stamp
from roost.runs.reading import RunInfo, RunReport
from roost.tasks import Ref, TaskHistory


def info_json(info: RunInfo) -> dict[str, Any]:
    return {
        "id": info.id,
        "workflow": info.workflow,
        "task": info.task,
        "status": info.status,
        "reason": info.reason,
        "begun": stamp(info.begun_s),
        "ended": stamp(info.ended_s),
        "by": info.by,
    }


def report_json(report: RunReport) -> dict[str, Any]:
    takeovers, operations = [], []
    for takeover in report.takeovers:
        takeovers.append({"by": takeover.by, "kind": takeover.kind, "at": stamp(takeover.at_s)})
    for one in report.operations:
        fields = asdict(one)
        operations.append(
            {
                "name": fields.pop("name"),
                "kind": fields.pop("kind"),
                "contract": fields.pop("contract"),
                "by": fields.pop("by"),
                "begun": stamp(fields.pop("at_s")),
                "seconds": fields.pop("took_s"),
                **fields,
            }
        )
    return {
        **info_json(report.info),
        "coordinators": takeovers,
        "operations": operations,
        "tasks": report.counts,
    }


def print_histories_json(tasks: Sequence[TaskHistory]) -> None:
    """One JSON array, a line for each task: 100,000 of them as one text would take 200 MB of memory."""
    for number, one in enumerate(tasks):
        row = {**history_json(one, str(Ref(one.run, one.name, one.id))), "kind": one.kind}
        sys.stdout.write(("[\n " if number == 0 else ",\n ") + json.dumps(row))
    sys.stdout.write("\n]\n" if tasks else "[]\n")
    sys.stdout.flush()
