"""One simulation: machines that serve agents, clients that give them work, and what befalls both.

Faults end after some seconds of virtual time; then everything that died is started again, and all work has to
come to its end.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable
from typing import Any

from roost.bus import Bus
from roost.errors import (
    ConfigError,
    Conflict,
    RoostError,
    SubmissionUnknown,
    TaskCancelled,
    TaskDead,
)
from roost.observe import Journal
from roost.runs import Run
from roost.settings import Settings
from roost.tasks import Cancelled, Dead, Done, Handle
from simulation.client import SimClient
from simulation.faults import Faults
from simulation.loop import NOWHERE as _NOWHERE
from simulation.loop import Process, SimLoop
from simulation.server import Server
from simulation.work import ACK_WAIT_S as ACK
from simulation.work import Kind, Order, Word, Work, approve, bomb, expected, hands, job, ship, voyage


NAMESPACE = "sim"
STREAM = f"ROOST_{NAMESPACE}"
FAULTS_S = 8.0
DEPLOYED_S = 12.0
LIMIT_S = 240.0
"""Seconds of virtual time within which all has to have ended."""


class Machine(Process):
    """One life of a process. It is the `Deck` of the handlers that run on it."""

    def __init__(self, world: World, role: str, number: int, version: int) -> None:
        super().__init__(f"{role}.{number}")
        self.world = world
        self.role = role
        self.version = version
        self.client: SimClient
        self.stop: asyncio.Event = asyncio.Event()

    def number(self) -> int:
        self.world.numbers += 1
        return self.world.numbers

    def chance(self, share: float) -> bool:
        return self.world.faults.active and self.world.rng.random() < share

    def seconds(self) -> float:
        rng = self.world.rng
        return 0.0 if rng.random() < 0.3 else rng.random() ** 3 * 0.5

    def die(self) -> None:
        self.world.strike("kill", self)

    def step_begins(self, run: Run[Any], name: str) -> None:
        self.world.step_begins(self, run, name)

    def saw(self, run: Run[Any], what: str, value: object) -> None:
        if self.alive:
            self.world.seen.setdefault(run.id, {}).setdefault(run, []).append((what, repr(value)))

    def paid(self, key: str, receipt: int) -> None:
        if self.alive:
            there = self.world.receipts.setdefault(key, receipt)
            if there != receipt:
                self.world.complain(f"ctx.once of {key} returned {receipt} after it had returned {there}")


Op = tuple[str, str, Any]  # kind, key, value


class World:
    """Made from a seed; `run` plays it, and `complaints` tells what went against the promises."""

    def __init__(self, seed: int, trace: Callable[..., None] | None = None) -> None:
        self.seed = seed
        self.rng = random.Random(f"work {seed}")
        self.loop = SimLoop()
        self.faults = Faults(random.Random(f"faults {seed}"), until=self.loop.time() + FAULTS_S)
        self._trace = trace
        self.server = Server(self.loop, self.faults, self.trace)
        self.machines: dict[str, Machine] = {}  # by role: the present life
        self.all: list[Machine] = []
        self.numbers = 0
        self.seen: dict[str, dict[Run[Any], list[tuple[str, str]]]] = {}  # by run and execution
        self.receipts: dict[str, int] = {}
        self.complaints: list[str] = []
        self.tried: set[str] = set()
        self.accepted: set[str] = set()
        self.cancelled: set[str] = set()
        self.orders: dict[str, Order] = {}
        self.groups: dict[str, int] = {}
        self.done: dict[str, set[str]] = {}  # by role of the client
        self.about_runs = self.rng.random() < 0.6
        self.versions = (1, 2) if self.about_runs and self.rng.random() < 0.25 else (1,)
        self.deployed = 1  # the version that machines start with once faults have ended
        self.ops = self._voyages() if self.about_runs else self._jobs()

    def trace(self, text: str, *values: object) -> None:
        if self._trace is not None:
            self._trace("%10.4f " + text, self.loop.time() - 1000, *values)

    def complain(self, text: str) -> None:
        if text not in self.complaints:
            self.trace("WRONG: %s", text)
            self.complaints.append(text)

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

    # Processes ------------------------------------------------------------------------------------

    def boot(self, role: str) -> None:
        """Start a process, or the next life of one."""
        version = self.rng.choice(self.versions) if self.faults.active else self.deployed
        machine = Machine(self, role, len(self.all), version)
        self.machines[role] = machine
        self.all.append(machine)
        self.trace("%s starts (version %d)", machine, version)
        machine.client = machine.context.run(SimClient, self.loop, self.server, machine, self.strike)
        main = self._serve(machine) if role.startswith("m") else self._give_work(machine)
        self.loop.start(machine, main)

    def _bus(self, machine: Machine) -> Bus:
        settings = Settings(servers=("sim://",), namespace=NAMESPACE, name=machine.role)
        return Bus(machine.client.link(), settings, Journal())

    async def _serve(self, machine: Machine) -> None:
        bus = self._bus(machine)
        try:
            async with bus.serving(ship if self.about_runs else hands, grace_s=1.0):
                await machine.stop.wait()
        except RoostError as error:
            self.trace("%s could not serve: %r", machine, error)
        await bus.close()
        self.end(machine)

    def end(self, machine: Machine) -> None:
        """A process has ended, one way or another: another life begins soon."""
        self.loop.kill(machine)
        if self.machines.get(machine.role) is machine:
            self.loop.call_later(self.rng.random() ** 2 * 2.0, self._reboot, machine, context=_NOWHERE)

    def _reboot(self, machine: Machine) -> None:
        if self.machines.get(machine.role) is machine and not self.loop.closed:
            self.boot(machine.role)

    def strike(self, fault: str, process: Process) -> None:
        """Something befalls a process."""
        machine = process
        assert isinstance(machine, Machine)
        if not machine.alive:
            return
        rng = self.faults.rng
        self.trace("%s: %s", machine, fault)
        if fault == "kill":
            self.loop.kill(machine)
            machine.client.cut(self._kept(machine))
            self.end(machine)
        elif fault == "pause" and not machine.paused:
            self.loop.pause(machine)
            self.loop.call_later(rng.choice((0.2, 1.5, 3.0)) * ACK * rng.random(), self._resume, machine, context=_NOWHERE)
        elif fault == "cut":
            machine.client.cut(self._kept(machine))
        elif fault == "stall":
            machine.client.stall(rng.choice((0.1, 1.0, 7.0)) * rng.random())

    def _kept(self, machine: Machine) -> int:
        sent = machine.client.on_the_way()
        return self.faults.rng.randint(0, sent) if self.faults.rng.random() < 0.5 else sent

    def _resume(self, machine: Machine) -> None:
        if machine.alive and machine.paused:
            self.trace("%s goes on", machine)
            self.loop.resume(machine)

    def _something(self) -> None:
        """Now and then a machine dies, is paused or told to stop, or the server dies, whatever they do just then."""
        if not self.faults.active:
            return
        rng = self.faults.rng
        drawn = rng.random()
        machine = self.machines[rng.choice(sorted(self.machines))]
        if drawn < 0.25 and self.faults.rates["kill"]:
            self.strike("kill", machine)
        elif drawn < 0.4 and self.faults.rates["pause"]:
            self.strike("pause", machine)
        elif drawn < 0.6 and machine.alive and not machine.paused:
            self.trace("%s is told to stop", machine)
            machine.stop.set()
        elif drawn < 0.8 and self.faults.crashes:
            self.server.crash()
        self.loop.call_later(rng.random() * 3, self._something, context=_NOWHERE)

    def _calm(self) -> None:
        self.trace("faults end")
        self.faults.active = False
        for machine in list(self.machines.values()):
            self._resume(machine)
        if len(self.versions) > 1:
            self._deploy()

    def _deploy(self) -> None:
        """Runs begun by one version of the code need that version: each is deployed everywhere, by turns."""
        self.deployed = 3 - self.deployed
        for role, machine in list(self.machines.items()):
            if role.startswith("m") and machine.alive:
                self.strike("kill", machine)
        self.loop.call_later(DEPLOYED_S, self._deploy, context=_NOWHERE)

    # Clients --------------------------------------------------------------------------------------

    async def _give_work(self, machine: Machine) -> None:
        bus = self._bus(machine)
        done = self.done.setdefault(machine.role, set())
        async with asyncio.TaskGroup() as group:
            for kind, key, value in self.ops:
                if key not in done:
                    group.create_task(self._until_done(machine, bus, kind, key, value), name=f"op {key}")

    async def _until_done(self, machine: Machine, bus: Bus, kind: str, key: str, value: Any) -> None:
        done = self.done[machine.role]
        await asyncio.sleep(self.rng.random() ** 2 * 2.0)
        while True:
            try:
                await getattr(self, "_" + kind.replace(" ", "_"))(machine, bus, key, value)
                break
            except (TaskDead, TaskCancelled, Conflict, ConfigError) as error:
                self.complain(f"{kind} {key}: {error!r}")
                break
            except RoostError as error:
                self.trace("%s: %s %s: %r", machine, kind, key, error)
                await asyncio.sleep(0.2)
        done.add(key)

    async def _submitted(self, bus: Bus, key: str, work: Any, contract: Any = job) -> Handle[Any]:
        id = f"{contract.name}:{key}"
        self.tried.add(id)
        before = id in self.accepted and id not in self.cancelled
        handle: Handle[Any] = await bus.submit(contract, work, key=key, timeout_s=4.0)
        if before and handle.created and id not in self.cancelled:
            self.complain(f"{id} was submitted twice, and stored twice")
        self.accepted.add(handle.id)
        return handle

    async def _job(self, machine: Machine, bus: Bus, key: str, work: Work) -> None:
        handle = await self._submitted(bus, key, work)
        if self.rng.random() < 0.3:
            await self._submitted(bus, key, work)
        if self.rng.random() < 0.2:
            try:
                await bus.submit(job, Work(n=work.n + 1), key=key, timeout_s=4.0)
                self.complain(f"another payload under key {key} was accepted")
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
            self.complain(f"job {key} ({work.kind}) ended as {outcome!r}")

    async def _keyless(self, machine: Machine, bus: Bus, key: str, work: Work) -> None:
        self.done[machine.role].add(key)  # tried once: who dies meanwhile cannot know
        try:
            handle = await bus.submit(job, work, timeout_s=4.0)
        except SubmissionUnknown as error:
            self.tried.update(error.ids)
            return
        self.accepted.add(handle.id)
        self._judge(handle.id, work, await handle.outcome())

    async def _group(self, machine: Machine, bus: Bus, key: str, works: list[Work]) -> None:
        keys = [f"{key}-{work.n}" for work in works]
        self.tried.update(f"job:{one}" for one in keys)
        handles = await bus.submit_many(job, works, keys=keys, timeout_s=4.0)
        self.accepted.update(handle.id for handle in handles)
        for handle, work in zip(handles, works, strict=True):
            self._judge(handle.id, work, await handle.outcome())

    async def _bomb(self, machine: Machine, bus: Bus, key: str, work: Work) -> None:
        handle = await self._submitted(bus, key, work, bomb)
        outcome = await handle.outcome()
        if not isinstance(outcome, Dead):
            self.complain(f"a handler that kills its process ended as {outcome!r}")

    async def _cancel_job(self, machine: Machine, bus: Bus, key: str, work: Work) -> None:
        if f"job:{key}" not in self.cancelled:
            handle = await self._submitted(bus, key, work)
        else:
            handle = bus.handle(job, f"job:{key}")
        await asyncio.sleep(self.rng.random() * 1.5)
        self.cancelled.add(handle.id)
        won = await handle.cancel("not needed")
        outcome = await handle.outcome()
        if won and not isinstance(outcome, Cancelled):
            self.complain(f"{handle.id} was cancelled, and ended as {outcome!r}")

    async def _voyage(self, machine: Machine, bus: Bus, key: str, order: Order) -> None:
        id = f"voyage:{key}"
        self.tried.add(id)
        before = id in self.accepted
        handle = await bus.start(voyage, order, key=key, timeout_s=4.0)
        if before and handle.created:
            self.complain(f"{id} was started twice")
        self.accepted.add(handle.id)
        self.orders[handle.id] = order
        if order.approval:
            await asyncio.sleep(self.rng.random() * 4)
            try:
                await bus.signal(handle.id, approve, Word(text="go"))
            except ConfigError:  # it is over: an earlier life of this client has sent it
                await handle.outcome(timeout_s=10)
        report = await handle.result()
        if report != expected(order, report.version) or report.version not in self.versions:
            self.complain(f"{id}: {report!r} instead of {expected(order, report.version)!r}")

    async def _cancel_voyage(self, machine: Machine, bus: Bus, key: str, order: Order) -> None:
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
            self.complain(f"{id} was cancelled, and ended as {outcome!r}")

    # Playing it -----------------------------------------------------------------------------------

    def step_begins(self, machine: Machine, run: Run[Any], name: str) -> None:
        """A step's function is called: by whoever coordinates, never after it was recorded."""
        if not machine.alive:
            return
        stream = self.server.streams[STREAM]
        epoch = stream.last_on(f"{NAMESPACE}.run.{run.id}.epoch")
        if epoch == run._core.fence.seq and stream.last_on(f"{NAMESPACE}.run.{run.id}.step.{name}"):
            self.complain(f"step {name} of {run.id} ran although its result is on record")

    def run(self) -> None:
        """Play it to its end. Raises Stuck."""
        loop = self.loop
        roles = ["m0", "m1", "m2"][: self.rng.choice((2, 2, 3))]
        clients = ["c0", "c1"] if self.rng.random() < 0.25 else ["c0"]
        for role in (*roles, *clients):
            loop.call_soon(self.boot, role, context=_NOWHERE)
        loop.call_later(self.rng.random() * 3, self._something, context=_NOWHERE)
        loop.call_later(FAULTS_S * self.rng.random(), self._calm, context=_NOWHERE)
        if not loop.run(lambda: self._over(clients), until=1000.0 + LIMIT_S):
            consumers = [(one.name, one.pending(), one.due) for one in self.server.consumers.values()]
            waiting = {role: sorted({op[1] for op in self.ops} - self.done.get(role, set())) for role in clients}
            self.complain(f"after {LIMIT_S:g} s not all has ended: clients wait for {waiting}; consumers: {consumers}")
        self.complaints += loop.complaints
        for machine in self.all:
            for task in machine.tasks:
                if task.done() and not task.cancelled() and task._log_traceback:  # type: ignore[attr-defined]
                    self.complain(f"task {task.get_name()} of {machine} ended with {task.exception()!r}")

    def _over(self, clients: list[str]) -> bool:
        if self.faults.active:
            return False
        keys = len(self.ops)
        if any(len(self.done.get(role, ())) < keys for role in clients):
            return False
        return not any(one.due or one.pending() for one in self.server.consumers.values())

    def close(self) -> None:
        """Forget everything without running another line of it."""
        for machine in self.all:
            machine.alive = False
            for task in machine.tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]
        self.loop.close()


