"""A supervisor keeps its processes running, and ends them in order. Real processes, a real server."""

from __future__ import annotations

import asyncio
import os
import re
import signal
from pathlib import Path

import pytest

import fleet
import roost
from fleet import Ear, Job
from roost.errors import ConfigError
from roost.runtime import AgentsFailed, AgentSpec, Notice, Supervisor, SupervisorOptions


class Notices:
    """What a supervisor told, and a way to wait for it."""

    def __init__(self) -> None:
        self.all: list[Notice] = []
        self._more = asyncio.Event()

    def __call__(self, notice: Notice) -> None:
        self.all.append(notice)
        self._more.set()

    async def first(self, kind: str, *, after: int = 0) -> Notice:
        async with asyncio.timeout(30):
            while True:
                for notice in self.all[after:]:
                    if notice.kind == kind:
                        return notice
                self._more.clear()
                await self._more.wait()


async def test_a_killed_worker_is_started_again_and_its_task_is_done_elsewhere(
    nats_url: str, namespace: str
) -> None:
    told = Notices()
    async with Ear() as ear, roost.connect(nats_url, namespace=namespace) as bus:
        spec = AgentSpec(target="fleet:worker", processes=2)
        async with Supervisor(
            [spec], url=nats_url, namespace=namespace, env=ear.env, tell=told
        ) as supervisor:
            await supervisor.wait_ready()
            names = sorted(p.name for p in supervisor.processes)
            assert [re.sub("-[a-z2-9]{6}$", "", name) for name in names] == ["worker-1", "worker-2"]
            handle = await bus.submit(fleet.brief, Job(id="j", first_s=60))
            _, _, name, pid = await ear.hear("begun j")
            victim = next(p for p in supervisor.processes if p.name == name)
            assert victim.pid == int(pid)
            seen = len(told.all)
            victim.send_signal(signal.SIGKILL)

            report = await handle.result(timeout_s=20)
            assert report.run == 2
            assert report.pid != int(pid)
            ended = await told.first("ended", after=seen)
            assert str(ended).startswith(f"{name} (pid {pid}) was killed by SIGKILL; it starts again in 0.")
            again = await told.first("ready", after=seen)
            assert again.name == name
            assert again.pid == victim.pid != int(pid)
            assert victim.starts == 2


async def test_leaving_the_block_ends_all_processes_in_order(nats_url: str, namespace: str) -> None:
    told = Notices()
    async with Ear() as ear:
        spec = AgentSpec(target="fleet:worker", processes=2, name="w")
        async with Supervisor(
            [spec], url=nats_url, namespace=namespace, env=ear.env, tell=told
        ) as supervisor:
            await supervisor.wait_ready()
            pids = [p.pid for p in supervisor.processes]
            names = [p.name for p in supervisor.processes]
            codes = await supervisor.stop()
        assert [name[:4] for name in names] == ["w-1-", "w-2-"]
        assert codes == dict.fromkeys(names, 0)
        for pid in pids:
            assert pid is not None
            await fleet.gone(pid, timeout_s=0)
    assert [n.kind for n in told.all] == ["ready", "ready", "stopping", "stopping", "stopped", "stopped"]


async def test_each_process_has_a_session_of_its_own_so_that_ctrl_c_reaches_the_supervisor_alone(
    nats_url: str, namespace: str
) -> None:
    async with Ear() as ear:
        spec = AgentSpec(target="fleet:worker")
        async with Supervisor(
            [spec], url=nats_url, namespace=namespace, env=ear.env, tell=lambda _: None
        ) as supervisor:
            await supervisor.wait_ready()
            pid = supervisor.processes[0].pid
            assert pid is not None
            assert os.getsid(pid) == pid


async def test_a_frozen_process_is_killed_when_its_time_is_over(nats_url: str, namespace: str) -> None:
    told = Notices()
    async with Ear() as ear:
        spec = AgentSpec(target="fleet:worker")
        async with Supervisor(
            [spec], url=nats_url, namespace=namespace, env=ear.env, tell=told
        ) as supervisor:
            await supervisor.wait_ready()
            supervisor.processes[0].send_signal(signal.SIGSTOP)
            assert await supervisor.stop(0) == {supervisor.processes[0].name: -9}
    assert "did not stop in time and was killed" in str(told.all[-1])


async def test_a_cancelled_supervisor_leaves_no_process_behind(nats_url: str, namespace: str) -> None:
    pids: list[int] = []
    up = asyncio.Event()

    async def run(ear: Ear) -> None:
        spec = AgentSpec(target="fleet:worker", processes=2)
        async with Supervisor(
            [spec], url=nats_url, namespace=namespace, env=ear.env, tell=lambda _: None
        ) as one:
            await one.wait_ready()
            pids.extend(p.pid for p in one.processes if p.pid is not None)
            for process in one.processes:
                process.send_signal(signal.SIGSTOP)
            up.set()
            await asyncio.Event().wait()

    async with Ear() as ear:
        running = asyncio.create_task(run(ear))
        await up.wait()
        running.cancel()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        running.cancel()  # also while it waits for the frozen ones to stop
        with pytest.raises(asyncio.CancelledError):
            await running
        assert len(pids) == 2
        for pid in pids:
            await fleet.gone(pid, timeout_s=5)


async def test_waiting_for_agents_that_cannot_start_ends_with_the_reason(
    nats_url: str, namespace: str
) -> None:
    async with Ear() as ear:
        specs = [AgentSpec(target="fleet:worker"), AgentSpec(target="fleet:missing", processes=2)]
        async with Supervisor(
            specs, url=nats_url, namespace=namespace, env=ear.env, tell=lambda _: None
        ) as one:
            with pytest.raises(
                AgentsFailed, match="fleet:missing: module fleet has no 'missing'; its "
            ) as error:
                await one.wait_ready()
            assert error.value.failures[0][0] == "fleet:missing"


async def test_a_process_that_failed_to_start_is_tried_again_while_others_run(
    nats_url: str, namespace: str
) -> None:
    told = Notices()
    async with Ear() as ear:
        specs = [AgentSpec(target="fleet:worker"), AgentSpec(target="fleet:broken_lifespan")]
        async with Supervisor(specs, url=nats_url, namespace=namespace, env=ear.env, tell=told) as supervisor:
            await told.first("ready")
            for _ in range(2):
                failed = await told.first("failed", after=len(told.all))
                assert "cannot start: OSError: no database there; it starts again in" in str(failed)
            assert supervisor.processes[0].state == "ready"


async def test_a_bus_url_with_a_password_is_not_among_the_arguments(nats_url: str, namespace: str) -> None:
    async with Ear() as ear:
        spec = AgentSpec(target="fleet:worker")
        url = nats_url.replace("nats://", "nats://ada:secret-7@")
        async with Supervisor(
            [spec], url=url, namespace=namespace, env=ear.env, tell=lambda _: None
        ) as supervisor:
            await supervisor.wait_ready()
            pid = supervisor.processes[0].pid
            assert b"secret-7" not in await asyncio.to_thread(Path(f"/proc/{pid}/cmdline").read_bytes)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (lambda: Supervisor([]), "no agents to run"),
        (lambda: Supervisor([AgentSpec(target="a:b"), AgentSpec(target="a:b")]), "a:b is named twice"),
        (lambda: AgentSpec(target="a:b", processes=0), "processes = 0: must be an int from 1"),
        (lambda: AgentSpec(target="a/b.py"), "names a file; name the module: a.b:agent"),
        (lambda: AgentSpec(target="shop"), "'shop' names no agent; write module:agent"),
        (lambda: AgentSpec(target="a:b", name="x.y"), "name = 'x.y' cannot stand in a subject"),
        (lambda: SupervisorOptions(grace_s=-1), "grace_s = -1: must be a finite number"),
        (lambda: SupervisorOptions(log_level="loud"), "log_level = 'loud'"),
    ],
)
def test_options_that_cannot_be_are_refused_by_name(wrong: object, message: str) -> None:
    assert callable(wrong)
    with pytest.raises((ConfigError, ValueError)) as error:
        wrong()
    assert message in str(error.value)
