"""How one agent process ends: nothing is lost, it is in time, and the exit code says whether all went well."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

import fleet
import roost
from fleet import Ear, Job, Program, Report
from roost import Bus, Done, Task
from roost.errors import ConfigError
from roost.runtime import run_agent
from roost.runtime.lifeline import MARGIN_S
from roost.server import LocalServer, ServerOptions


@asynccontextmanager
async def running(
    ear: Ear, url: str, namespace: str, agent: str = "worker", *, grace_s: float = 10, name: str = "w-1"
) -> AsyncIterator[Program]:
    """An agent process that is ready."""
    env = {
        **ear.env,
        "NATS_URL": url,
        "ROOST_NAMESPACE": namespace,
        "ROOST_INSTANCE": name,
        "ROOST_GRACE_S": str(grace_s),
        "ROOST_LOG_LEVEL": "info",
    }
    async with await Program.agent(f"fleet:{agent}", env=env) as program:
        await program.says(f"{name} is ready")
        yield program


async def begun(bus: Bus, ear: Ear, task: Task[Job, Report], one: Job) -> roost.Handle[Report]:
    handle = await bus.submit(task, one)
    await ear.hear(f"begun {one.id}")
    return handle


async def test_a_running_handler_finishes_within_the_grace_and_its_outcome_is_recorded(
    nats_url: str, namespace: str
) -> None:
    async with Ear() as ear, roost.connect(nats_url, namespace=namespace) as bus:
        async with running(ear, nats_url, namespace) as program:
            handle = await begun(bus, ear, fleet.job, Job(id="j", first_s=1))
            later = await bus.submit(fleet.job, Job(id="k"))
            await ear.hear("begun k")
            program.signal(signal.SIGTERM)
            assert await program.ends() == 0
        match await handle.outcome(timeout_s=5):
            case Done(report):
                assert report.run == 1
            case other:
                pytest.fail(str(other))
        await later.result(timeout_s=5)


async def test_no_new_work_is_taken_while_a_process_stops(nats_url: str, namespace: str) -> None:
    async with Ear() as ear, roost.connect(nats_url, namespace=namespace) as bus:
        async with running(ear, nats_url, namespace) as program:
            handle = await begun(bus, ear, fleet.brief, Job(id="j", first_s=1))
            program.signal(signal.SIGTERM)
            await program.says("stopping for a signal; running handlers have 10 s")
            fresh = await bus.submit(fleet.brief, Job(id="fresh"))
            assert await program.ends() == 0
            await handle.result(timeout_s=5)
        async with running(ear, nats_url, namespace, name="w-2"):
            assert (await fresh.result(timeout_s=10)).by == "w-2"


@pytest.mark.parametrize(("agent", "task"), [("worker", fleet.job), ("thread_worker", fleet.threaded)])
async def test_a_handler_that_takes_longer_is_handed_back_and_delivered_to_another_process_at_once(
    nats_url: str, namespace: str, agent: str, task: Task[Job, Report]
) -> None:
    """The ack wait is 30 s: only handing back explains an outcome before that. A thread cannot be cancelled."""
    async with Ear() as ear, roost.connect(nats_url, namespace=namespace) as bus:
        async with running(ear, nats_url, namespace, agent, grace_s=0.2) as program:
            handle = await begun(bus, ear, task, Job(id="j", first_s=60))
            async with running(ear, nats_url, namespace, agent, name="w-2"):
                began = asyncio.get_running_loop().time()
                program.signal(signal.SIGTERM)
                report = await handle.result(timeout_s=10)
                assert (report.by, report.run) == ("w-2", 2)
                assert await program.ends(timeout_s=10) == 0
                assert asyncio.get_running_loop().time() - began < MARGIN_S  # not because it was forced
                assert ("left behind at the end: thread" in program.text) == (agent == "thread_worker")


async def test_a_second_signal_ends_the_grace(nats_url: str, namespace: str) -> None:
    async with Ear() as ear, roost.connect(nats_url, namespace=namespace) as bus:
        async with running(ear, nats_url, namespace, grace_s=50) as program:
            handle = await begun(bus, ear, fleet.job, Job(id="j", first_s=60))
            async with running(ear, nats_url, namespace, name="w-2"):
                program.signal(signal.SIGINT)
                await program.says("stopping for a signal; running handlers have 50 s")
                program.signal(signal.SIGTERM)
                assert (await handle.result(timeout_s=10)).by == "w-2"
                assert await program.ends(timeout_s=10) == 0


async def test_a_blocked_event_loop_does_not_keep_the_process(nats_url: str, namespace: str) -> None:
    async with Ear() as ear, roost.connect(nats_url, namespace=namespace) as bus:
        async with running(ear, nats_url, namespace, "loop_blocker", grace_s=0) as program:
            await begun(bus, ear, fleet.blocking, Job(id="j", first_s=60))
            program.signal(signal.SIGTERM)
            assert await program.ends(timeout_s=10) == 1
            assert "the end took too long (the main thread is at" in program.text
            assert "what was not handed back is delivered again" in program.text
            assert "fleet.py:" in program.text
            assert "in do_blocking" in program.text


async def test_a_lifespan_that_does_not_end_does_not_keep_the_process_once_all_work_is_settled(
    nats_url: str, namespace: str
) -> None:
    async with Ear() as ear:
        async with running(ear, nats_url, namespace, "endless_lifespan", grace_s=0) as program:
            program.signal(signal.SIGTERM)
            assert await program.ends(timeout_s=10) == 0
            assert "all work was finished or handed back" in program.text


async def test_a_process_that_a_handler_forked_can_be_terminated_alone(nats_url: str, namespace: str) -> None:
    async with Ear() as ear, roost.connect(nats_url, namespace=namespace) as bus:
        async with running(ear, nats_url, namespace, "forker") as program:
            handle = await bus.submit(fleet.forking, Job(id="j"))
            assert (await handle.result(timeout_s=20)).run == -signal.SIGTERM
            handle = await bus.submit(fleet.forking, Job(id="k"))  # and the agent goes on
            await handle.result(timeout_s=20)
            assert program.process.returncode is None


async def test_an_idle_process_ends_in_time_while_the_broker_is_down(own_server: LocalServer) -> None:
    async with Ear() as ear:
        async with running(ear, own_server.url, "down", grace_s=5) as program:
            own_server.kill()
            await program.says("connection_lost")
            program.signal(signal.SIGTERM)
            assert await program.ends(timeout_s=5) == 0


async def test_a_busy_process_ends_in_time_while_the_broker_is_down_and_its_task_is_done_later(
    own_server: LocalServer,
) -> None:
    async with Ear() as ear:
        async with roost.connect(own_server.url, namespace="down") as bus:
            async with running(ear, own_server.url, "down", grace_s=1) as program:
                handle = await begun(bus, ear, fleet.brief, Job(id="j", first_s=0.5))
                own_server.kill()
                await program.says("connection_lost")
                program.signal(signal.SIGTERM)
                assert await program.ends(timeout_s=10) == 0
            own_server.restart()
            async with running(ear, own_server.url, "down", name="w-2"):
                assert (await handle.result(timeout_s=20)).by == "w-2"


async def test_a_frozen_broker_does_not_keep_the_process(own_server: LocalServer) -> None:
    async with Ear() as ear:
        async with running(ear, own_server.url, "frozen", grace_s=0.5) as program:
            own_server.pause()
            program.signal(signal.SIGTERM)
            assert await program.ends(timeout_s=10) == 0


async def test_a_process_waits_for_a_broker_that_is_not_there_yet_and_says_so(
    own_server: LocalServer,
) -> None:
    url = own_server.url
    own_server.kill()
    async with Ear() as ear:
        env = {**ear.env, "NATS_URL": url, "ROOST_INSTANCE": "w-1", "ROOST_LOG_LEVEL": "info"}
        async with await Program.agent("fleet:worker", env=env) as program:
            await program.says("waiting for the server", f"no connection to {url} yet")
            own_server.restart()
            await program.says("w-1 is ready")
            program.signal(signal.SIGTERM)
            assert await program.ends() == 0


async def test_a_process_that_still_waits_for_the_broker_ends_at_once() -> None:
    async with Ear() as ear:
        async with await Program.agent(
            "fleet:worker", env={**ear.env, "NATS_URL": "nats://127.0.0.1:1"}
        ) as program:
            await program.says("waiting for the server")
            program.signal(signal.SIGTERM)
            assert await program.ends(timeout_s=4) == 0


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("nosuch:agent", "cannot start: there is no module 'nosuch' (looked in "),
        (
            "fleet:missing",
            "cannot start: module fleet has no 'missing'; its agents are fleet:broken_lifespan, ",
        ),
        ("fleet:not_an_agent", "cannot start: fleet:not_an_agent is no roost.Agent but [1, 2, 3]"),
        ("fleet:empty", "cannot start: agent empty has no handlers"),
        ("fleet:broken_lifespan", "cannot start: OSError: no database there"),
        ("fleet.py", "cannot start: 'fleet.py' names a file; name the module: fleet:agent"),
    ],
)
async def test_a_process_that_cannot_start_says_why_in_one_line(
    nats_url: str, namespace: str, target: str, message: str
) -> None:
    async with Ear() as ear:
        env = {**ear.env, "NATS_URL": nats_url, "ROOST_NAMESPACE": namespace}
        async with await Program.agent(target, env=env) as program:
            assert await program.ends() == 1
            assert len(program.lines) == 1
            assert program.text.startswith(message)


async def test_a_consumer_that_is_configured_otherwise_is_named_as_the_reason(
    nats_url: str, namespace: str
) -> None:
    other = Task("job", Job, Report, ack_wait_s=7)
    async with Ear() as ear, roost.connect(nats_url, namespace=namespace) as bus:
        await bus.log.ensure_consumer(other)
        env = {**ear.env, "NATS_URL": nats_url, "ROOST_NAMESPACE": namespace}
        async with await Program.agent("fleet:worker", env=env) as program:
            assert await program.ends() == 1
            assert "cannot start: consumer task_job of stream" in program.text
            assert "ack_wait is 7000000000, wanted 30000000000" in program.text
            assert "roost provision" in program.text


async def test_a_wrong_password_is_not_waited_for() -> None:
    accounts = 'accounts { A: { jetstream: true, users: [{ user: "ada", password: "right" }] } }'
    with LocalServer(ServerOptions(extra_config=accounts)) as server:
        async with Ear() as ear:
            env = {**ear.env, "NATS_URL": server.url.replace("//", "//ada:wrong@")}
            async with await Program.agent("fleet:worker", env=env) as program:
                assert await program.ends(timeout_s=15) == 1
                assert "cannot start: cannot connect to" in program.text
                assert "wrong" not in program.text


def test_a_program_of_ones_own_runs_an_agent_and_gets_the_exit_code(nats_url: str, namespace: str) -> None:
    source = (
        "import sys, threading, os, signal, roost\n"
        "from roost.runtime import run_agent\n"
        "agent = roost.Agent('own')\n"
        "status = roost.Topic('own.status', int)\n"
        "from contextlib import asynccontextmanager\n"
        "@asynccontextmanager\n"
        "async def life():\n"
        "    print('open'); yield; print('closed')\n"
        "agent = roost.Agent('own', lifespan=life)\n"
        "@agent.handles(status)\n"
        "async def one(n: int): ...\n"
        "threading.Timer(1.0, os.kill, (os.getpid(), signal.SIGTERM)).start()\n"
        f"code = run_agent(agent, url={nats_url!r}, namespace={namespace!r})\n"
        "print('code', code, signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)\n"
    )
    answer = subprocess.run(
        [sys.executable, "-c", source], capture_output=True, text=True, timeout=30, check=True
    )
    assert answer.stdout.split("\n")[:3] == ["open", "closed", "code 0 True"]


async def test_run_agent_is_refused_outside_of_the_main_thread() -> None:
    with pytest.raises(ConfigError, match="needs the main thread"):
        await asyncio.to_thread(run_agent, fleet.worker)
