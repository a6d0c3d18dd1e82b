"""What `roost doctor` thinks of what it has found. Pure.

A check that could not be made is `unknown` and says whom to ask: at three in the morning a green line that nobody has
looked behind costs more than none.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from roost._text import clean
from roost.errors import Difference
from roost.pictures._axis import duration
from roost.tasks.provision import RESERVE
from roost.tasks.records import RECORD_LIMITS
from roost.tasks.retention import Retention
from roost.tasks.room import OUTCOME_BYTES

Verdict = Literal["ok", "warn", "fail", "unknown"]

OLDEST, OLDEST_WITH_CRON = (2, 12), (2, 14)
SLOW_S = 0.1
"""Round trip above which work is mostly waiting: a task takes three."""
CLOCK_S = 1.0
LEAST_PAYLOAD_BYTES = RECORD_LIMITS.max_bytes + 4096
"""An outcome with the history of its attempts, and its headers."""
FILLING = 0.6
"""Share of `max_bytes` from which to say so, some time before new work is refused at 0.8."""
NAMES = 5
"""Names in one line."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """One line of what was found."""

    name: str
    verdict: Verdict
    found: str
    advice: str = ""
    """What to do; empty when there is nothing to do."""


def version(text: str) -> Check:
    """The server's, such as 2.15.1."""
    found = re.match(r"v?(\d+)\.(\d+)", text)
    number = (int(found[1]), int(found[2])) if found else None
    told = f"nats-server {text or 'of unknown version'}"
    if number is None:
        return Check(
            name="version", verdict="unknown", found=told, advice="ask whoever runs it; 2.12 is needed"
        )
    if number < OLDEST:
        return Check(
            name="version", verdict="fail", found=told, advice="2.12 is the oldest that Roost runs on"
        )
    if number < OLDEST_WITH_CRON:
        return Check(name="version", verdict="warn", found=told, advice="schedules (cron) need 2.14")
    return Check(name="version", verdict="ok", found=told)


def round_trip(seconds: float) -> Check:
    told = f"{seconds * 1000:.1f} ms"
    if seconds > SLOW_S:
        advice = "a task takes three of these: look at the network, and at the server's load"
        return Check(name="round trip", verdict="warn", found=told, advice=advice)
    return Check(name="round trip", verdict="ok", found=told)


def protection(tls: str, *, local: bool) -> Check:
    """`tls` is such as TLSv1.3, and empty in clear; `local`: the server's address is of this machine."""
    if tls:
        return Check(name="encryption", verdict="ok", found=tls)
    if local:
        return Check(name="encryption", verdict="ok", found="in clear, on this machine")
    return Check(
        name="encryption",
        verdict="warn",
        found="in clear: whoever is on the network reads and changes all of it",
        advice="give the server a certificate (`roost server config`) and connect with tls://",
    )


def login(described: str, expires_s: float | None, soon: str, now_s: float) -> Check:
    """`soon`: what was said of a login in the last tenth of its life."""
    if soon:
        return Check(name="login", verdict="warn", found=soon)
    if expires_s is not None and expires_s <= now_s:
        return Check(
            name="login", verdict="fail", found=f"{described}: expired", advice="put a new one in its place"
        )
    if expires_s is not None:
        return Check(name="login", verdict="ok", found=f"{described}, for {duration(expires_s - now_s)} more")
    return Check(name="login", verdict="ok", found=f"{described}, does not expire")


def payload(max_payload: int) -> Check:
    told = f"{max_payload:,} bytes at most"
    if max_payload < LEAST_PAYLOAD_BYTES:
        advice = (
            f"outcomes may take {LEAST_PAYLOAD_BYTES:,}: raise max_payload of the server, 1MB is its default"
        )
        return Check(name="max_payload", verdict="warn", found=told, advice=advice)
    return Check(name="max_payload", verdict="ok", found=told)


def clock(ahead_s: float | None) -> Check:
    """`ahead_s`: by how much the clock of this machine is ahead of the server's."""
    if ahead_s is None:
        return Check(name="clock", verdict="unknown", found="the server did not say its time")
    if abs(ahead_s) > CLOCK_S:
        told = f"this machine is {abs(ahead_s):.1f} s {'ahead of' if ahead_s > 0 else 'behind'} the server"
        advice = "synchronise both (NTP): logins and schedules go by the server's clock"
        return Check(name="clock", verdict="warn", found=told, advice=advice)
    return Check(name="clock", verdict="ok", found=f"{abs(ahead_s) * 1000:.0f} ms from the server's")


def acks(flags: Mapping[str, Any] | None) -> Check:
    """`flags`: the server's feature flags; None if it did not say."""
    name = "js_ack_fc_v2"
    if flags is None or name not in flags:
        return Check(
            name=name,
            verdict="unknown",
            found="the server did not say",
            advice="servers before 2.15 have none",
        )
    if flags[name]:
        advice = "Roost reads both forms, nats-py 2.16 does not: feature_flags { js_ack_fc_v2: false }"
        return Check(name=name, verdict="warn", found="on", advice=advice)
    return Check(name=name, verdict="ok", found="off")


def power_cut(servers: Sequence[tuple[str, Mapping[str, Any]]], *, unasked: bool) -> Check:
    """`servers`: name and JetStream configuration of each that told; `unasked`: there are, or may be, others."""
    name = "power cut"
    lazy = [
        f"{clean(server, 40)} syncs every {duration(float(config.get('sync_interval') or 0) / 1e9)}"
        for server, config in servers
        if not config.get("sync_always")
    ]
    if lazy:
        return Check(
            name=name,
            verdict="warn",
            found=f"{listed(lazy)}: a power cut takes work that was accepted, or the whole log",
            advice="jetstream { sync_interval: always }, and start the server again",
        )
    ask = "ask `sync_interval` of its configuration, or give --monitor http://HOST:8222"
    if not servers:
        return Check(
            name=name, verdict="unknown", found="no server says how it syncs to its disk", advice=ask
        )
    told = f"{listed([clean(server, 40) for server, _ in servers])}: sync_interval is always"
    if unasked:
        return Check(name=name, verdict="unknown", found=f"{told}; of the others it is not known", advice=ask)
    return Check(name=name, verdict="ok", found=told)


def configuration(name: str, what: str, differ: Sequence[Difference]) -> Check:
    if differ:
        told = listed([f"{one.field} is {one.found!r} and not {one.wanted!r}" for one in differ])
        advice = "`roost provision --dry-run` lists all, `roost provision` mends it; agents do not start before that"
        return Check(name=name, verdict="fail", found=f"{what}: {told}", advice=advice)
    return Check(name=name, verdict="ok", found=f"{what} is as the code wants it")


def copies(replicas: int, info: Mapping[str, Any], *, clustered: bool) -> Check:
    """`info`: the part `cluster` of the stream's information."""
    if not clustered:
        return Check(name="copies", verdict="ok", found="one, as the server stands alone")
    if replicas == 1:
        return Check(
            name="copies",
            verdict="warn",
            found="one, in a cluster: it stands still while its server is down, and is lost with its disk",
            advice="roost provision --replicas 3",
        )
    if not info.get("leader"):
        advice = "start the servers that are down: most of them are needed"
        return Check(name="copies", verdict="fail", found=f"{replicas}, and no leader", advice=advice)
    late = [clean(str(one.get("name")), 40) for one in info.get("replicas") or () if _is_late(one)]
    if late:
        advice = "start them, or wait until they have caught up"
        return Check(
            name="copies", verdict="warn", found=f"{replicas}; behind or gone: {listed(late)}", advice=advice
        )
    return Check(name="copies", verdict="ok", found=f"{replicas}, all current")


def _is_late(replica: Mapping[str, Any]) -> bool:
    return bool(replica.get("offline")) or not replica.get("current")


def room(used: int, limit: int, open: int = 0) -> Check:
    """Bytes of the log, and what it may take; -1: no limit. `open` tasks will need room for their outcomes."""
    if limit <= 0:
        advice = (
            "a full server takes no outcomes either: roost provision --max-bytes SIZE, below its max_file_store and "
            "its disk, refuses new work before that"
        )
        return Check(name="room", verdict="warn", found=f"{size(used)} in use, no limit", advice=advice)
    told = f"{used / limit:.0%} of {size(limit)}; new work is refused at {RESERVE:.0%}"
    kept = open * OUTCOME_BYTES
    if used + kept > FILLING * limit and kept:
        told += f", or when what {open:,} open tasks need for their outcomes ({size(kept)}) fills the rest"
    if used >= RESERVE * limit or used + kept >= limit:
        advice = "roost provision --max-bytes SIZE, or let ended runs go (--retention)"
        return Check(name="room", verdict="fail", found=told, advice=advice)
    if used >= FILLING * limit or used + kept >= FILLING / RESERVE * limit:
        advice = "soon: roost provision --max-bytes SIZE, or let ended runs go (--retention)"
        return Check(name="room", verdict="warn", found=told, advice=advice)
    return Check(name="room", verdict="ok", found=told)


def retention(kept: Retention) -> Check:
    if kept.ended_s is None:
        advice = "roost provision --retention 7d, unless that is wanted"
        return Check(name="retention", verdict="warn", found="ended runs are kept for ever", advice=advice)
    letters = "for ever" if kept.dead_s is None else duration(kept.dead_s)
    told = f"{duration(kept.ended_s)}; with dead letters {letters}"
    return Check(name="retention", verdict="ok", found=told)


def listed(texts: Sequence[str]) -> str:
    """The first few, and how many more there are."""
    more = f" and {len(texts) - NAMES:,} more" if len(texts) > NAMES else ""
    return ", ".join(texts[:NAMES]) + more


def size(count: int) -> str:
    for power, unit in ((4, "TB"), (3, "GB"), (2, "MB"), (1, "kB")):
        if count >= 1000**power:
            return f"{count / 1000**power:.1f} {unit}"
    return f"{count} B"
