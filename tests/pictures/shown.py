"""The pictures of docs/pictures.md: the same values each time. Written again by ``python tests/pictures/shown.py``."""

from __future__ import annotations

import random
from collections.abc import Sequence
from pathlib import Path

from tales import attempt, task
from test_breaker_strip import outage

import roost
from roost import Explanation, Receiver, Timeline
from roost.pictures._frame import Shown
from roost.transport import JetStreamStatus, ServerStatus

DIRECTORY = Path(__file__).parents[2] / "docs" / "pictures"

STATUS = ServerStatus(
    url="tls://hub.example:4222",
    server="hub-1",
    version="2.15.1",
    cluster="east",
    jetstream=JetStreamStatus(
        streams=3,
        consumers=2,
        storage_bytes=3_400_000_000,
        storage_limit_bytes=10_000_000_000,
        memory_bytes=0,
        memory_limit_bytes=-1,
        stream_limit=10,
        consumer_limit=-1,
    ),
    jetstream_note="",
    rtt_s=0.00042,
    tls="TLSv1.3",
    login="creds from /run/agent.creds",
    expires_s=None,
    source="NATS_URL",
    namespace="demo",
    inbox_prefix="_INBOX",
)
HOPS = [
    *(("coordinator", "agents.tasks", f"worker-{1 + number % 5 % 3}") for number in range(60)),
    *((f"worker-{1 + number % 5 % 3}", "agents.results", "coordinator") for number in range(60)),
    *(
        (f"worker-{number}", f"agents.worker{number}.status", "monitor")
        for number in (1, 2, 3)
        for _ in "12345"
    ),
    *[("coordinator", "agents.report", "reporter")] * 3,
    *[("monitor", "alerts.page", "")] * 2,
]


def pictures() -> dict[str, Shown]:
    """Each by the name of its file."""
    chance = random.Random(7)
    waits = {
        name: [chance.lognormvariate(mean, 0.35) for _ in range(1000)]
        for name, mean in (("publish", -9.4), ("request", -7.6), ("task", -6.7))
    }
    fails: Sequence[float] = (0.0, 0.3, 0.8)
    retried = [
        task(
            f"digest:page-{page}",
            0,
            ends + 0.1,
            *(
                attempt(number, "digest-1", at, at + 0.1, "failed", "OSError: busy")
                for number, at in enumerate(fails[:page], 1)
            ),
            attempt(page + 1, "digest-1", ends, ends + 0.1),
        )
        for page, ends in enumerate((0.0, 0.25, 0.7, 1.8))
    ]
    return {
        "connection": roost.connection_card(STATUS),
        "load": roost.load_picture(
            {"worker-1": 71, "worker-2": 58, "worker-3": 66, "worker-4": 105}, title="300 tasks", unit="tasks"
        ),
        "latency": roost.latency_picture(waits, title="How long it takes"),
        "flow": roost.flow_picture(HOPS, title="A team at work"),
        "delivery": delivered(),
        "attempts": Timeline(retried, "Attempts and backoff"),
        "breaker": outage(),
    }


def delivered() -> Shown:
    """One message of a status is missing."""
    crew = {f"worker{number}": "agents.tasks" for number in (1, 2, 3)}
    names = {"board": "agents.*.status", "archive": "agents.>", **crew}
    receivers = {
        name: Receiver(
            client=name,
            client_id=number,
            server="hub-1",
            pattern=pattern,
            queue="workers" if name in crew else "",
            account="$G",
        )
        for number, (name, pattern) in enumerate(names.items())
    }
    got = {
        "agents.worker1.status": ["board", "archive"],
        "agents.worker2.status": ["board", "archive"],
        "agents.coordinator.command": ["archive"],
        "agents.tasks": ["archive", *crew],
    }
    explained = [
        Explanation(
            subject=subject,
            streams=(),
            receivers=tuple(receivers[name] for name in reached),
            account="$G",
            servers=("hub-1",),
        )
        for subject, reached in got.items()
    ]
    arrived = [("agents.worker1.status", "board"), ("agents.worker2.status", "board")]
    arrived += [(subject, "archive") for subject in got if subject != "agents.worker2.status"]
    arrived.append(("agents.tasks", "worker2"))
    return roost.delivery_matrix(names, list(got), arrived, explained)


if __name__ == "__main__":
    for name, picture in pictures().items():
        (DIRECTORY / f"{name}.svg").write_text(picture.svg() + "\n", encoding="utf-8")
