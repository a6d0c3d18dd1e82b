"""The administrator's act: the stream and its consumers made as the code asks for.

A program that met another configuration and changed it by itself would take from another program what that
relies on. So programs only compare (`ConfigMismatch` lists the differences), and this is called by a person.
It applies what the server lets be applied, field by field if need be, and says of each field what became of it.
Nothing here removes a record, a stream or a consumer.
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from roost._text import quoted
from roost.contracts import Task, Workflow
from roost.errors import ConfigError, Difference, JetStreamError
from roost.tasks.copies import copies
from roost.tasks.log import Log
from roost.tasks.provision import (
    Reported,
    consumer_config,
    consumer_name,
    consumer_of_fired,
    differences,
    fired_config,
    report_config,
    stream_config,
    timetable_config,
    timetable_stream,
)
from roost.tasks.references import allows_large, objects_config
from roost.tasks.reporter import ACK_WAIT_S
from roost.tasks.retention import DEAD_RETENTION, RETENTION, Retention, seconds_text
from roost.transport.jetstream import CONSUMER_NOT_FOUND, STORE_FULL, STREAM_FULL, STREAM_NOT_FOUND

Contracted: TypeAlias = "Task[Any, Any] | Workflow[Any, Any]"
Action = Literal["created", "changed", "unchanged", "refused"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """What is the administrator's to choose about a log. None: as it is, or the server's default. ConfigError."""

    max_bytes: int | None = None
    """The most bytes that it may take on disk; new work is refused at 80 % of it. -1: no limit of its own."""

    object_bytes: int | None = None
    """The same for the stream of large payloads, which is wanted then."""

    replicas: int | None = None
    """1, 3 or 5 servers that hold it; more than one needs a cluster. None for a new log: as `copies` decides."""

    retention_s: float | None = None
    """Seconds after its end for which a run is kept; infinite: for ever, as in a new log."""

    dead_retention_s: float | None = None
    """The same for a run with a dead letter that was not replayed."""

    def __post_init__(self) -> None:
        for name, value in (("max_bytes", self.max_bytes), ("object_bytes", self.object_bytes)):
            if value is not None and value != -1 and value < 1_000_000:
                raise ConfigError(f"{name} = {quoted(value)}: must be at least 1,000,000, or -1 for no limit")
        if self.replicas not in (None, 1, 3, 5):
            raise ConfigError(f"replicas = {quoted(self.replicas)}: must be 1, 3 or 5")

    @property
    def metadata(self) -> dict[str, str]:
        """What of it stands in the metadata of the stream."""
        chosen = {RETENTION: self.retention_s, DEAD_RETENTION: self.dead_retention_s}
        return {
            name: seconds_text(None if seconds == math.inf else seconds)
            for name, seconds in chosen.items()
            if seconds is not None
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What was done about one stream or consumer, or would be done."""

    what: str  # such as "stream ROOST_roost"
    action: Action
    differences: tuple[Difference, ...] = ()
    """What was changed; for ``refused``, what stays as it is."""
    reason: str = ""
    """Why it was refused, in the server's words."""


async def provision(
    log: Log,
    contracts: Sequence[Contracted] = (),
    *,
    reports: Sequence[Reported] = (),
    size: Size = Size(),
    schedules: bool = False,
    dry_run: bool = False,
) -> list[Change]:
    """Create or change the stream of a namespace and its consumers; what was done, the stream first.

    With `schedules` also the stream of schedules, and its consumers for `contracts`; the stream of large payloads if
    one of `contracts` allows them, or `size` has theirs.

    Wanted are the consumers of `contracts`, which their workers share, and those of `reports`.

    With `dry_run` nothing is changed, and what would be is listed. A thing of which only a part could be
    changed is listed twice: ``changed`` and ``refused``. Raises PermissionDenied when this user may not, ConfigError
    for a size that contradicts itself or what is set already.
    """
    consumers = _consumers(log, contracts, reports)
    changes = await _provision_stream(log, log.stream, _log_config(log, size), dry_run=dry_run)
    exists = not (dry_run and changes[0].action == "created")
    for durable, wanted in sorted(consumers.items()):
        changes += await _provision_consumer(log, log.stream, durable, wanted, exists=exists, dry_run=dry_run)
    if size.object_bytes is not None or any(map(allows_large, contracts)):
        stream, config = log.objects.stream, _objects_config(log, size)
        changes += await _provision_stream(log, stream, config, dry_run=dry_run)
    return changes + (await _schedules(log, contracts, size, dry_run=dry_run) if schedules else [])


async def _schedules(log: Log, contracts: Sequence[Contracted], size: Size, *, dry_run: bool) -> list[Change]:
    namespace = log.subjects.namespace
    stream, config = timetable_stream(namespace), timetable_config(namespace)
    if size.replicas is not None:
        config["num_replicas"] = size.replicas
    changes = await _provision_stream(log, stream, config, dry_run=dry_run)
    exists = not (dry_run and changes[0].action == "created")
    for name in sorted({one.name for one in contracts}):
        durable, wanted = consumer_of_fired(name), fired_config(namespace, name)
        changes += await _provision_consumer(log, stream, durable, wanted, exists=exists, dry_run=dry_run)
    return changes


def _objects_config(log: Log, size: Size) -> dict[str, Any]:
    wanted = objects_config(log.subjects.namespace)
    if size.object_bytes is not None:
        wanted["max_bytes"] = size.object_bytes
    if size.replicas is not None:
        wanted["num_replicas"] = size.replicas
    return wanted


def _log_config(log: Log, size: Size) -> dict[str, Any]:
    wanted = stream_config(log.subjects)
    if size.max_bytes is not None:
        wanted["max_bytes"] = size.max_bytes
    if size.replicas is not None:
        wanted["num_replicas"] = size.replicas
    if size.metadata:
        wanted["metadata"] = size.metadata
    return wanted


def _consumers(
    log: Log, contracts: Sequence[Contracted], reports: Sequence[Reported]
) -> dict[str, dict[str, Any]]:
    """The configuration of each consumer by its name. Raises ConfigError when two contracts contradict."""
    found: dict[str, dict[str, Any]] = {}
    for one in contracts:
        wanted = consumer_config(log.subjects, one.name, one.ack_wait_s, one.max_running)
        if found.setdefault(consumer_name(one.name), wanted) != wanted:
            raise ConfigError(
                f"two contracts named {one.name!r} differ in ack_wait_s or max_running; nothing was changed"
            )
    for report in reports:
        wanted = report_config(log.subjects, report, ACK_WAIT_S)
        if found.setdefault(report.durable, wanted) != wanted:
            raise ConfigError(f"two reports would share the consumer {report.durable}; nothing was changed")
    return found


async def _provision_stream(log: Log, stream: str, wanted: dict[str, Any], *, dry_run: bool) -> list[Change]:
    what = f"stream {stream}"
    call = log.link.jetstream.call
    try:
        info = await call(f"STREAM.INFO.{stream}")
    except JetStreamError as error:
        if error.err_code != STREAM_NOT_FOUND:
            raise
        Retention.of(wanted)
        wanted.setdefault("num_replicas", copies(log.link))
        return [await _create(what, lambda: call(f"STREAM.CREATE.{stream}", wanted), dry_run=dry_run)]
    found, used = info["config"], int(info["state"]["bytes"])
    if "metadata" in wanted:
        wanted["metadata"] = {**(found.get("metadata") or {}), **wanted["metadata"]}
        Retention.of(wanted)
    differ = differences(wanted, found)
    refused: list[Change] = []
    if 0 < wanted.get("max_bytes", -1) < used:
        small = [one for one in differ if one.field == "max_bytes"]
        differ = [one for one in differ if one.field != "max_bytes"]
        reason = f"{used} bytes are in use; records of tasks would be lost"
        refused.append(Change(what=what, action="refused", differences=tuple(small), reason=reason))

    async def update(config: Mapping[str, Any]) -> Any:
        return await call(f"STREAM.UPDATE.{stream}", dict(config))

    changes = await _apply(what, found, wanted, differ, update, dry_run=dry_run)
    return [*changes, *refused] if differ or not refused else refused


async def _provision_consumer(
    log: Log, stream: str, durable: str, wanted: dict[str, Any], *, exists: bool, dry_run: bool
) -> list[Change]:
    what = f"consumer {durable}"
    call = log.link.jetstream.call

    async def put(config: Mapping[str, Any], action: str) -> Any:
        subject = f"CONSUMER.CREATE.{stream}.{durable}.{wanted['filter_subject']}"
        return await call(subject, {"stream_name": stream, "config": dict(config), "action": action})

    try:
        if not exists:
            return [Change(what=what, action="created")]
        info = await call(f"CONSUMER.INFO.{stream}.{durable}")
    except JetStreamError as error:
        if error.err_code != CONSUMER_NOT_FOUND:
            raise
        return [await _create(what, lambda: put(wanted, "create"), dry_run=dry_run)]
    found = info["config"]
    differ = differences(wanted, found)
    return await _apply(what, found, wanted, differ, lambda config: put(config, "update"), dry_run=dry_run)


def _words(error: JetStreamError) -> str:
    """The server's, and what they mean."""
    if error.err_code in (STORE_FULL - {STREAM_FULL}):
        return f"{error.description}: the server (max_file_store), or the account, has not so much room left"
    return error.description


async def _create(what: str, create: Callable[[], Awaitable[Any]], *, dry_run: bool) -> Change:
    if not dry_run:
        try:
            await create()
        except JetStreamError as error:
            return Change(what=what, action="refused", reason=_words(error))
    return Change(what=what, action="created")


async def _apply(
    what: str,
    found: Mapping[str, Any],
    wanted: Mapping[str, Any],
    differ: Sequence[Difference],
    update: Callable[[Mapping[str, Any]], Awaitable[Any]],
    *,
    dry_run: bool,
) -> list[Change]:
    """Change what differs: all at once, or if the server refuses that, one field after another."""
    if not differ:
        return [Change(what=what, action="unchanged")]
    if dry_run:
        return [Change(what=what, action="changed", differences=tuple(differ))]
    fields = list(dict.fromkeys(one.field.partition(".")[0] for one in differ))
    current = dict(found)
    try:
        await update({**current, **{field: wanted[field] for field in fields}})
        return [Change(what=what, action="changed", differences=tuple(differ))]
    except JetStreamError as error:
        if len(fields) == 1:
            return [Change(what=what, action="refused", differences=tuple(differ), reason=_words(error))]
    applied: list[Difference] = []
    refused: list[Change] = []
    for field in fields:
        own = tuple(one for one in differ if one.field.partition(".")[0] == field)
        try:
            await update({**current, field: wanted[field]})
        except JetStreamError as error:
            refused.append(Change(what=what, action="refused", differences=own, reason=_words(error)))
        else:
            current[field] = wanted[field]
            applied += own
    done = [Change(what=what, action="changed", differences=tuple(applied))] if applied else []
    return [*done, *refused]
