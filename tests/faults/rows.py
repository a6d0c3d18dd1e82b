"""The rows of the fault matrix: what befalls the cast of a scene, and what Roost promises for it."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import signal
import socket
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from itertools import islice
from urllib.parse import urlsplit

import roost
from faults.scene import NAMESPACE, STRANGER, WARM_S, Found, Scene, stored_ids
from faults.with_runs import begin_coordinator, with_runs
from kill.work import ACK_WAIT_S, BOMB_ATTEMPTS, Job, bomb, id_of, is_bomb, job_of, work
from roost.server import LocalServer, ServerOptions
from roost.testing import faults

BOTH = (1, 3)
EXTRA = 10_000_000
"""Numbers from here on are of tasks that a row submits by itself."""


@dataclass(frozen=True, kw_only=True)
class Row:
    """`run` gets the scene under load, and returns what it came to, or None for `Scene.end` to say."""

    name: str
    fault: str
    promise: str
    run: Callable[[Scene], Awaitable[Found | None]]
    servers: tuple[int, ...] = BOTH
    workers: int = 2
    rate: float = 100.0
    sync_always: bool = False
    disk_mb: int = 0
    config: str = ""
    parted: bool = False
    """The network between the servers can be cut."""
    no_promise: bool = False
    """Nothing is promised: the row is run to show what is lost."""


ROWS: list[Row] = []


def row(**words: object) -> Callable[[Callable[[Scene], Awaitable[Found | None]]], None]:
    def add(run: Callable[[Scene], Awaitable[Found | None]]) -> None:
        ROWS.append(Row(name=run.__name__, run=run, **words))  # type: ignore[arg-type]

    return add


# Processes of agents --------------------------------------------------------------------------------


@row(
    fault="a worker is killed (SIGKILL) in the middle of its work, five times",
    promise="its tasks run elsewhere after the ack wait; one outcome each",
)
async def worker_killed(scene: Scene) -> None:
    for number in range(5):
        await asyncio.sleep(scene.chance.uniform(0.3, 1.0))
        name = f"worker-{number}"
        await scene.kill(name)
        after = f"worker-{number + 2}"
        await scene.begin("worker", after, scene.folder / "starts.txt", scene.seed, 0)


@row(
    fault="a worker stands still (SIGSTOP) for three times the ack wait, and wakes up",
    promise="another does its work; the outcome that comes later is refused",
)
async def worker_frozen(scene: Scene) -> None:
    await asyncio.sleep(WARM_S)
    scene.signal("worker-0", signal.SIGSTOP)
    await asyncio.sleep(3 * ACK_WAIT_S)  # the length of the fault
    scene.signal("worker-0", signal.SIGCONT)


@row(
    fault="a handler blocks its event loop for three times the ack wait",
    promise="another worker does its work; the outcome that comes later is refused",
    workers=1,
)
async def handler_blocks(scene: Scene) -> None:
    await asyncio.sleep(WARM_S)
    await scene.begin("blocking", "blocking", scene.folder / "starts.txt", 3 * ACK_WAIT_S)
    await asyncio.sleep(4 * ACK_WAIT_S)  # the length of the fault


@row(
    fault="a task kills whichever worker runs it (SIGSEGV)",
    promise="a dead letter after at most one run more than it has attempts",
    servers=(1,),
    rate=0,
    workers=0,
)
async def task_kills_its_worker(scene: Scene) -> None:
    starts = scene.folder / "bombs.txt"
    numbers = [EXTRA + n for n in range(5000) if is_bomb(EXTRA + n)][:3]
    async with roost.connect(scene.url, namespace=NAMESPACE) as bus:
        for n in numbers:
            handle = await bus.submit(bomb, job_of(n, scene.seed), key=str(n))
            scene.more += [f"try {id_of(n)}", f"ok {id_of(n)}"]
            for life in range(20):
                child = await scene.begin("fatal", f"fatal-{n}-{life}", starts, mortal=True)
                ended = asyncio.create_task(handle.outcome())
                child.ended.add_done_callback(functools.partial(_cancel, ended))
                await asyncio.wait([ended])
                if not ended.cancelled():
                    scene.signal(f"fatal-{n}-{life}", signal.SIGTERM)
                    break
    times = [line.split()[0] for line in starts.read_text().splitlines()]
    most = max(times.count(id) for id in set(times))
    scene.said.append(f"a bomb ran {most} times at most, of {BOMB_ATTEMPTS} attempts")
    if most > BOMB_ATTEMPTS + 1:
        scene.crashes.append(f"a bomb ran {most} times")


def _cancel(waiting: asyncio.Task[object], _: object) -> None:
    waiting.cancel()


@row(
    fault="SIGTERM to a worker under load, five times",
    promise="it finishes or hands back what it is at, ends with 0, burns no attempt",
)
async def worker_told_to_stop(scene: Scene) -> None:
    for number in range(5):
        await asyncio.sleep(scene.chance.uniform(0.2, 0.6))
        scene.signal(f"worker-{number}", signal.SIGTERM)
        await asyncio.wait([scene.children[f"worker-{number}"].ended], timeout=10)
        code = scene.children[f"worker-{number}"].ended
        if not code.done() or code.result() != 0:
            scene.crashes.append(f"worker-{number} did not end in order")
        scene.children.pop(f"worker-{number}")
        await scene.begin("worker", f"worker-{number + 2}", scene.folder / "starts.txt", scene.seed, 0)


@row(
    fault="SIGTERM to a worker while the server is away",
    promise="it ends within its grace; its tasks run elsewhere",
    servers=(1,),
)
async def worker_told_to_stop_without_server(scene: Scene) -> None:
    await asyncio.sleep(WARM_S)
    await scene.kill_server(0)
    began = time.monotonic()
    scene.signal("worker-0", signal.SIGTERM)
    await asyncio.wait([scene.children["worker-0"].ended], timeout=15)
    took_s = time.monotonic() - began
    scene.said.append(f"the worker ended after {took_s:.1f} s")
    if not scene.children.pop("worker-0").ended.done():
        scene.crashes.append("worker-0 did not end")
    await scene.start_server()


@row(
    fault="the clock of one worker is an hour slow, that of another an hour fast",
    promise="no effect: time is the server's",
    workers=1,
)
async def clocks_are_wrong(scene: Scene) -> None:
    for hours in (-1, 1):
        await scene.begin("skewed", f"skewed{hours}", scene.folder / "starts.txt", hours)
    await asyncio.sleep(2 * WARM_S)


# Coordinators ---------------------------------------------------------------------------------------


@row(
    fault="a coordinator is killed (SIGKILL) in the middle of its runs, five times",
    promise="another goes on; what is on record is not done again; the same report",
    rate=0,
    workers=0,
)
async def coordinator_killed(scene: Scene) -> Found:
    async def act() -> None:
        for number in range(5):
            await asyncio.sleep(scene.chance.uniform(0.5, 1.5))
            await scene.kill(f"coordinator-{number}")
            await begin_coordinator(scene, number + 2)

    return await with_runs(scene, act)


@row(
    fault="a coordinator stands still (SIGSTOP) for three times the ack wait, and wakes up",
    promise="another goes on; of the two only the later writes",
    rate=0,
    workers=0,
)
async def coordinator_frozen(scene: Scene) -> Found:
    async def act() -> None:
        for name in ("coordinator-0", "coordinator-1"):
            await asyncio.sleep(WARM_S)
            scene.signal(name, signal.SIGSTOP)
            await asyncio.sleep(3 * ACK_WAIT_S)  # the length of the fault
            scene.signal(name, signal.SIGCONT)
        await asyncio.sleep(WARM_S)

    return await with_runs(scene, act)


@row(
    fault="the server is killed (SIGKILL) and comes back, three times, under runs; of three, the leader",
    promise="runs go on by themselves; the same report",
    rate=0,
    workers=0,
)
async def server_killed_under_runs(scene: Scene) -> Found:
    return await with_runs(scene, functools.partial(_kill_servers, scene))


# Servers --------------------------------------------------------------------------------------------


@row(
    fault="the server is killed (SIGKILL) and comes back, three times; of three, the leader",
    promise="nothing accepted is lost; work goes on by itself",
)
async def server_killed(scene: Scene) -> None:
    await _kill_servers(scene)


async def _kill_servers(scene: Scene) -> None:
    for _ in range(3):
        await asyncio.sleep(WARM_S)
        number = await asyncio.to_thread(scene.first)
        await scene.kill_server(number)
        await asyncio.sleep(scene.chance.uniform(0.2, 1.0))  # the length of the fault
        await scene.start_server(number)


@row(
    fault="the server stands still (SIGSTOP) for 5 s; of three, the leader",
    promise="nothing accepted is lost; of three, another leads meanwhile",
)
async def server_frozen(scene: Scene) -> None:
    await asyncio.sleep(WARM_S)
    await scene.freeze_server(await asyncio.to_thread(scene.first), 5.0)


@row(
    fault="two of three servers are killed, and come back after 6 s",
    promise="nothing is accepted that could be lost; work goes on by itself",
    servers=(3,),
)
async def two_of_three_down(scene: Scene) -> None:
    await asyncio.sleep(WARM_S)
    numbers = scene.chance.sample(range(3), 2)
    for number in numbers:
        await scene.kill_server(number)
    await asyncio.sleep(6.0)  # the length of the fault
    await scene.start_server(*numbers)


@row(
    fault="the network between agents and server is cut for 4 s",
    promise="submissions are repeated until they are known; one outcome each",
    servers=(1,),
    rate=0,
    workers=0,
)
async def network_cut(scene: Scene) -> Found:
    return await _through_a_wire(scene, "cut")


@row(
    fault="the network swallows everything for 4 s, and no connection is closed",
    promise="submissions are repeated until they are known; one outcome each",
    servers=(1,),
    rate=0,
    workers=0,
)
async def network_stalled(scene: Scene) -> Found:
    return await _through_a_wire(scene, "stalled")


async def _through_a_wire(scene: Scene, kind: str) -> Found:
    scene.rate = 100.0
    async with faults.Wire(scene.url) as wire:
        starts = scene.folder / "starts.txt"
        for number in range(2):
            await scene.begin("worker", f"worker-{number}", starts, scene.seed, 0, url=wire.url)
        await scene.begin("submitter", "submitter", scene.ids, scene.seed, scene.rate, 0, 1, url=wire.url)
        scene.since = time.time()
        await asyncio.sleep(WARM_S)
        with wire.cut() if kind == "cut" else wire.stalled():
            await asyncio.sleep(4.0)  # the length of the fault
        return await scene.end()


# Disks ----------------------------------------------------------------------------------------------


@row(
    fault="power cut, `sync_interval: always`",
    promise="nothing accepted is lost; what was acknowledged may run again",
    servers=(1,),
    sync_always=True,
    disk_mb=256,
)
async def power_cut_synced(scene: Scene) -> Found:
    return await _power_cut(scene)


@row(
    fault="power cut, the server's default (it syncs every two minutes)",
    promise="none; `roost doctor` warns of it",
    servers=(1,),
    disk_mb=256,
    no_promise=True,
)
async def power_cut_lazy(scene: Scene) -> Found:
    return await _power_cut(scene)


async def _power_cut(scene: Scene) -> Found:
    """What was accepted before the cut is looked for in a server on what the disk had then."""
    assert scene.disk is not None
    await asyncio.sleep(4 * WARM_S)
    accepted = [line for line in scene.ids.read_text().splitlines() if line.startswith("ok ")]
    after = await asyncio.to_thread(scene.disk.power_cut)
    found = await scene.end()
    with after, LocalServer(ServerOptions(store_dir=after.path / "store", start_timeout_s=30)) as server:
        stored = await stored_ids(server.url)
    lost = [line for line in accepted if line.removeprefix("ok ") not in stored]
    found.tasks, found.lost = len(accepted), len(lost)
    if lost:
        found.broken["accepted but not stored after the cut"] = [f"{len(lost)} of them"]
    return found


@row(
    fault="the server's disk answers late: each sync takes 20 ms longer, for 4 s",
    promise="everything later, nothing lost",
    servers=(1,),
    sync_always=True,
    rate=20.0,
)
async def disk_slow(scene: Scene) -> None:
    assert isinstance(scene.server, LocalServer)
    await asyncio.sleep(WARM_S)
    with faults.slow_disk(scene.server.pid, sync_s=0.02):
        await asyncio.sleep(4.0)  # the length of the fault


@row(
    fault="the disk of the server is full, room is made after 4 s, and the server is started again",
    promise="nothing accepted is lost; work goes on",
    servers=(1,),
    disk_mb=64,
)
async def disk_full(scene: Scene) -> None:
    assert scene.disk is not None
    await asyncio.sleep(WARM_S)
    await asyncio.to_thread(scene.disk.fill)
    await asyncio.sleep(4.0)  # the length of the fault
    scene.disk.empty()
    await scene.kill_server(0)
    await scene.start_server()


# What comes over the wire ---------------------------------------------------------------------------


@row(
    fault="2,000 malformed messages at the subjects of a live system, headers and subjects included",
    promise="each harms itself at most; workers go on",
)
async def garbage_on_the_wire(scene: Scene) -> None:
    await asyncio.sleep(WARM_S)
    parts = urlsplit(scene.url.split(",")[0])
    subjects = [f"{NAMESPACE}.run.{STRANGER}.task.work.x", f"{NAMESPACE}.run.work:1.note.work.work:1.9"]
    subjects += [f"{NAMESPACE}.cancel.work.work:1.work:1", f"{NAMESPACE}.live.run.{STRANGER}.end.work.x"]
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as plain:
        plain.sendall(b'CONNECT {"verbose":false,"headers":true}\r\n')
        for message in islice(faults.raw_messages(scene.seed, subjects), 2000):
            plain.sendall(message)
        plain.sendall(b"PING\r\n")
        plain.settimeout(10)
        while b"PONG" not in plain.recv(65536):
            continue


async def one_ends(ends: list[int]) -> None:
    """Returns when one of these descriptors of servers is readable, or when 5 s have passed."""
    loop, ended = asyncio.get_running_loop(), asyncio.Event()
    for one in ends:
        loop.add_reader(one, ended.set)
    try:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(ended.wait(), 5)
    finally:
        for one in ends:
            loop.remove_reader(one)


@row(
    fault="a message with a header of one byte, which ends nats-server 2.15.1; it is started again",
    promise="nothing accepted is lost; who may write to the log can end its server",
)
async def header_of_one_byte(scene: Scene) -> None:
    await asyncio.sleep(WARM_S)
    parts = urlsplit(scene.url.split(",")[0])
    servers = [scene.server] if isinstance(scene.server, LocalServer) else scene.server.servers
    with socket.create_connection((parts.hostname or "", parts.port or 0)) as plain:
        plain.sendall(b'CONNECT {"verbose":false,"headers":true}\r\n')
        plain.sendall(faults.FATAL % f"{NAMESPACE}.run.{STRANGER}.note.work.x.1".encode())
        await one_ends([server.fileno() for server in servers])
    if scene.clustered:
        await asyncio.sleep(2.0)  # it may end a second one, or not
    down = [number for number, server in enumerate(servers) if not server.running]
    scene.said.append(f"{len(down)} servers were down")
    for number in down:
        await scene.start_server(number)


@row(
    fault="rights to write dead letters' index are taken away for 3 s, and given back",
    promise="no delivery is acknowledged before its dead letter is complete",
    servers=(1,),
    config=faults.RIGHTS,
)
async def dead_letters_refused(scene: Scene) -> None:
    assert isinstance(scene.server, LocalServer)
    await asyncio.sleep(WARM_S)
    with faults.denied(scene.server, publish=[f"{NAMESPACE}.run.*.dead.>"]):
        await asyncio.sleep(3.0)  # the length of the fault


@row(
    fault="each submission is sent twice, the second time after the server was killed",
    promise="the same key is the same task, across restarts of the server",
    servers=(1,),
)
async def submitted_again(scene: Scene) -> None:
    numbers = [EXTRA + n for n in range(100) if not is_bomb(EXTRA + n)]
    jobs, keys = [job_of(n, scene.seed) for n in numbers], [str(n) for n in numbers]
    async with roost.connect(scene.url, namespace=NAMESPACE) as bus:
        await bus.submit_many(work, jobs, keys=keys)
        scene.more += [f"{word} {id_of(n)}" for n in numbers for word in ("try", "ok")]
        await scene.kill_server(0)
        await scene.start_server()
        again = await bus.submit_many(work, jobs, keys=keys, timeout_s=20)
        new = sum(handle.created for handle in again)
        if new:
            scene.crashes.append(f"{new} tasks were made anew")
        try:
            await bus.submit(work, Job(n=-1), key=keys[0])
            scene.crashes.append("another value under the same key was taken")
        except roost.Conflict as error:
            scene.said.append(str(error))


@row(
    fault="forty clients lose their connections in the same instant (connections alone: no task is submitted)",
    promise="they come back spread out",
    servers=(1,),
    rate=0,
    workers=0,
)
async def reconnect_storm(scene: Scene) -> Found:
    async with faults.Wire(scene.url) as wire:
        back: list[float] = []
        there, came = 0, asyncio.Event()

        def note(event: roost.Event) -> None:
            nonlocal there
            if event.kind == "reconnected":
                back.append(time.monotonic())
            if event.kind in ("connected", "reconnected"):
                there += 1
                if there in (40, 80):
                    came.set()

        async with asyncio.TaskGroup() as group:
            told = asyncio.Event()
            for _ in range(40):
                group.create_task(_connected(wire.url, note, told), name="client")
            async with asyncio.timeout(20):
                await came.wait()
                came.clear()
                began = time.monotonic()
                wire.sever()
                await came.wait()
            told.set()
    spread = max(back) - min(back)
    in_one = max(sum(at <= other < at + 0.05 for other in back) for at in back)
    found = Found(said=[f"40 were back after {max(back) - began:.2f} s, spread over {spread:.2f} s"])
    found.longest_unavailable_s = round(max(back) - began, 2)
    if in_one > 20:
        found.broken["thundering herd"] = [f"{in_one} of 40 came back within 50 ms"]
    return found


async def _connected(url: str, note: Callable[[roost.Event], None], told: asyncio.Event) -> None:
    async with roost.connect(url, namespace=NAMESPACE, watch=note):
        await told.wait()
