"""Each fault of the kit is what it says, and is undone at the end of its block."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
from pydantic import BaseModel

import roost
from roost.server import LocalServer, ServerOptions
from roost.testing import faults


class Note(BaseModel):
    text: str


said = roost.Topic("notes", Note)
echo = roost.Endpoint("echo", Note, Note)
agent = roost.Agent("echoer")


@agent.handles(echo)
async def answer(note: Note) -> Note:
    return note


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    code = "import sys, time\nprint(1, flush=True)\nfor n in sys.stdin: print(n, flush=True)"
    with subprocess.Popen([sys.executable, "-S", "-c", code], stdin=-1, stdout=-1) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"1\n"
        yield process
        process.kill()


def test_killed(sleeper: subprocess.Popen[bytes]) -> None:
    faults.kill(sleeper)
    assert sleeper.wait(1) == -9


def test_frozen(sleeper: subprocess.Popen[bytes]) -> None:
    state = Path(f"/proc/{sleeper.pid}/stat")
    with faults.frozen(sleeper):
        assert state.read_text().split()[2] in "Tt"
    assert sleeper.stdin is not None
    assert sleeper.stdout is not None
    sleeper.stdin.write(b"awake\n")
    sleeper.stdin.flush()
    assert sleeper.stdout.readline() == b"awake\n"


def test_killed_while_frozen(sleeper: subprocess.Popen[bytes]) -> None:
    with faults.frozen(sleeper):
        faults.kill(sleeper)
    assert sleeper.wait(1) == -9


async def test_a_wire_that_is_cut(own_server: LocalServer) -> None:
    async with faults.Wire(own_server.url) as wire, roost.connect(wire.url) as bus:
        lost, back = asyncio.Event(), asyncio.Event()
        bus.watch(lambda event: lost.set() if event.kind == "connection_lost" else None)
        bus.watch(lambda event: back.set() if event.kind == "reconnected" else None)
        with wire.cut():
            await asyncio.wait_for(lost.wait(), 5)
            with pytest.raises(roost.NotConnected):
                await bus.publish(said, Note(text="into the void"))
        await asyncio.wait_for(back.wait(), 10)
        await bus.publish(said, Note(text="again"))
        assert wire.accepted == 2


async def test_a_wire_that_swallows_everything(own_server: LocalServer) -> None:
    async with (
        faults.Wire(own_server.url) as wire,
        roost.connect(wire.url) as bus,
        roost.connect(own_server.url) as other,
        other.serving(agent),
    ):
        assert (await bus.request(echo, Note(text="1"))).text == "1"
        with wire.stalled(), pytest.raises(roost.RequestTimeout):
            await bus.request(echo, Note(text="2"), timeout_s=0.2)
        assert (
            await bus.request(echo, Note(text="3"))
        ).text == "3"  # over the connection that was open all along
        assert wire.accepted == 1


async def test_a_slow_wire(own_server: LocalServer) -> None:
    async with faults.Wire(own_server.url) as wire, roost.connect(wire.url) as bus:
        wire.delay_s = 0.1
        began = time.monotonic()
        await bus.link.client.flush()
        assert time.monotonic() - began >= 0.2  # there and back


async def test_garbage_on_the_wire(own_server: LocalServer, seed: int) -> None:
    async with (
        faults.Wire(own_server.url) as wire,
        roost.connect(wire.url) as bus,
        roost.connect(own_server.url) as other,
        bus.serving(agent),
    ):
        for message in islice(faults.raw_messages(seed, ["roost.echo", "notes", "roost.run.x"]), 200):
            wire.to_server(message)
        assert (await other.request(echo, Note(text="alive"))).text == "alive"


def test_garbage_is_the_same_for_the_same_seed(seed: int) -> None:
    one, other, third = (list(islice(faults.garbage(which), 50)) for which in (seed, seed, seed + 1))
    assert one == other != third
    assert max(map(len, islice(faults.garbage(seed, most_bytes=100), 200))) <= 100


@pytest.fixture
def server_with_rights() -> Iterator[LocalServer]:
    with LocalServer(ServerOptions(extra_config=faults.RIGHTS)) as server:
        yield server


async def test_rights_that_are_taken_away(server_with_rights: LocalServer) -> None:
    async with roost.connect(server_with_rights.url) as bus, bus.serving(agent):
        assert (await bus.request(echo, Note(text="1"))).text == "1"
        denied = asyncio.Event()
        bus.watch(lambda event: denied.set() if event.kind == "permission_denied" else None)
        with faults.denied(server_with_rights, publish=["notes"]):
            await bus.publish(said, Note(text="not allowed"))
            await asyncio.wait_for(denied.wait(), 5)
        denied.clear()
        await bus.publish(said, Note(text="allowed"))
        await bus.link.client.flush()
        assert not denied.is_set()


def test_a_server_without_rights_has_none_to_lose(own_server: LocalServer) -> None:
    with pytest.raises(faults.FaultUnavailable, match=r"faults\.RIGHTS"), faults.denied(own_server):
        pass


def test_a_configuration_that_the_server_refuses(own_server: LocalServer) -> None:
    before = own_server.options
    with pytest.raises(roost.ServerUnavailable, match="goes on as before"):
        own_server.reload("authorization { users: 7 }")
    assert own_server.running
    assert own_server.options == before


@pytest.fixture
def disk() -> Iterator[faults.Disk]:
    try:
        with faults.Disk(mb=48) as made:
            yield made
    except faults.FaultUnavailable as error:
        pytest.skip(str(error))


def test_a_disk_that_is_full(disk: faults.Disk) -> None:
    disk.fill(leave_bytes=8192)
    with pytest.raises(OSError, match="No space"):
        (disk.path / "more").write_bytes(b"x" * 100_000)
    disk.empty()
    (disk.path / "more").write_bytes(b"x" * 100_000)


def test_a_power_cut(disk: faults.Disk) -> None:
    with (disk.path / "synced").open("wb") as file:
        file.write(b"kept")
        file.flush()
        import os

        os.fsync(file.fileno())
    (disk.path / "lazy").write_bytes(b"lost")
    with disk.power_cut() as after:
        assert (after.path / "synced").read_bytes() == b"kept"
        lazy = after.path / "lazy"
        assert not lazy.exists() or lazy.read_bytes() == b""
    assert (disk.path / "lazy").read_bytes() == b"lost"  # the first disk goes on


async def test_a_slow_disk() -> None:
    note = roost.Task("note", Note)
    with LocalServer(ServerOptions(sync_always=True)) as server:
        async with roost.connect(server.url) as bus:
            await bus.submit(note, Note(text="first"))
            try:
                with faults.slow_disk(server.pid, sync_s=0.3):
                    began = time.monotonic()
                    await bus.submit(note, Note(text="slow"))
                    assert time.monotonic() - began >= 0.3
            except faults.FaultUnavailable as error:
                pytest.skip(str(error))
            began = time.monotonic()
            await bus.submit(note, Note(text="fast"))
            assert time.monotonic() - began < 0.3
