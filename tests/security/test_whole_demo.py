"""The whole job of `roost demo` under the users that are printed for its agents: each process with its own.

`roost demo` brings a server of its own along, which has no users; so its agents are started here as their processes
are, on a server on the printed block, and the job is ordered by a caller.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
from security_kit import ConfiguredServer, as_user, configured, provisioned

from roost.demo import contracts
from roost.demo.gather import gather
from roost.demo.team import coordinator, digester, linker, reporter

DEMO = "demo"
AGENTS = (digester, linker, reporter, coordinator)


async def printed(*arguments: str) -> str:
    """What `roost permissions` prints."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "roost",
        "permissions",
        *arguments,
        "--namespace",
        DEMO,
        stdout=PIPE,
        stderr=PIPE,
    )
    out, complaints = await process.communicate()
    assert process.returncode == 0, complaints.decode()
    assert complaints == b""
    return out.decode()


@asynccontextmanager
async def process_of(name: str, server: ConfiguredServer) -> AsyncIterator[Process]:
    environment = {
        "NATS_URL": server.url,
        "NATS_USER": name,
        "NATS_PASSWORD": "pw",
        "ROOST_INBOX_PREFIX": f"_INBOX_{name}",
        "ROOST_NAMESPACE": DEMO,
    }
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "roost.runtime.process",
        f"roost.demo.team:{name}",
        env=os.environ | environment,
        stderr=PIPE,
        limit=2**20,
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.terminate()
        _, said = await process.communicate()
        text = said.decode()
        assert process.returncode == 0, text
        assert "permission" not in text.lower(), text


@pytest.mark.slow_limit(60)
async def test_the_whole_demo_works_with_one_user_for_each_agent(tmp_path: Path) -> None:
    targets = [f"roost.demo.team:{one.name}" for one in AGENTS]
    roles = [f"--role={one}" for one in ("worker", "coordinator", "caller", "observer", "admin")]
    config = await printed(*targets, *roles)
    users = [one.name for one in AGENTS] + ["caller", "observer", "admin"]
    passwords = "".join(f"ROOST_PASSWORD_{one.upper()}: pw\n" for one in users)
    folder, out, store = tmp_path / "papers", tmp_path / "report", tmp_path / "store"
    store.mkdir()
    folder.mkdir()
    for number in range(30):
        (folder / f"{number}.md").write_text(
            f"# Paper {number}\n\nSee [other]({number + 1}.md). TODO: more\n"
        )
    with configured(store, passwords + config) as server:
        await provisioned(server, [one.job for one in AGENTS], DEMO)
        async with AsyncExitStack() as stack:
            caller = await stack.enter_async_context(as_user(server, "caller", namespace=DEMO))
            observer = await stack.enter_async_context(as_user(server, "observer", namespace=DEMO))
            for one in AGENTS:
                await stack.enter_async_context(process_of(one.name, server))
            audit = secrets.token_hex(6)
            order = contracts.Folder(audit=audit, root=str(folder), out=str(out))
            handle = await caller.start(contracts.audit, order, key=audit)
            written = await handle.result(timeout_s=50)
            assert (written.digested, written.broken_links, written.marks) == (30, 1, 30)
            assert (out / "report.json").exists()
            found = await gather(observer.log, handle.id)
            assert {one.status for one in found.histories} == {"done"}
            assert {one.agent for one in await observer.agents()} == {one.name for one in AGENTS}
