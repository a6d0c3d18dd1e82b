"""`async with local_server()` in an event loop."""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path

import nats
import pytest

from roost.errors import ServerUnavailable
from roost.server import ServerOptions, find_server, local_server

ANSWER = "if [ \"$1\" = --version ]; then echo 'nats-server: v2.15.1'; exit 0; fi"


def fake_server(folder: Path, *lines: str) -> Path:
    path = folder / "fake-nats-server"
    path.write_text("\n".join(["#!/bin/sh", ANSWER, *lines, ""]))
    path.chmod(0o755)
    return path


async def test_it_gives_the_url_of_a_server_that_ends_with_the_block() -> None:
    async with local_server() as url:
        client = await nats.connect(url)
        await client.jetstream().account_info()
        await client.close()
    host, port = url.removeprefix("nats://").split(":")
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(host, int(port))


async def test_it_takes_options(tmp_path: Path) -> None:
    async with local_server(ServerOptions(store_dir=tmp_path)):
        assert (tmp_path / "jetstream").is_dir()


async def test_an_error_in_the_block_ends_the_server_and_comes_through() -> None:
    with pytest.raises(ZeroDivisionError):
        async with local_server() as url:
            raise ZeroDivisionError
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", int(url.rsplit(":", 1)[1]))


async def test_a_server_that_does_not_start_raises_in_the_async_with() -> None:
    with pytest.raises(ServerUnavailable, match="unknown field"):
        async with local_server(ServerOptions(extra_config="nonsense_key: 3")):
            pytest.fail("must not get here")


async def test_the_loop_goes_on_while_a_server_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = fake_server(tmp_path, "sleep 0.5", f'exec "{find_server()}" "$@"')
    monkeypatch.setenv("ROOST_NATS_SERVER", str(slow))
    turns = 0
    longest_s = 0.0

    async def watch() -> None:
        nonlocal turns, longest_s
        before = time.monotonic()
        while True:
            await asyncio.sleep(0.001)
            turns, longest_s, before = turns + 1, max(longest_s, time.monotonic() - before), time.monotonic()

    watching = asyncio.create_task(watch(), name="watch")
    async with local_server():
        watching.cancel()
    await asyncio.wait([watching])
    assert turns > 50
    assert longest_s < 0.4


async def test_a_start_that_is_cancelled_leaves_no_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    note = tmp_path / "note"
    os.mkfifo(note)
    monkeypatch.setenv("ROOST_NATS_SERVER", str(fake_server(tmp_path, f"echo $$ > {note}", "exec sleep 600")))

    async def use() -> None:
        async with local_server(ServerOptions(start_timeout_s=2)):
            pytest.fail("must not get ready")

    using = asyncio.create_task(use(), name="use")
    pid = int(await asyncio.to_thread(note.read_text))  # reading waits until the server writes
    using.cancel()
    await asyncio.wait([using])
    assert using.cancelled()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
