"""Schedules: one task, or workflow, again and again, at the times that a cron expression or an interval says.

A schedule is one message in the stream of schedules. Its header says what it is for, also while it is paused, and as
long as it has ``Nats-Schedule`` too, the server fires it. So each change is one write, and there is no process that
has to run for it.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, tzinfo
from typing import Any, TypeVar
from zoneinfo import ZoneInfo

from roost._text import quoted
from roost.codec import canonical_equal
from roost.contracts import Task, Workflow
from roost.errors import ConfigError, JetStreamError, StreamMissing
from roost.observe import Trace
from roost.subjects import token
from roost.tasks.batch import Pairs
from roost.tasks.cron import Cron
from roost.tasks.firings import REVISION
from roost.tasks.log import Log
from roost.tasks.marks import encode_input, find, marks_of, read_marks
from roost.tasks.records import Ref
from roost.tasks.timetable import Timetable
from roost.transport.headers import block
from roost.transport.jetstream import NO_MESSAGE, STREAM_NOT_FOUND, WRONG_LAST_SEQUENCE, Kept

I = TypeVar("I")

DEFINITION = "Roost-Schedule"
CRON_SINCE = (2, 14)
"""nats-server: what fires repeatedly (ADR-51)."""
BAD_PATTERN = 10189
BAD_ZONE = 10223
TRIES = 5
"""Writes of one change, when others change the same schedule."""
LONGEST_S = 366 * 86_400


@dataclass(frozen=True, slots=True, kw_only=True)
class Schedule:
    """One schedule, as it was when it was read. Times are seconds since 1970, by the server's clock."""

    name: str
    task: str
    """The name of the task or workflow."""
    cron: str = ""
    every_s: int = 0
    """Seconds between firings, if it has no cron expression."""
    timezone: str = "UTC"
    """By whose clocks the expression counts."""
    paused: bool = False
    next_s: float | None = None
    """When it fires next; None while it is paused, and where this machine does not know the time zone."""
    last_s: float | None = None
    """When the last task was made of it, in a list of all; None: never, or that task has been removed from the log."""
    last_id: str = ""
    """The id of that task."""
    input: bytes = b""
    """The JSON that each task gets."""


@dataclass(frozen=True, slots=True)
class _Stored:
    """What is on record of a schedule."""

    schedule: Schedule
    seq: int
    revision: str
    made_s: float  # when it was stored
    marks: Pairs
    trace: str


class Schedules:
    """The schedules of one namespace."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._timetable = Timetable(log)

    async def put(
        self,
        contract: Task[I, Any] | Workflow[I, Any],
        value: I,
        *,
        name: str,
        cron: str | None,
        every_s: int | None,
        timezone: str | None,
    ) -> Schedule:
        """Define a schedule; `Bus.schedule` says what is allowed and raised."""
        token(name, name="name of a schedule")
        wanted = Schedule(
            name=name,
            task=contract.name,
            cron=" ".join(str(cron).split()) if cron is not None else "",
            every_s=every_s or 0,
            timezone=timezone or "UTC",
            input=encode_input(contract, value, self._subject(name)),
        )
        _check(wanted, cron, every_s, timezone)
        self._server_can()
        marks = marks_of(contract, value)
        await self._log.ensure()
        await self._timetable.ensure(contract.name)

        async def change(there: _Stored | None) -> Schedule:
            now = wanted
            if there is not None:
                if there.schedule.task != wanted.task:
                    raise ConfigError(
                        f"schedule {name!r} is one of {there.schedule.task!r}, not of {wanted.task!r}; cancel that "
                        "first, or take another name. Nothing was changed"
                    )
                now = replace(wanted, paused=there.schedule.paused)
                if _same(there, now, marks):
                    return await self._with_times(there)
            return await self._write(now, there.seq if there is not None else 0, marks, Trace.new().header)

        return await self._retried(name, change)

    async def pause(self, name: str) -> Schedule:
        """Keep the definition and fire no more. Raises ConfigError when there is no such schedule."""
        return await self._switch(name, paused=True)

    async def resume(self, name: str) -> Schedule:
        """Fire again, from the next time on. Raises ConfigError when there is no such schedule."""
        return await self._switch(name, paused=False)

    async def cancel(self, name: str) -> None:
        """Remove a schedule, and what it has fired and nobody has taken. ConfigError when there is no such schedule."""
        there = await self._existing(name)
        fired = f"{self._log.subjects.namespace}.fired.{there.schedule.task}.cron.{name}"
        for subject in (self._subject(name), fired):
            await self._log.link.jetstream.call(f"STREAM.PURGE.{self._timetable.stream}", {"filter": subject})

    async def list(self) -> list[Schedule]:
        """All schedules, by name. What cannot be read is counted and passed over."""
        if not await self._timetable.exists():
            return []
        found: list[_Stored] = []
        seq = 1
        while True:
            one = await self._log.link.jetstream.from_leader(
                self._timetable.stream, {"seq": seq, "next_by_subj": self._subject("*")}
            )
            if one is None:
                break
            seq = one.seq + 1
            try:
                found.append(_read(one))
            except ValueError as error:
                self._log.journal.record("record_unreadable", subject=one.subject, reason=str(error))
        await self._log.ensure()
        tasks: dict[str, list[str]] = {}
        for name in {one.schedule.task for one in found}:
            tasks[name] = await self._log.subjects_matching(self._log.subjects.tasks_of(name))
        listed = [await self._with_times(one, tasks[one.schedule.task]) for one in found]
        return sorted(listed, key=lambda one: one.name)

    async def _switch(self, name: str, *, paused: bool) -> Schedule:
        async def change(there: _Stored | None) -> Schedule:
            there = there if there is not None else await self._existing(name)
            if there.schedule.paused == paused:
                return await self._with_times(there)
            now = replace(there.schedule, paused=paused)
            return await self._write(now, there.seq, there.marks, there.trace)

        await self._log.ensure()
        await self._existing(name)
        self._server_can()
        return await self._retried(name, change)

    async def _retried(self, name: str, change: Callable[[_Stored | None], Awaitable[Schedule]]) -> Schedule:
        """Make a change on what is there, again if somebody else was quicker."""
        for tries in range(TRIES):
            try:
                return await change(await self._find(name))
            except JetStreamError as error:
                if error.err_code != WRONG_LAST_SEQUENCE or tries == TRIES - 1:
                    raise
        raise AssertionError("unreachable")

    async def _write(self, schedule: Schedule, seq: int, marks: Pairs, trace: str) -> Schedule:
        """Store a schedule in the place of the one of this sequence."""
        revision = secrets.token_hex(2)
        firing: Pairs = ()
        if not schedule.paused:
            pattern = schedule.cron or f"@every {schedule.every_s}s"
            target = f"{self._log.subjects.namespace}.fired.{schedule.task}.cron.{schedule.name}"
            firing = (("Nats-Schedule", pattern), ("Nats-Schedule-Target", target))
            if schedule.cron:
                firing = (*firing, ("Nats-Schedule-Time-Zone", schedule.timezone))
        head = block(
            *firing,
            (
                "Nats-Rollup",
                "sub",
            ),  # the server adds it where something fires; what is paused needs it as well
            ("Nats-Expected-Last-Subject-Sequence", str(seq)),
            (DEFINITION, _definition(schedule)),
            (REVISION, revision),
            *marks,
            ("traceparent", trace),
        )
        try:
            at = await self._log.link.jetstream.publish(self._subject(schedule.name), schedule.input, head)
        except JetStreamError as error:
            raise _told(error, schedule) from error
        except StreamMissing as error:
            raise StreamMissing(self._timetable.stream) from error
        stored = _Stored(schedule, at, revision, self._log.now_s(), marks, trace)
        return await self._with_times(stored)

    async def _existing(self, name: str) -> _Stored:
        token(name, name="name of a schedule")
        found = await self._find(name)
        if found is None:
            raise ConfigError(f"there is no schedule {name!r} in namespace {self._log.subjects.namespace}")
        return found

    async def _find(self, name: str) -> _Stored | None:
        try:
            found = await self._log.link.jetstream.from_leader(
                self._timetable.stream, {"last_by_subj": self._subject(name)}
            )
            return _read(found) if found is not None else None
        except JetStreamError as error:
            if error.err_code not in (STREAM_NOT_FOUND, NO_MESSAGE):
                raise
            return None
        except ValueError as error:
            raise ConfigError(f"schedule {name!r} cannot be read: {error}; cancel it") from error

    async def _with_times(self, stored: _Stored, tasks: Sequence[str] = ()) -> Schedule:
        """With when it was fired last, if that is among `tasks` (subjects of its contract), and when it is next."""
        schedule, log = stored.schedule, self._log
        prefix, ids = f"{schedule.task}:{schedule.name}:", list[str]()
        for subject in tasks:
            parsed = log.subjects.parse(subject)
            if parsed is not None and parsed[1].run == parsed[1].id and parsed[1].id.startswith(prefix):
                ids.append(parsed[1].id)
        last_id, last_s, following_s = max(ids, default=""), None, None
        if last_id:
            record = await log.last(log.subjects.task(Ref(last_id, schedule.task, last_id)))
            last_s = record.stored_s if record is not None else None
            if last_id.endswith(f"-{stored.revision}"):
                following_s = _stamp(last_id.removeprefix(prefix).partition("-")[0])
        next_s = None if schedule.paused else _next(stored, following_s, log.now_s())
        return replace(schedule, next_s=next_s, last_s=last_s, last_id=last_id)

    def _subject(self, name: str) -> str:
        return f"{self._log.subjects.namespace}.sched.cron.{name}"

    def _server_can(self) -> None:
        """Raises ConfigError when the server is too old."""
        version = str(self._log.link.client._server_info.get("version", ""))
        numbers = [int(part) for part in version.split("-")[0].split(".")[:2] if part.isdecimal()]
        if len(numbers) == 2 and tuple(numbers) < CRON_SINCE:
            raise ConfigError(
                f"this is nats-server {version}; schedules need 2.14 or later (delays work). Nothing was changed"
            )


def _check(schedule: Schedule, cron: str | None, every_s: int | None, zone: str | None) -> None:
    """Raises ConfigError for what no server would take."""
    if (cron is None) == (every_s is None):
        raise ConfigError("a schedule has either cron or every_s; nothing was scheduled")
    if cron is None:
        if type(every_s) is not int or not 1 <= every_s <= LONGEST_S:
            raise ConfigError(
                f"every_s = {quoted(every_s)}: must be a whole number of seconds from 1 to {LONGEST_S}; nothing was "
                "scheduled"
            )
        if zone is not None:
            raise ConfigError("timezone goes with cron; an interval has none. Nothing was scheduled")
        return
    Cron.parse(cron)
    if zone is not None and (not isinstance(zone, str) or not zone or not zone.isascii() or zone == "Local"):
        raise _bad_zone(zone)
    if any(ord(one) < 33 for one in schedule.timezone):
        raise _bad_zone(zone)


def _bad_zone(zone: Any) -> ConfigError:
    return ConfigError(
        f"timezone = {quoted(zone)}: the server knows no such zone; write one of the IANA database, such as "
        "Europe/Amsterdam. Nothing was scheduled"
    )


def _told(error: JetStreamError, schedule: Schedule) -> Exception:
    """A refusal by the server, in terms of what the user has written."""
    if error.err_code == BAD_ZONE:
        return _bad_zone(schedule.timezone)
    if error.err_code == BAD_PATTERN:
        return ConfigError(
            f"the server does not take {quoted(schedule.cron or f'every {schedule.every_s} s')}: {error.description}. "
            "Nothing was scheduled"
        )
    return error


def _same(there: _Stored, wanted: Schedule, marks: Pairs) -> bool:
    mine = replace(there.schedule, input=b"")
    return (
        mine == replace(wanted, input=b"")
        and canonical_equal(there.schedule.input, wanted.input)
        and there.marks == marks
    )


def _definition(schedule: Schedule) -> str:
    return json.dumps(
        {
            "task": schedule.task,
            "cron": schedule.cron,
            "every_s": schedule.every_s,
            "timezone": schedule.timezone,
            "paused": schedule.paused,
        },
        separators=(",", ":"),
    )


def _read(found: Kept) -> _Stored:
    """Raises ValueError for what is no schedule."""
    told = json.loads(find(found.head, DEFINITION) or "null")
    if not isinstance(told, dict):
        raise ValueError(f"it has no {DEFINITION}")
    cron, every_s, zone = told.get("cron"), told.get("every_s"), told.get("timezone")
    if not isinstance(cron, str) or type(every_s) is not int or not isinstance(zone, str):
        raise ValueError(f"{DEFINITION} is incomplete")
    schedule = Schedule(
        name=token(found.subject.rpartition(".")[2]),
        task=token(told.get("task", "")),
        cron=cron,
        every_s=every_s,
        timezone=zone,
        paused=told.get("paused") is True,
        input=found.data,
    )
    made_s = datetime.fromisoformat(found.stamp).timestamp()
    trace = find(found.head, "traceparent")
    return _Stored(schedule, found.seq, find(found.head, REVISION), made_s, read_marks(found.head), trace)


def _stamp(text: str) -> float | None:
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
    except ValueError:
        return None


def _next(stored: _Stored, following_s: float | None, now_s: float) -> float | None:
    """What the last firing said of the next one, or before the first one what follows from the definition."""
    schedule = stored.schedule
    if following_s is not None and following_s > now_s:
        return following_s
    if not schedule.cron:  # the server counts from whole seconds
        first_s = round(stored.made_s) + schedule.every_s
        return first_s if first_s > now_s else None
    try:
        zone: tzinfo = ZoneInfo(schedule.timezone)
        return Cron.parse(schedule.cron).after(now_s, zone)
    except (ConfigError, OSError, LookupError, ValueError):
        return None
