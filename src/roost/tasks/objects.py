"""The store of large payloads: the object store of NATS over plain JetStream.

nats-py's own reads through a consumer and leaves one behind for each read. Here chunks are read in batches by direct
get, which needs none, and whoever lags behind is not believed: what a replica lacks is asked of the leader.

An object is written before the record that refers to it, and under a name that nobody else writes. A writer that dies
in between leaves an object that no record has: upkeep removes it (`roost.upkeep.objects`).
"""

from __future__ import annotations

import asyncio
import hashlib
import random
import secrets
from collections import deque
from collections.abc import Collection
from typing import Any

from roost.codec import MOST_BYTES
from roost.errors import (
    ConfigMismatch,
    Disconnected,
    InvalidMessage,
    JetStreamError,
    NoResponders,
    NotConnected,
    RequestTimeout,
    StoreFull,
    StreamMissing,
    TooLarge,
)
from roost.observe import Journal
from roost.tasks.copies import copies, explained
from roost.tasks.provision import differences
from roost.tasks.references import (
    CHUNK_BYTES,
    Reference,
    about,
    chunks_of,
    metadata,
    objects_config,
    objects_stream,
)
from roost.transport import Link
from roost.transport.jetstream import (
    STORE_FULL,
    STREAM_NAME_IN_USE,
    STREAM_NOT_FOUND,
    is_at_its_limit,
    stored_sequence,
)

WINDOW = 4
"""Chunks in flight, 512 KiB: with one, each waits for the answer to the one before. 5 MiB take 17 ms over loopback with
one, 15 with four and with eight; the more the farther away the server is."""
PAGE = 32
"""Chunks of one read: 4 MiB."""
UNAVAILABLE = 503
"""Code of refusals that pass by themselves: no leader just now, for instance."""
AROUND_BYTES = 1024
"""What a chunk takes beside its payload, at most, and what is said about the object."""


class Objects:
    """The objects of one namespace. Their stream is made when the first is written."""

    def __init__(self, link: Link, namespace: str, journal: Journal) -> None:
        self.stream = objects_stream(namespace)
        self._namespace = namespace
        self._link = link
        self._journal = journal
        self._skip = len(f"{namespace}.run.")
        self._lock = asyncio.Lock()

    # Writing ----------------------------------------------------------------------------------------

    async def put(self, subject: str, data: bytes, *, share: float = 1.0) -> Reference:
        """Store the payload of the record that will be on `subject`; one try.

        `share` of the stream's `max_bytes` may be used then. Raises TooLarge above `MOST_BYTES` (nothing was sent),
        StoreFull, ConfigMismatch, StreamMissing when there is no stream and this user may not make it, and the errors
        of a write: then it is to be tried again, and under another name.
        """
        if len(data) > MOST_BYTES:
            raise TooLarge(subject=subject, size=len(data), limit=MOST_BYTES)
        await self._make_room(len(data), share)
        token = secrets.token_hex(8)
        name = f"{subject[self._skip :]}.{token}"
        publish = self._link.jetstream.publish
        try:
            digest = await self._send(chunks_of(self._namespace, name), data)
            reference = Reference(token, len(data), digest)
            await publish(about(self._namespace, name), metadata(self._namespace, name, reference))
        except JetStreamError as error:
            if error.err_code in STORE_FULL:
                raise await self._full(error) from error
            raise
        return reference

    async def _send(self, subject: str, data: bytes) -> str:
        """Store all chunks, a few at a time; the digest of them. What is in flight when one fails is given up."""
        loop, hashed = asyncio.get_running_loop(), hashlib.sha256()
        flying: deque[asyncio.Task[int]] = deque()
        try:
            for begin in range(0, len(data), CHUNK_BYTES):
                if len(flying) == WINDOW:
                    await flying.popleft()
                chunk = data[begin : begin + CHUNK_BYTES]
                flying.append(
                    loop.create_task(self._link.jetstream.publish(subject, chunk), name="roost-store-chunk")
                )
                hashed.update(chunk)
            while flying:
                await flying.popleft()
        finally:
            for one in flying:
                one.cancel()
            await asyncio.gather(*flying, return_exceptions=True)
        return hashed.hexdigest()

    async def _make_room(self, size: int, share: float) -> None:
        """Raises StoreFull before a part of an object would take the last of it; makes the stream if it is missing."""
        info = await self.info()
        if info is None:
            async with self._lock:
                info = await self.info() or await self._create()
        found = differences(objects_config(self._namespace), info["config"])
        if found:
            raise ConfigMismatch(f"stream {self.stream}", found)
        limit, used = int(info["config"].get("max_bytes", -1)), int(info["state"]["bytes"])
        if limit > 0 and used + size + AROUND_BYTES * (2 + size // CHUNK_BYTES) > share * limit:
            raise StoreFull(stream=self.stream, used=used, limit=limit)

    async def _full(self, error: JetStreamError) -> StoreFull:
        info = await self.info() or {"config": {}, "state": {"bytes": 0}}
        limit = int(info["config"].get("max_bytes", -1))
        refusal = "" if is_at_its_limit(error) else f"{error.description}, error {error.err_code}"
        return StoreFull(stream=self.stream, used=int(info["state"]["bytes"]), limit=limit, refusal=refusal)

    async def info(self) -> Any:
        """The stream's information; None if there is none."""
        try:
            return await self._link.jetstream.call(f"STREAM.INFO.{self.stream}")
        except JetStreamError as error:
            if error.err_code != STREAM_NOT_FOUND:
                raise
            return None

    async def _create(self) -> Any:
        replicas = copies(self._link)
        config = objects_config(self._namespace) | {"num_replicas": replicas}
        self._link.jetstream.found_new()
        try:
            return await self._link.jetstream.call(f"STREAM.CREATE.{self.stream}", config)
        except JetStreamError as error:
            if error.err_code != STREAM_NAME_IN_USE:
                raise explained(error, replicas) from error
            return await self._link.jetstream.call(f"STREAM.INFO.{self.stream}")
        except PermissionError as error:
            raise StreamMissing(self.stream) from error

    # Reading ----------------------------------------------------------------------------------------

    async def fetch(self, subject: str, data: bytes, *, most_bytes: int = MOST_BYTES) -> bytes:
        """The payload to which the record on `subject` refers that holds `data`; repeats through outages.

        Raises TooLarge above `most_bytes` (nothing was read); InvalidMessage when it is no reference, or the object
        is missing, or is not what was stored; JetStreamError.
        """
        reference = Reference.of(data, subject=subject)
        most_bytes = min(most_bytes, MOST_BYTES)
        if reference.size > most_bytes:
            raise TooLarge(subject=subject, size=reference.size, limit=most_bytes)
        tries = 0
        while True:
            try:
                return await self._read(subject, reference)
            except JetStreamError as error:
                if error.code != UNAVAILABLE:
                    raise
                why: Exception = error
            except NoResponders as error:
                if await self._is_gone():
                    raise self._lost(subject, reference, "is missing, and so is the stream") from error
                why = error
            except (Disconnected, NotConnected, RequestTimeout) as error:
                why = error
            self._journal.record("object_delayed", subject=subject, reason=str(why))
            await asyncio.sleep(min(0.5, 0.02 * 2 ** min(tries, 5)) * (0.5 + random.random()))
            tries += 1

    async def _read(self, subject: str, reference: Reference) -> bytes:
        jetstream = self._link.jetstream
        pattern = chunks_of(self._namespace, f"{subject[self._skip :]}.{reference.object}")
        hashed, parts, size, last = hashlib.sha256(), [], 0, 0
        while size < reference.size:
            query = {"seq": last + 1, "next_by_subj": pattern}
            page = await jetstream.read(self.stream, query | {"batch": PAGE})
            found = [(stored_sequence(one), one.data) for one in page]
            if not found:
                kept = await jetstream.from_leader(self.stream, query)
                if kept is None:
                    how = f"has {size} of {reference.size} bytes" if size else "is missing"
                    raise self._lost(subject, reference, how)
                found = [(kept.seq, kept.data)]
            last = found[-1][0]
            for _, chunk in found:
                hashed.update(chunk)
                parts.append(chunk)
                size += len(chunk)
        if size != reference.size or hashed.hexdigest() != reference.sha256:
            raise self._lost(subject, reference, "is damaged: its digest is another one")
        return b"".join(parts)

    def _lost(self, subject: str, reference: Reference, how: str) -> InvalidMessage:
        name = f"{subject[self._skip :]}.{reference.object}"
        return InvalidMessage(
            subject=subject,
            field="",
            reason=f"its {reference.size} bytes are an object of their own, and that {how} ({self.stream}, {name})",
        )

    async def _is_gone(self) -> bool:
        """Whether the servers say that there is no such stream: else it has no leader just now."""
        try:
            return await self.info() is None
        except (JetStreamError, Disconnected, NoResponders, NotConnected, RequestTimeout):
            return False

    # Removing ---------------------------------------------------------------------------------------

    async def names(self) -> list[str]:
        """The names of all objects, also of those of which only a part is there."""
        prefix = chunks_of(self._namespace, "")
        found: list[str] = []
        while True:
            body = {"subjects_filter": f"{prefix}>", "offset": len(found)}
            try:
                info = await self._link.jetstream.call(f"STREAM.INFO.{self.stream}", body)
            except JetStreamError as error:
                if error.err_code != STREAM_NOT_FOUND:
                    raise
                return []
            page = info["state"].get("subjects") or {}
            found += (one[len(prefix) :] for one in page)
            if not page or len(found) >= int(info.get("total", 0)):
                return found

    async def remove(self, name: str) -> None:
        """Remove one object, its chunks last: until then `names` has it. Raises the errors of a request."""
        for subject in (about(self._namespace, name), chunks_of(self._namespace, name)):
            await self._link.jetstream.call(f"STREAM.PURGE.{self.stream}", {"filter": subject})

    async def remove_runs(self, runs: Collection[str]) -> int:
        """Remove all objects of runs; how many that were. Raises the errors of a request."""
        names = [one for one in await self.names() if one.partition(".")[0] in runs]
        for one in names:
            await self.remove(one)
        return len(names)
