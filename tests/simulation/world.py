"""One simulation: machines that serve agents, clients that give them work, and what befalls both.

Faults end after some seconds of virtual time; then everything that died is started again, and all work has to
come to its end.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from roost.bus import Bus
from roost.errors import RoostError
from roost.observe import Journal, LoopWatch
from roost.runs import Run
from roost.runs.epoch import has_token
from roost.settings import Settings
from roost.upkeep import Upkeep
from simulation.client import SimClient
from simulation.clients import Clients
from simulation.faults import Faults
from simulation.loop import NOWHERE, Process, SimLoop
from simulation.server import Server
from simulation.work import ACK_WAIT_S, hands, ship

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
        self.killed = False
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
        if self.alive and self.world.coordinates(run):
            self.world.seen.setdefault(run.id, {}).setdefault(run, []).append((what, repr(value)))

    def paid(self, key: str, receipt: int) -> None:
        if self.alive:
            there = self.world.receipts.setdefault(key, receipt)
            if there != receipt:
                self.world.complain(f"ctx.once of {key} returned {receipt} after it had returned {there}")


class NoWatch(LoopWatch):
    """A thread would watch a loop whose time is not its own."""

    def _start(self) -> None:
        return


class NoUpkeep(Upkeep):
    """The log is that of some minutes, and everything in it has an end: nothing is overdue or old."""

    @asynccontextmanager
    async def running(self, *, start_s: float = 0.0) -> AsyncIterator[None]:
        yield


class World:
    """Made from a seed; `run` plays it, and `complaints` tells what went against the promises."""

    def __init__(self, seed: int, trace: Callable[..., None] | None = None) -> None:
        self.seed = seed
        self.rng = random.Random(f"work {seed}")
        self.loop = SimLoop.make()
        self.faults = Faults(random.Random(f"faults {seed}"), until=self.loop.time() + FAULTS_S)
        self._trace = trace
        self.server = Server(self.loop, self.faults, self.trace)
        self.machines: dict[str, Machine] = {}  # by role: the present life
        self.all: list[Machine] = []
        self.numbers = 0
        self.seen: dict[str, dict[Run[Any], list[tuple[str, str]]]] = {}  # by run and execution
        self.receipts: dict[str, int] = {}
        self.complaints: list[str] = []
        self.about_runs = self.rng.random() < 0.6
        self.versions = (1, 2) if self.about_runs and self.rng.random() < 0.25 else (1,)
        self.deployed = 1  # the version that machines start with once faults have ended
        self.clients = Clients(self, self.rng)

    def trace(self, text: str, *values: object) -> None:
        if self._trace is not None:
            self._trace("%10.4f " + text, self.loop.time() - 1000, *values)

    def complain(self, text: str) -> None:
        if text not in self.complaints:
            self.trace("WRONG: %s", text)
            self.complaints.append(text)

    # Processes ------------------------------------------------------------------------------------

    def boot(self, role: str) -> None:
        """Start a process, or the next life of one."""
        version = self.rng.choice(self.versions) if self.faults.active else self.deployed
        machine = Machine(self, role, len(self.all), version)
        self.machines[role] = machine
        self.all.append(machine)
        self.trace("%s starts (version %d)", machine, version)
        machine.client = machine.context.run(SimClient, self.loop, self.server, machine, self.strike)
        main = self._serve(machine) if role.startswith("m") else self.clients.work(role, self._bus(machine))
        self.loop.start(machine, main)

    def _bus(self, machine: Machine) -> Bus:
        settings = Settings(servers=("nats://127.0.0.1:4222",), namespace=NAMESPACE, name=machine.role)
        bus = Bus(machine.client.link(), settings, Journal())
        bus.upkeep = NoUpkeep(bus.log)
        bus.loop_watch = NoWatch(bus.journal)
        return bus

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
            self.loop.call_later(self.rng.random() ** 2 * 2.0, self._reboot, machine, context=NOWHERE)

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
            machine.killed = True
            self.loop.kill(machine)
            machine.client.cut(self._kept(machine))
            self.end(machine)
        elif fault == "pause" and not machine.paused:
            self.loop.pause(machine)
            self.loop.call_later(
                rng.choice((0.2, 1.5, 3.0)) * ACK_WAIT_S * rng.random(),
                self._resume,
                machine,
                context=NOWHERE,
            )
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
        self.loop.call_later(rng.random() * 3, self._something, context=NOWHERE)

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
        self.loop.call_later(DEPLOYED_S, self._deploy, context=NOWHERE)

    # Playing it -----------------------------------------------------------------------------------

    def step_begins(self, machine: Machine, run: Run[Any], name: str) -> None:
        """A step's function is called: by whoever coordinates, never after it was recorded."""
        if not machine.alive:
            return
        if self.coordinates(run) and self.server.streams[STREAM].last_on(
            f"{NAMESPACE}.run.{run.id}.step.{name}"
        ):
            self.complain(f"step {name} of {run.id} ran although its result is on record")

    def coordinates(self, run: Run[Any]) -> bool:
        """Whether nobody has taken over from this execution: what it does then counts."""
        stream = self.server.streams[STREAM]
        epoch = stream.get(stream.last_on(f"{NAMESPACE}.run.{run.id}.epoch"))
        return epoch is not None and has_token(epoch.data, run._core.fence.record["token"])

    def run(self) -> None:
        """Play it to its end. Raises Stuck."""
        loop = self.loop
        roles = ["m0", "m1", "m2"][: self.rng.choice((2, 2, 3))]
        clients = ["c0", "c1"] if self.rng.random() < 0.25 else ["c0"]
        for role in (*roles, *clients):
            loop.call_soon(self.boot, role, context=NOWHERE)
        loop.call_later(self.rng.random() * 3, self._something, context=NOWHERE)
        loop.call_later(FAULTS_S * self.rng.random(), self._calm, context=NOWHERE)
        if not loop.run(lambda: self._over(clients), until=1000.0 + LIMIT_S):
            consumers = [(one.name, one.pending(), one.due) for one in self.server.consumers.values()]
            waiting = {role: self.clients.waits_for(role) for role in clients}
            self.complain(
                f"after {LIMIT_S:g} s not all has ended: clients wait for {waiting}; consumers: {consumers}"
            )
        self.complaints += loop.complaints
        for machine in self.all:
            for task in machine.tasks if not machine.killed else ():
                if task.done() and not task.cancelled() and task._log_traceback:
                    self.complain(f"task {task.get_name()} of {machine} ended with {task.exception()!r}")

    def _over(self, clients: list[str]) -> bool:
        if self.faults.active:
            return False
        if not self.clients.over(clients):
            return False
        return not any(one.due or one.pending() for one in self.server.consumers.values())

    def close(self) -> None:
        """Forget everything without running another line of it."""
        for machine in self.all:
            machine.alive = False
            for task in machine.tasks:
                task._log_destroy_pending = False  # type: ignore[attr-defined]
        self.loop.close()
