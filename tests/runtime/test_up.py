"""`roost up` as an operator meets it: a process of its own, signals, exit codes, and what stands in the terminal."""

from __future__ import annotations

import io
import os
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, redirect_stderr
from pathlib import Path

import pytest

import fleet
import roost
from fleet import Ear, Job, Program
from roost.cli.up import Printer
from roost.runtime import Notice
from roost.runtime.notices import NoticeKind
from roost.server import LocalServer


@asynccontextmanager
async def up(ear: Ear, url: str, namespace: str, *arguments: str, ready: int) -> AsyncIterator[Program]:
    """`roost up` with these arguments, once so many processes are ready; `pids` has theirs."""
    command = ("-m", "roost.cli.main", "up", *arguments, "--url", url, "--namespace", namespace)
    async with await Program.start(*command, env=ear.env) as program:
        for _ in range(ready):
            await program.says("is ready (pid ")
        yield program


def pids(program: Program) -> list[int]:
    return [int(pid) for pid in re.findall(r"is ready \(pid (\d+)\)", program.text)]


async def test_sigterm_stops_everything_in_order(nats_url: str, namespace: str) -> None:
    async with Ear() as ear, roost.connect(nats_url, namespace=namespace) as bus:
        agents = ("fleet:worker", "fleet:thread_worker", "--processes", "2")
        async with up(ear, nats_url, namespace, *agents, ready=4) as program:
            handles = [await bus.submit(fleet.job, Job(id=f"j{n}", first_s=1)) for n in range(4)]
            for n in range(4):
                await ear.hear(f"begun j{n}")
            program.signal(signal.SIGTERM)
            assert await program.ends() == 0
        for handle in handles:
            assert (await handle.result(timeout_s=5)).run == 1
        servers = nats_url.replace(",", ", ")
        assert f"2 agents in 4 processes on {servers}, namespace {namespace}; Ctrl-C stops" in program.text
        assert "SIGTERM: stopping, 10 s for running handlers" in program.text
        for name in ("worker-1", "worker-2", "thread-worker-1", "thread-worker-2"):
            assert re.search(rf"\b(?<!-){name}-[a-z2-9]{{6}} has stopped", program.text), name


async def test_what_takes_longer_than_the_grace_goes_to_another_supervisors_process(
    nats_url: str, namespace: str
) -> None:
    async with Ear() as ear, roost.connect(nats_url, namespace=namespace) as bus:
        async with up(ear, nats_url, namespace, "fleet:thread_worker", "--grace", "0.2", ready=1) as first:
            handle = await bus.submit(fleet.threaded, Job(id="j", first_s=60))
            _, _, _, pid = await ear.hear("begun j")
            async with up(ear, nats_url, namespace, "fleet:thread_worker", ready=1):
                first.signal(signal.SIGTERM)
                report = await handle.result(timeout_s=10)  # its ack wait is 30 s
                assert report.run == 2
                assert report.pid != int(pid)
                assert await first.ends(timeout_s=10) == 0


async def test_the_processes_are_gone_after_the_supervisor_was_killed(nats_url: str, namespace: str) -> None:
    async with Ear() as ear, roost.connect(nats_url, namespace=namespace) as bus:
        async with up(ear, nats_url, namespace, "fleet:worker", "--processes", "2", ready=2) as program:
            handle = await bus.submit(fleet.job, Job(id="j", first_s=1))
            await ear.hear("begun j")
            program.signal(signal.SIGKILL)
            for pid in pids(program):
                await fleet.gone(pid, timeout_s=10)
        assert (await handle.result(timeout_s=5)).run == 1  # within the grace, as for any other end


async def test_ctrl_c_twice_ends_at_once_and_hands_back(nats_url: str, namespace: str) -> None:
    async with Ear() as ear, roost.connect(nats_url, namespace=namespace) as bus:
        async with up(ear, nats_url, namespace, "fleet:worker", "--grace", "50", ready=1) as first:
            handle = await bus.submit(fleet.job, Job(id="j", first_s=60))
            await ear.hear("begun j")
            async with up(ear, nats_url, namespace, "fleet:worker", ready=1):
                first.signal(signal.SIGINT)
                await first.says("SIGINT: stopping, 50 s for running handlers; once more ends them at once")
                first.signal(signal.SIGINT)
                await first.says("ending at once; what was running is handed back")
                assert (await handle.result(timeout_s=10)).run == 2
                assert await first.ends(timeout_s=10) == 0


async def test_sigterm_while_the_broker_is_down_ends_in_time_with_exit_code_0(
    own_server: LocalServer,
) -> None:
    async with Ear() as ear:
        agents = ("fleet:worker", "--processes", "2", "--grace", "5")
        async with up(ear, own_server.url, "down", *agents, ready=2) as program:
            own_server.kill()
            await program.says("connection_lost")
            program.signal(signal.SIGTERM)
            assert await program.ends(timeout_s=5) == 0


async def test_waiting_for_the_broker_is_said_once_for_all_processes(own_server: LocalServer) -> None:
    own_server.kill()
    async with Ear() as ear:
        async with up(ear, own_server.url, "late", "fleet:worker", "--processes", "3", ready=0) as program:
            await program.says("waits for the server: no connection to")
            own_server.restart()
            for _ in range(3):
                await program.says("is ready")
            program.signal(signal.SIGTERM)
            assert await program.ends() == 0
            said = [
                line for line in program.text.splitlines() if "waits for the server: no connection to" in line
            ]
            assert len(said) == 1, program.text


def told(*notices: Notice, processes: int) -> list[str]:
    """The lines that `roost up` writes of these."""
    with redirect_stderr(io.StringIO()) as written:
        printer = Printer(processes)
        for one in notices:
            printer(one)
    return written.getvalue().splitlines()


def notice(kind: NoticeKind, place: int, text: str = "") -> Notice:
    return Notice(kind=kind, name=f"worker-{place}", pid=place, text=text)


def test_a_slow_process_that_waits_after_another_was_ready_repeats_no_reason() -> None:
    """Bug: the first that was ready made it forget, and the last said again what was over."""
    start = [
        notice("waiting", 1, "no connection"),
        notice("ready", 1),
        notice("waiting", 2, "no connection"),
        notice("waiting", 3, "refused"),
        notice("ready", 3),
    ]
    said = [line for line in told(*start, processes=3) if "waits for the server" in line]
    assert [line.rpartition(": ")[2] for line in said] == ["no connection", "refused"]
    later = [notice("ready", 2), notice("ended", 2), notice("waiting", 2, "no connection")]
    assert sum("no connection" in line for line in told(*start, *later, processes=3)) == 2, "another outage"


async def test_a_killed_process_is_reported_with_the_time_of_its_return(
    nats_url: str, namespace: str
) -> None:
    async with Ear() as ear:
        async with up(ear, nats_url, namespace, "fleet:worker", ready=1) as program:
            (pid,) = pids(program)
            os.kill(pid, signal.SIGKILL)
            line = await program.says("was killed")
            assert re.search(
                rf"worker-1-[a-z2-9]{{6}} \(pid {pid}\) was killed by SIGKILL; it starts again in 0\.\d s",
                line,
            )
            await program.says("worker-1-", " is ready")


@pytest.mark.parametrize(
    ("agents", "message"),
    [
        (["fleet:missing", "--processes", "3"], "fleet:missing-"),
        (["nosuch:agent"], "there is no module 'nosuch'"),
        (["fleet:missing", "nosuch:agent"], "there is no module 'nosuch'"),
        (["fleet:broken_lifespan"], "OSError: no database there"),
    ],
)
async def test_when_nothing_can_be_started_it_ends_with_the_reason_said_once(
    nats_url: str, namespace: str, agents: list[str], message: str
) -> None:
    async with Ear() as ear:
        async with up(ear, nats_url, namespace, *agents, ready=0) as program:
            assert await program.ends() == 1
            said = [
                line for line in program.text.splitlines() if " cannot start: " in line and message in line
            ]
            assert len(said) == 1, program.text
            assert "no process could be started; mend that and run it again" in program.text
            assert "Traceback" not in program.text


async def test_one_agent_that_cannot_start_does_not_end_the_others(nats_url: str, namespace: str) -> None:
    async with Ear() as ear:
        async with up(ear, nats_url, namespace, "fleet:worker", "fleet:missing", ready=1) as program:
            await program.says(
                "fleet:missing-1-", " cannot start: module fleet has no 'missing'", "it starts again in"
            )
            program.signal(signal.SIGTERM)
            assert await program.ends() == 0


async def test_an_agent_that_was_ready_once_is_tried_again_even_if_it_is_the_only_one(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    """Its module may be in the middle of a deployment."""
    broken = tmp_path / "broken"
    source = f"import pathlib, fleet\nif pathlib.Path({str(broken)!r}).exists(): raise OSError('half')\n"
    (tmp_path / "deployed.py").write_text(source + "worker = fleet.worker\n")
    async with Ear() as ear:
        path = f"{tmp_path}:{ear.env['PYTHONPATH']}"
        ear.more["PYTHONPATH"] = path
        async with up(ear, nats_url, namespace, "deployed:worker", ready=1) as program:
            broken.touch()
            os.kill(pids(program)[0], signal.SIGKILL)
            await program.says(
                "worker-1-", " cannot start: module deployed cannot be imported: OSError: half", "again"
            )
            broken.unlink()
            await program.says("worker-1-", " is ready")
            program.signal(signal.SIGTERM)
            assert await program.ends() == 0


async def test_stopping_while_a_process_is_still_importing_its_module_or_resting_is_in_order(
    nats_url: str, namespace: str, tmp_path: Path
) -> None:
    (tmp_path / "slow.py").write_text("import fleet, time\nfleet.tell('importing')\ntime.sleep(60)\n")
    async with Ear() as ear:
        ear.more["PYTHONPATH"] = f"{tmp_path}:{ear.env['PYTHONPATH']}"
        agents = ("slow:agent", "fleet:worker", "--grace", "50")
        async with up(ear, nats_url, namespace, *agents, ready=1) as program:
            await ear.hear("importing")
            os.kill(pids(program)[0], signal.SIGKILL)
            await program.says("was killed by SIGKILL; it starts again in")
            program.signal(signal.SIGTERM)
            assert await program.ends(timeout_s=10) == 0


async def test_a_hangup_of_the_terminal_stops_as_well(nats_url: str, namespace: str) -> None:
    async with Ear() as ear:
        async with up(ear, nats_url, namespace, "fleet:worker", ready=1) as program:
            program.signal(signal.SIGHUP)
            assert await program.ends() == 0


async def test_a_shell_that_ignores_ctrl_c_for_what_runs_in_its_background_does_not_keep_it_from_stopping(
    nats_url: str, namespace: str
) -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # a started process inherits that
    try:
        async with Ear() as ear, up(ear, nats_url, namespace, "fleet:worker", ready=1) as program:
            program.signal(signal.SIGINT)
            assert await program.ends() == 0
    finally:
        signal.signal(signal.SIGINT, before)
