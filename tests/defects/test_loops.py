"""Defect 23: a call from another event loop or thread is not noticed by nats-py; it hangs, or corrupts."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import nats.errors
import pytest
from defect_kit import Events, first_of, ours, settle, stock

from roost.errors import WrongLoop
from roost.server import LocalServer
from roost.settings import Settings
from roost.transport import Client, open_client

CALLS: dict[str, Callable[[Client], object]] = {
    "send": lambda client: client.send("d23"),
    "listen": lambda client: client.listen("d23", print),
    "ask": lambda client: asyncio.run(client.requests.ask("d23", timeout_s=1)),
    "flush": lambda client: asyncio.run(client.flush(1)),
    "publish": lambda client: asyncio.run(client.publish("d23")),
    "request": lambda client: asyncio.run(client.request("d23", timeout=1)),
}


@pytest.mark.parametrize("call", CALLS)
async def test_23_call_from_another_thread_is_refused(nats_url: str, call: str) -> None:
    async with ours(nats_url) as me:
        sent = me.client.stats["out_msgs"], me.client.stats["out_bytes"]
        with ThreadPoolExecutor(1) as thread:
            future = asyncio.get_running_loop().run_in_executor(thread, CALLS[call], me.client)
            with pytest.raises(WrongLoop):
                await future
        assert (me.client.stats["out_msgs"], me.client.stats["out_bytes"]) == sent
        assert len(me.requests) == 0
        assert await me.works()


async def test_23_call_from_another_thread_is_refused_while_the_loop_is_in_the_middle_of_a_turn(
    nats_url: str,
) -> None:
    async with ours(nats_url) as me:
        me.client.send("d23", b"mine")
        with ThreadPoolExecutor(1) as thread, pytest.raises(WrongLoop):
            thread.submit(me.client.send, "d23", b"not mine").result()
        assert me.client.stats["out_msgs"] == 1


@pytest.mark.parametrize("call", CALLS)
def test_23_call_from_a_later_loop_of_the_same_thread_is_refused(nats_server: LocalServer, call: str) -> None:
    loop = asyncio.new_event_loop()
    try:
        settings = Settings(servers=(first_of(nats_server.url),))
        client = loop.run_until_complete(open_client(settings, Events()))

        async def use() -> None:
            if call in ("send", "listen"):
                CALLS[call](client)
            elif call == "ask":
                await client.requests.ask("d23", timeout_s=1)
            elif call == "flush":
                await client.flush(1)
            elif call == "publish":
                await client.publish("d23")
            else:
                await client.request("d23", timeout=1)

        with pytest.raises(WrongLoop):
            asyncio.run(use())
        loop.run_until_complete(client.close())
    finally:
        loop.close()


def test_23_the_loop_is_not_needed_to_run_for_the_refusal(nats_server: LocalServer) -> None:
    loop = asyncio.new_event_loop()
    try:
        settings = Settings(servers=(first_of(nats_server.url),))
        client = loop.run_until_complete(open_client(settings, Events()))
        with pytest.raises(WrongLoop):
            client.send("d23")
        loop.run_until_complete(client.close())
    finally:
        loop.close()


async def test_23_stock_call_from_another_thread_sleeps_until_its_timeout(nats_url: str) -> None:
    """The answer is there within a millisecond, but nothing wakes the loop that waits for it."""
    async with stock(nats_url) as client:
        await settle(client)

        def elsewhere() -> float:
            begun = time.monotonic()
            with suppress(nats.errors.Error, RuntimeError):
                asyncio.run(client.request("d23.nobody", timeout=0.5))
            return time.monotonic() - begun

        with ThreadPoolExecutor(1) as thread:
            assert await asyncio.get_running_loop().run_in_executor(thread, elsewhere) > 0.4
