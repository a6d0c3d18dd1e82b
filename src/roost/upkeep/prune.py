"""Ended runs go whole after their retention.

The log is read once, from its first record on, as far as records are older than the retention; what is removed and
what stays follows from that (`ledger`). Records go one by one, by their sequence: that costs the server 40 us each and
stalls nobody, while a purge counts anew what waits in each consumer, or writes the whole index, with all writers
standing still: 20 to 150 ms in a log of 100,000 tasks, whatever it removes (docs/decisions/019).

Two who do this at once remove the same records. Whoever dies in it leaves a run without open tasks, which the next one
finds and removes.
"""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from roost.errors import JetStreamError
from roost.tasks.log import Log, Record
from roost.tasks.order import Queue
from roost.tasks.retention import Retention
from roost.upkeep.ledger import ORPHAN_S, PHASES, Ledger, Run
from roost.upkeep.readers import Readers

NOT_FOUND = 10043
GONE = ("no message found", "stream store EOF")
"""What nats-server says of a sequence whose record is removed already: this number, or 10057 with one of these."""
PAGE = 1000
PAGE_BYTES = 4 * 1024 * 1024
"""Of one read of the log."""
TOGETHER = 2000
"""Records of ended runs that are removed together, phase after phase; a run is not divided."""
AT_ONCE = 8
"""Removals in flight. With so many 5,000 to 18,000 a second go, and other writers hardly wait for them."""
AGAIN_S = 5.0
"""When an ended run is looked at again that somebody still needs."""
READERS_WAIT = 2.0
"""Outcomes that a reporter has not read keep their run for so many retentions; then they are lost, and counted."""


@dataclass(slots=True)
class Pruned:
    """What was removed, or would be."""

    runs: int = 0
    records: int = 0
    letters: int = 0
    """Dead letters among it."""
    unreported: int = 0
    """Runs with outcomes that a reporter had not read for so long that they went all the same."""


class Prune:
    """The duty that removes ended runs; `run_once` removes all that are due.

    `retention` takes the place of what is set for the namespace. With `dry_run` nothing is removed. Events:
    ``runs_pruned``, ``outcomes_unreported``, ``prune_refused``. Counters: ``pruned:runs``, ``pruned:records``.
    """

    name = "prune"
    interval_s = 1.0

    def __init__(
        self,
        log: Log,
        *,
        retention: Retention | None = None,
        dry_run: bool = False,
        orphan_s: float = ORPHAN_S,
    ) -> None:
        self.total = Pruned()
        self.at = 0
        self.last = 0
        """How far the log was read, and its last record."""
        self._log = log
        self._given = retention
        self._dry_run = dry_run
        self._orphan_s = orphan_s
        self._ledger: Ledger | None = None
        self._ahead: deque[Record] = deque()  # read, and not old enough
        self._created = ""
        self._refused = False
        self._stale = False

    async def run_once(self) -> None:
        """Raises ConfigError for a retention that cannot be read, StreamMissing, the errors of requests."""
        client = self._log.link.client
        client.on_reconnect.append(self._doubt)
        try:
            await self._pass()
        except BaseException:
            self._doubt()
            raise
        finally:
            client.on_reconnect.remove(self._doubt)

    def _doubt(self) -> None:
        """Read the log anew: a server that lost its last records gives their numbers to others."""
        self._stale = True

    async def _pass(self) -> None:
        ledger = await self._begin()
        if ledger is None or ledger.retention.ended_s is None:
            return
        before = replace(self.total)
        readers = Readers(self._log)
        try:
            while True:
                horizon_s = self._log.now_s() - ledger.retention.ended_s
                more = await self._read(ledger, horizon_s)
                await self._remove(ledger, readers)
                if not more or self._stale:
                    return
        finally:
            self._tell(before)

    async def _begin(self) -> Ledger | None:
        """The ledger to go on with; None if nothing may be removed."""
        log = self._log
        info = await log._seen()
        if info is None:
            return None
        retention = self._given if self._given is not None else Retention.of(info["config"])
        if info["config"].get("deny_delete") and retention.ended_s is not None:
            if not self._refused:
                self._refused = True
                reason = (
                    "it was made with deny_delete, which the server does not let anybody change: nothing is removed; "
                    "use another namespace, or restore its backup into a stream without it"
                )
                log.journal.record("prune_refused", subject=log.stream, reason=reason)
            return None
        self.last = int(info["state"]["last_seq"])
        ledger = self._ledger
        fresh = (
            ledger is None
            or self._stale
            or info["created"] != self._created
            or self.last < self.at
            or ledger.retention != retention
        )
        if ledger is None or fresh:
            self._stale = False
            self._created = info["created"]
            self._ahead.clear()
            self.at = 0
            ledger = self._ledger = Ledger(log.subjects, retention, orphan_s=self._orphan_s)
        return ledger

    async def _read(self, ledger: Ledger, horizon_s: float) -> bool:
        """Enter about a page of records that are older than the horizon; False when there are no more of those."""
        ahead = self._ahead
        if not ahead:
            pattern = f"{self._log.subjects.namespace}.run.>"
            query = {"seq": self.at + 1, "next_by_subj": pattern, "batch": PAGE, "max_bytes": PAGE_BYTES}
            ahead.extend(await self._log.page(query))
            if not ahead:
                return False
        while ahead and ahead[0].stored_s <= horizon_s:
            record = ahead.popleft()
            ledger.take(record)
            self.at = record.seq
        return not ahead

    async def _remove(self, ledger: Ledger, readers: Readers) -> None:
        """Remove what is due."""
        some: list[Run] = []
        count = 0
        for top in ledger.due(self._log.now_s()):
            if not await self._may_go(ledger, top, readers):
                ledger.list(top, self._log.now_s() + AGAIN_S)
                continue
            some.append(top)
            count += sum(len(run.records) for run in ledger.family(top))
            if count >= TOGETHER:
                await self._delete(ledger, some)
                some, count = [], 0
        if some:
            await self._delete(ledger, some)

    async def _may_go(self, ledger: Ledger, top: Run, readers: Readers) -> bool:
        """Whether nobody needs an ended run any more."""
        log, family = self._log, ledger.family(top)
        unread = [one for run in family for one in await readers.behind(run)]
        if unread:
            wait_s = (READERS_WAIT - 1) * (ledger.retention.ended_s or 0.0)
            if log.now_s() < ledger.due_s(top) + wait_s:
                return False
            self.total.unreported += 1
            for durable in set(unread):
                reason = f"{durable} had not read an outcome of it for {READERS_WAIT:g} retentions"
                log.journal.record("outcomes_unreported", subject=top.name, reason=reason)
        for run in family:
            if run.grows:
                newest = await log.from_leader({"last_by_subj": log.subjects.run(run.name)})
                if newest is not None and newest.seq > run.last_seq:
                    return False  # that is read when it is old enough
            for name, key in run.queues:
                if await self._has_turn(run, Queue(log.subjects, name, key)):
                    return False
        return True

    async def _has_turn(self, run: Run, queue: Queue) -> bool:
        """Whether the newest turn of a queue is of this run, and others wait: it may not have been handed on yet."""
        turn = await self._log.from_leader({"last_by_subj": queue.turns})
        if turn is None or turn.subject.split(".")[-2] != run.name:
            return False
        place = await self._log.from_leader({"last_by_subj": queue.places})
        return place is not None and place.seq > int(turn.subject.split(".")[-3])

    async def _delete(self, ledger: Ledger, tops: Sequence[Run]) -> None:
        """Remove runs with all below them: the first phase of all of them, then the next."""
        families = [run for top in tops for run in ledger.family(top)]
        phases: list[list[int]] = [[] for _ in PHASES]
        for run in families:
            for entry in run.records:
                phases[entry % len(PHASES)].append(entry // len(PHASES))
            self.total.records += len(run.records)
            self.total.letters += len(run.letters)
        if not self._dry_run:
            for phase in phases:
                await self._delete_all(phase)
            if families:
                await self._log.objects.remove_runs({run.name for run in families})
        for top in tops:
            ledger.forget(top)
        self.total.runs += len(families)

    async def _delete_all(self, seqs: Sequence[int]) -> None:
        left = iter(seqs)
        try:
            async with asyncio.TaskGroup() as group:
                for _ in range(min(AT_ONCE, len(seqs))):
                    group.create_task(self._delete_some(left), name="roost-prune")
        except BaseExceptionGroup as several:
            raise several.exceptions[0] from None

    async def _delete_some(self, left: Iterator[int]) -> None:
        api = f"STREAM.MSG.DELETE.{self._log.stream}"
        for seq in left:
            try:
                await self._log.link.jetstream.call(api, {"seq": seq, "no_erase": True})
            except JetStreamError as error:
                if error.err_code != NOT_FOUND and error.description not in GONE:
                    raise

    def _tell(self, before: Pruned) -> None:
        """Say what was removed since `before`."""
        now, journal = self.total, self._log.journal
        runs, records = now.runs - before.runs, now.records - before.records
        if not runs or self._dry_run:
            return
        journal.count("pruned:runs", runs)
        journal.count("pruned:records", records)
        letters = now.letters - before.letters
        reason = f"{runs:,} ended runs of {records:,} records" + (
            f", {letters:,} dead letters" if letters else ""
        )
        journal.record("runs_pruned", subject=self._log.stream, reason=reason, level=logging.INFO)
