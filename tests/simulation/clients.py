"""The clients of a simulation: what they submit, again and again until it is done, and what must come of it.

What a client knows outlives it (it is the world that remembers): a client that died begins anew with what it
had not seen the end of.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any

from roost.bus import Bus
from roost.errors import ConfigError, Conflict, RoostError, SubmissionUnknown, TaskCancelled, TaskDead
from roost.tasks import Cancelled, Dead, Done, Handle
from simulation.work import Kind, Order, Word, Work, approve, bomb, expected, job, voyage

if TYPE_CHECKING:
    from simulation.world import World

Op = tuple[str, str, Any]
"""Kind, key, value."""


class Clients:
    """All clients of one world."""

    def __init__(self, world: World, rng: random.Random) -> None:
        self._world = world
        self.rng = rng
        self.tried: set[str] = set()
        self.accepted: set[str] = set()
        self.cancelled: set[str] = set()
        self.groups: dict[str, int] = {}  # how many records a batch has
        self.done: dict[str, set[str]] = {}  # keys of what is done, by role of the client
        self.ops = self._voyages() if world.about_runs else self._jobs()

    def over(self, roles: list[str]) -> bool:
        """Whether these clients have seen the end of everything."""
        return all(len(self.done.get(role, ())) == len(self.ops) for role in roles)

    def waits_for(self, role: str) -> list[str]:
        """The keys that a client has not seen the end of."""
        return sorted({op[1] for op in self.ops} - self.done.get(role, set()))

    # What there is to do --------------------------------------------------------------------------

    def _jobs(self) -> list[Op]:
        rng = self.rng
        kinds: tuple[Kind, ...] = ("plain", "plain", "flaky", "reject", "once", "long")
        ops: list[Op] = []
        for n in range(rng.randint(1, 5)):
            ops.append(("job", f"k{n}", Work(n=n, kind=rng.choice(kinds))))
        for n in range(rng.randint(0, 2)):
            ops.append(("keyless", f"free{n}", Work(n=n, kind="plain")))
        for n in range(rng.randint(0, 2)):
            self.groups[f"g{n}"] = size = rng.randint(2, 5)
            ops.append(("group", f"g{n}", [Work(n=i, group=f"g{n}") for i in range(size)]))
        if rng.random() < 0.3:
            ops.append(("bomb", "b", Work(n=0)))
        if rng.random() < 0.4:
            ops.append(("cancel job", "c", Work(n=7, kind=rng.choice(("plain", "long")))))
        return ops

    def _voyages(self) -> list[Op]:
        rng = self.rng
        ops: list[Op] = []
        for n in range(rng.choice((1, 1, 2))):
            order = Order(
                id=f"o{n}",
                legs=rng.randint(0, 6),
                ahead=rng.choice((1, 2, 3, 10)),
                ordered=rng.random() < 0.3,
                below=rng.choice((0, 0, 1, 2)),
                approval=rng.random() < 0.4,
            )
            ops.append(("voyage", f"o{n}", order))
        if rng.random() < 0.2:
            ops.append(("cancel voyage", "x", Order(id="x", legs=3, below=1)))
        return ops

    # Clients --------------------------------------------------------------------------------------

    async def work(self, role: str, bus: Bus) -> None:
        """One life of a client: everything it has not seen the end of, side by side."""
        done = self.done.setdefault(role, set())
        async with asyncio.TaskGroup() as group:
            for kind, key, value in self.ops:
                if key not in done:
                    group.create_task(self._until_done(role, bus, kind, key, value), name=f"op {key}")

    async def _until_done(self, role: str, bus: Bus, kind: str, key: str, value: Any) -> None:
        done = self.done[role]
        await asyncio.sleep(self.rng.random() ** 2 * 2.0)
        while True:
            try:
                await getattr(self, "_" + kind.replace(" ", "_"))(role, bus, key, value)
                break
            except (TaskDead, TaskCancelled, Conflict, ConfigError) as error:
                self._world.complain(f"{kind} {key}: {error!r}")
                break
            except RoostError as error:
                self._world.trace("%s: %s %s: %r", role, kind, key, error)
                await asyncio.sleep(0.2)
        done.add(key)

    async def _submitted(self, bus: Bus, key: str, work: Any, contract: Any = job) -> Handle[Any]:
        id = f"{contract.name}:{key}"
        self.tried.add(id)
        before = id in self.accepted and id not in self.cancelled
        handle: Handle[Any] = await bus.submit(contract, work, key=key, timeout_s=4.0)
        if before and handle.created and id not in self.cancelled:
            self._world.complain(f"{id} was submitted twice, and stored twice")
        self.accepted.add(handle.id)
        return handle

    async def _job(self, role: str, bus: Bus, key: str, work: Work) -> None:
        handle = await self._submitted(bus, key, work)
        if self.rng.random() < 0.3:
            await self._submitted(bus, key, work)
        if self.rng.random() < 0.2:
            try:
                await bus.submit(job, Work(n=work.n + 1), key=key, timeout_s=4.0)
                self._world.complain(f"another payload under key {key} was accepted")
            except Conflict:
                pass
        self._judge(key, work, await handle.outcome())

    def _judge(self, key: str, work: Work, outcome: Any) -> None:
        match outcome:
            case Done(answer):
                right = work.kind != "reject" and answer.n == work.n + 1
            case Dead():
                right = work.kind == "reject"
            case _:
                right = False
        if not right:
            self._world.complain(f"job {key} ({work.kind}) ended as {outcome!r}")

    async def _keyless(self, role: str, bus: Bus, key: str, work: Work) -> None:
        self.done[role].add(key)  # tried once: who dies meanwhile cannot know
        try:
            handle = await bus.submit(job, work, timeout_s=4.0)
        except SubmissionUnknown as error:
            self.tried.update(error.ids)
            return
        self.accepted.add(handle.id)
        self._judge(handle.id, work, await handle.outcome())

    async def _group(self, role: str, bus: Bus, key: str, works: list[Work]) -> None:
        keys = [f"{key}-{work.n}" for work in works]
        self.tried.update(f"job:{one}" for one in keys)
        handles = await bus.submit_many(job, works, keys=keys, timeout_s=4.0)
        self.accepted.update(handle.id for handle in handles)
        for handle, work in zip(handles, works, strict=True):
            self._judge(handle.id, work, await handle.outcome())

    async def _bomb(self, role: str, bus: Bus, key: str, work: Work) -> None:
        handle = await self._submitted(bus, key, work, bomb)
        outcome = await handle.outcome()
        if not isinstance(outcome, Dead):
            self._world.complain(f"a handler that kills its process ended as {outcome!r}")

    async def _cancel_job(self, role: str, bus: Bus, key: str, work: Work) -> None:
        if f"job:{key}" not in self.cancelled:
            handle = await self._submitted(bus, key, work)
        else:
            handle = bus.handle(job, f"job:{key}")
        await asyncio.sleep(self.rng.random() * 1.5)
        self.cancelled.add(handle.id)
        won = await handle.cancel("not needed")
        outcome = await handle.outcome()
        if won and not isinstance(outcome, Cancelled):
            self._world.complain(f"{handle.id} was cancelled, and ended as {outcome!r}")

    async def _voyage(self, role: str, bus: Bus, key: str, order: Order) -> None:
        id = f"voyage:{key}"
        self.tried.add(id)
        before = id in self.accepted
        handle = await bus.start(voyage, order, key=key, timeout_s=4.0)
        if before and handle.created:
            self._world.complain(f"{id} was started twice")
        self.accepted.add(handle.id)
        if order.approval:
            await asyncio.sleep(self.rng.random() * 4)
            try:
                await bus.signal(handle.id, approve, Word(text="go"))
            except ConfigError:  # it is over: an earlier life of this client has sent it
                await handle.outcome(timeout_s=10)
        report = await handle.result()
        if report != expected(order, report.version) or report.version not in self._world.versions:
            self._world.complain(f"{id}: {report!r} instead of {expected(order, report.version)!r}")

    async def _cancel_voyage(self, role: str, bus: Bus, key: str, order: Order) -> None:
        id = f"voyage:{key}"
        self.tried.add(id)
        if id not in self.cancelled:
            handle = await bus.start(voyage, order, key=key, timeout_s=4.0)
            self.accepted.add(id)
        else:
            handle = bus.handle(voyage, id)
        await asyncio.sleep(self.rng.random() * 4)
        self.cancelled.add(id)
        won = await handle.cancel("not needed")
        outcome = await handle.outcome()
        if won and not isinstance(outcome, Cancelled):
            self._world.complain(f"{id} was cancelled, and ended as {outcome!r}")
