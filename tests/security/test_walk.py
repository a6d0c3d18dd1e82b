"""A new operator's way, block by block as docs/connecting.md has it: users, server, log, agent, caller."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import sys
from asyncio.subprocess import PIPE, STDOUT, Process
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import roost
from roost import Credentials
from roost.errors import ConnectError
from roost.server._ports import choose_ports

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "connecting.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"```sh\n(.*?)```", PAGE.partition("## A server with a login for each agent")[2], re.S)
AGENT = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)[0]


class Walker:
    """Runs the page's blocks in a folder, on free ports, as an operator who has set nothing."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.port, self._http = choose_ports(2, host="127.0.0.1")
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("NATS_", "ROOST_"))}
        here = {"PATH": f"{Path(sys.executable).parent}:{kept['PATH']}", "XDG_CONFIG_HOME": str(folder)}
        self._environment = {**kept, **here}

    async def begin(self, block: str) -> Process:
        for written, here in (
            ("~/roost", str(ROOT)),
            (":4222", f":{self.port}"),
            (":8222", f":{self._http}"),
        ):
            block = block.replace(written, here)
        return await asyncio.create_subprocess_exec(
            *("sh", "-euc", block),
            cwd=self.folder,
            env=self._environment,
            stdout=PIPE,
            stderr=STDOUT,
            start_new_session=True,
        )

    async def run(self, block: str) -> str:
        process = await self.begin(block)
        out, _ = await process.communicate()
        assert process.returncode == 0, out.decode()
        return out.decode()

    @asynccontextmanager
    async def running(self, block: str, ready: str) -> AsyncIterator[None]:
        """A block that stays, from when it has said that it is ready."""
        process = await self.begin(block)
        assert process.stdout is not None
        said = ""
        try:
            async with asyncio.timeout(60):
                while ready not in said:
                    line = await process.stdout.readline()
                    assert line, said
                    said += line.decode()
            yield
        finally:
            process.send_signal(signal.SIGTERM)
            out, _ = await process.communicate()
        assert process.returncode in (0, 1), said + out.decode()
        assert not re.search(r"permission_denied|Violation", said + out.decode())


def check_secrets(folder: Path) -> None:
    """Files with passwords are the operator's alone, and the configuration has none."""
    passwords = [one.read_text().strip() for one in folder.glob("*.password")]
    assert len(set(passwords)) == 5
    for file in (*folder.glob("*.password"), folder / "server.env"):
        assert file.stat().st_mode & 0o077 == 0
    for file in folder.glob("*.conf"):
        assert not any(one in file.read_text() for one in passwords)


@pytest.mark.slow_limit(120)
async def test_a_new_operator_gets_from_nothing_to_a_result(tmp_path: Path) -> None:
    walker = Walker(tmp_path)
    (tmp_path / "agent.py").write_text(AGENT)
    prepare, server, make_log, upkeep, agent, caller = BLOCKS
    await walker.run(prepare)
    check_secrets(tmp_path)
    async with walker.running(server, "Server is ready"):
        said = await walker.run(make_log)
        assert re.search(r"JetStream +0 streams", said)
        assert re.search(r"stream ROOST_roost +created\nconsumer task_digest +created", said)
        async with walker.running(upkeep, "upkeep_begun ROOST_roost"), walker.running(agent, "is ready"):
            said = await walker.run(caller)
            assert said.splitlines()[0] == "6"
            assert re.search(r"(?m)^digester-\S+\tready\t", said)
            tls = roost.TLS(ca_file=tmp_path / "tls" / "ca.crt", handshake_first=True)
            wrong = Credentials(user="caller", password_file=tmp_path / "digester.password")
            with pytest.raises(ConnectError, match="Authorization Violation"):
                async with roost.connect(f"tls://localhost:{walker.port}", credentials=wrong, tls=tls):
                    pass
