"""The stream of schedules: what the server itself sends at its time, with no process of Roost's to wait for it.

A schedule acts with the server's rights: it publishes to any subject of its own stream and may remove what else is
there, whatever the permissions of its author say. So schedules are in a stream of their own, where they reach nothing
but each other (docs/decisions/018). What fires there is a hint to the workers of one contract, who know by the log
what is to be done.

    <ns>.sched.at.<name>.<ms>.<run>.<id>    fires once: a task of the log is to begin
    <ns>.sched.cron.<schedule>              fires again and again; without ``Nats-Schedule`` it is paused
    <ns>.fired.<name>.at.<ms>.<run>.<id>    it is time for this task
    <ns>.fired.<name>.cron.<schedule>       one more task with this input
"""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

from roost.errors import ConfigError, ConfigMismatch, JetStreamError, StreamMissing
from roost.tasks.copies import copies, explained
from roost.tasks.log import Log
from roost.tasks.provision import (
    consumer_of_fired,
    differences,
    fired_config,
    timetable_config,
    timetable_stream,
)
from roost.tasks.records import Ref
from roost.transport.headers import block
from roost.transport.jetstream import (
    CONSUMER_EXISTS,
    CONSUMER_NOT_FOUND,
    STREAM_NAME_IN_USE,
    STREAM_NOT_FOUND,
    WRONG_LAST_SEQUENCE,
)


class Timetable:
    """The stream of schedules of one namespace. It is made when the first schedule is."""

    def __init__(self, log: Log) -> None:
        self.log = log
        self.namespace = log.subjects.namespace
        self.stream = timetable_stream(self.namespace)
        self._ready: set[str] = set()  # contracts whose consumer is there
        self._lock = asyncio.Lock()

    async def ensure(self, name: str) -> None:
        """Make the stream and the consumer of a contract, if missing, and compare them.

        Raises ConfigMismatch, StreamMissing (this user may not make them), and the errors of reads.
        """
        if name in self._ready:
            return
        async with self._lock:
            if not await self.exists():
                await self._create()
            await self.ensure_consumer(name)
            self._ready.add(name)

    async def exists(self) -> bool:
        """Whether the stream is there. Raises ConfigMismatch."""
        try:
            info = await self._call(f"STREAM.INFO.{self.stream}")
        except JetStreamError as error:
            if error.err_code != STREAM_NOT_FOUND:
                raise
            return False
        self._compare(f"stream {self.stream}", timetable_config(self.namespace), info)
        return True

    async def _create(self) -> None:
        replicas = copies(self.log.link)
        wanted = timetable_config(self.namespace) | {"num_replicas": replicas}
        try:
            await self._call(f"STREAM.CREATE.{self.stream}", wanted)
        except JetStreamError as error:
            if error.err_code != STREAM_NAME_IN_USE:
                raise explained(error, replicas) from error
            await self.exists()
        except PermissionError as error:
            raise StreamMissing(self.stream) from error

    async def ensure_consumer(self, name: str) -> None:
        """Make the consumer of a contract in the stream that is there, or compare it. Raises as `ensure`."""
        durable, wanted = consumer_of_fired(name), fired_config(self.namespace, name)
        look = f"CONSUMER.INFO.{self.stream}.{durable}"
        try:
            info = await self._call(look)
        except JetStreamError as error:
            if error.err_code != CONSUMER_NOT_FOUND:
                raise
            subject = f"CONSUMER.CREATE.{self.stream}.{durable}.{wanted['filter_subject']}"
            body = {"stream_name": self.stream, "config": wanted, "action": "create"}
            try:
                info = await self._call(subject, body)
            except JetStreamError as refusal:
                if refusal.err_code != CONSUMER_EXISTS:
                    raise
                info = await self._call(look)
            except PermissionError as refusal:
                raise StreamMissing(f"consumer {durable} of {self.stream}") from refusal
        self._compare(f"consumer {durable} of stream {self.stream}", wanted, info)

    @staticmethod
    def _compare(what: str, wanted: dict[str, Any], info: Any) -> None:
        found = differences(wanted, info["config"])
        if found:
            raise ConfigMismatch(what, found)

    async def _call(self, api: str, body: dict[str, Any] | None = None) -> Any:
        return await self.log.link.jetstream.call(api, body)

    # Tasks that begin later -------------------------------------------------------------------------

    async def put(self, ref: Ref, begin_ms: int, *, timeout_s: float) -> None:
        """Have it fire when a task is to begin, unless that is arranged. Raises the errors of a write."""
        place = f"{ref.name}.{begin_ms}.{ref.run}.{ref.id}"
        head = block(
            ("Nats-Expected-Last-Subject-Sequence", "0"),
            ("Nats-Schedule", f"@at {rfc3339(begin_ms / 1000)}"),
            ("Nats-Schedule-Target", f"{self.namespace}.fired.{ref.name}.at.{begin_ms}.{ref.run}.{ref.id}"),
        )
        try:
            await self.log.link.jetstream.publish(
                f"{self.namespace}.sched.at.{place}", b"", head, timeout_s=timeout_s
            )
        except JetStreamError as error:
            if error.err_code != WRONG_LAST_SEQUENCE:
                raise

    async def has(self, ref: Ref, begin_ms: int) -> bool:
        """Whether it will fire for a task, or has fired and no worker has taken it yet; as the leader knows."""
        places = (
            f"{self.namespace}.sched.at.{ref.name}.{begin_ms}.{ref.run}.{ref.id}",
            f"{self.namespace}.fired.{ref.name}.at.{begin_ms}.{ref.run}.{ref.id}",
        )
        for place in places:
            try:
                if await self.log.link.jetstream.last_from_leader(self.stream, place) is not None:
                    return True
            except JetStreamError as error:
                if error.err_code != STREAM_NOT_FOUND:
                    raise
                return False
        return False


def rfc3339(seconds: float) -> str:
    """A time as the server reads it. Raises ConfigError when it has no such year."""
    try:
        return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")[:-6] + "Z"
    except (ValueError, OverflowError, OSError) as error:
        raise ConfigError(f"{seconds!r} seconds since 1970 is no time that can be scheduled") from error
