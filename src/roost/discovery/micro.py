"""Answers of a NATS micro service (ADR-32), made from an instance's own counters. Pure.

https://github.com/nats-io/nats-architecture-and-design/blob/main/adr/ADR-32.md says what is answered, the schemas
in https://github.com/nats-io/jsm.go/tree/main/schemas/micro/v1 say in which shape. A service is an agent, its id is
the instance. Every handler is listed as an endpoint, with its contract's kind in the metadata: those of kind
`endpoint` and `stream_endpoint` answer requests on their subject, the others tell their counters only.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from roost.discovery.card import Card, Part
from roost.discovery.standing import Standing

PREFIX = "$SRV"
VERBS = ("PING", "INFO", "STATS")

_not_in_a_name = re.compile("[^A-Za-z0-9_-]+")


def ping(card: Card) -> bytes:
    return _encode(_head(card, "ping"))


def info(card: Card, parts: Sequence[Part], now: Standing, *, schemas: bool = True) -> bytes:
    """What the instance serves; beyond the standard's fields, `roost` holds what its heartbeat would say now."""
    endpoints = [_endpoint(part, _metadata(part, schemas=schemas)) for part in parts]
    served = ", ".join(f"{part.name} ({part.kind})" for part in parts)
    return _encode(
        {
            **_head(card, "info"),
            "description": f"Roost agent {card.agent}: {served}"[:1000],
            "endpoints": endpoints,
            "roost": now.model_dump(mode="json"),
        }
    )


def stats(card: Card, parts: Sequence[Part]) -> bytes:
    """Requests are counted when they have ended; one that was refused counts as an error and takes no time."""
    started = datetime.fromtimestamp(card.started_s, UTC).isoformat(timespec="milliseconds")
    return _encode(
        {
            **_head(card, "stats"),
            "started": started.replace("+00:00", "Z"),
            "endpoints": [_statistics(part) for part in parts],
        }
    )


def service_subjects(card: Card, verb: str) -> tuple[str, str, str]:
    """All services, all of this name, this one alone."""
    return (
        f"{PREFIX}.{verb}",
        f"{PREFIX}.{verb}.{card.agent}",
        f"{PREFIX}.{verb}.{card.agent}.{card.instance}",
    )


def endpoint_name(name: str) -> str:
    """A contract's name as a name of an endpoint: ``team.{agent}.status`` becomes ``team_agent_status``."""
    return _not_in_a_name.sub("_", name).strip("_") or "_"


def _head(card: Card, word: str) -> dict[str, Any]:
    return {
        "type": f"io.nats.micro.v1.{word}_response",
        "name": card.agent,
        "id": card.instance,
        "version": card.version,
        "metadata": {
            "roost": card.roost,
            "namespace": card.namespace,
            "host": card.host,
            "pid": str(card.pid),
        },
    }


def _endpoint(part: Part, more: dict[str, Any]) -> dict[str, Any]:
    return {"name": endpoint_name(part.name), "subject": part.subject, "queue_group": part.group, **more}


def _metadata(part: Part, *, schemas: bool) -> dict[str, Any]:
    facts = {"kind": part.kind, "contract": part.name, "hash": part.schemas.hash}
    return {"metadata": {**facts, **(part.schemas.texts if schemas else {"schemas": "too large to be told"})}}


def _statistics(part: Part) -> dict[str, Any]:
    tally = part.tally
    requests = tally.handled + tally.errors
    load = part.load()
    return _endpoint(
        part,
        {
            "num_requests": requests,
            "num_errors": tally.errors,
            "last_error": tally.last,
            "processing_time": tally.spent_ns,
            "average_processing_time": tally.spent_ns // requests if requests else 0,
            "data": {
                "kind": part.kind,
                "running": load.running,
                "limit": part.limit,
                "waiting": load.waiting,
            },
        },
    )


def _encode(answer: dict[str, Any]) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode()
