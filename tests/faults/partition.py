"""A cluster whose servers reach each other through forwarders, so that the network between them can be cut.

Each server tells the others the address of the forwarder before it (`cluster.advertise`), or they would find a way
around it. Who is calling stands in the CONNECT line of a route: its server's id. A cut swallows everything, as a
network does that is gone: no connection is closed, and none is made.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import threading
from collections.abc import Iterator
from dataclasses import replace

from roost.server import LocalCluster, LocalServer
from roost.server._members import cluster_lines
from roost.server._ports import choose_ports

CHUNK = 65536
_connect = re.compile(rb"^CONNECT (\{.*?\})\r?\n", re.DOTALL | re.MULTILINE).search


class PartedCluster(LocalCluster):
    """``with PartedCluster() as cluster, cluster.cut_off(0):`` servers 1 and 2 hear nothing of 0, nor 0 of them.

    Clients reach each server as before.
    """

    def _configure(self) -> None:
        super()._configure()
        self._network = _Network()
        doors = choose_ports(len(self._members), host="127.0.0.1")
        for door, one in zip(doors, self._members, strict=True):
            self._network.open(one.name, door, one.route_port)
        seen = [replace(one, route_port=door) for door, one in zip(doors, self._members, strict=True)]
        self._servers = tuple(
            LocalServer(
                replace(
                    server.options,
                    extra_config=cluster_lines(
                        one,
                        [one if other.number == one.number else other for other in seen],
                        "between-servers",
                    ).replace("cluster {", f'cluster {{ advertise: "127.0.0.1:{door}",')
                    + f"\n{self.options.extra_config}",
                ),
                proved=False,
            )
            for server, one, door in zip(self._servers, self._members, doors, strict=True)
        )

    def stop(self) -> None:
        super().stop()
        if self._members:
            self._network.close()

    @contextlib.contextmanager
    def cut_off(self, number: int) -> Iterator[None]:
        """For the length of the block nothing gets through between this server and the others."""
        member = self._members[number]
        self._network.alone(member.name, member._ask("/varz")["server_id"])
        try:
            yield
        finally:
            self._network.alone()


class _Network:
    """The forwarders, in a loop of their own: a cluster's calls block."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="forwarders", daemon=True)
        self._thread.start()
        self._alone: frozenset[str] = frozenset()
        self._healed = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()

    def open(self, name: str, door: int, port: int) -> None:
        async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            try:
                await self._forward(name, port, reader, writer)
            except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
                pass  # either side went away, or all is over
            finally:
                self._tasks.discard(task)
                writer.transport.abort()

        opening = asyncio.start_server(connected, "127.0.0.1", door, limit=CHUNK)
        asyncio.run_coroutine_threadsafe(opening, self._loop).result(10)

    def alone(self, *names: str) -> None:
        """From now on the server that is called so is alone; without a name all is whole again."""

        def change() -> None:
            self._alone = frozenset(names)
            self._healed.set()
            self._healed = asyncio.Event()

        self._loop.call_soon_threadsafe(change)

    def close(self) -> None:
        def end() -> None:
            for task in self._tasks:
                task.cancel()
            self._loop.call_soon(self._loop.stop)

        if self._thread.is_alive():
            self._loop.call_soon_threadsafe(end)
            self._thread.join(10)

    async def _forward(
        self, name: str, port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        back, server = await asyncio.open_connection("127.0.0.1", port, limit=CHUNK)
        ends = {name}
        told = asyncio.create_task(self._pump(back, writer, ends))
        try:
            first = b""
            while (said := _connect(first)) is None:
                data = await reader.read(CHUNK)
                if not data:
                    return
                first += data
            ends.add(json.loads(said[1])["name"])
            await self._passes(ends)
            server.write(first)
            await self._pump(reader, server, ends)
        finally:
            told.cancel()
            await asyncio.gather(told, return_exceptions=True)
            server.transport.abort()

    async def _passes(self, ends: set[str]) -> None:
        while self._alone & ends:
            await self._healed.wait()

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, ends: set[str]) -> None:
        while data := await reader.read(CHUNK):
            await self._passes(ends)
            writer.write(data)
            await writer.drain()
        writer.transport.abort()
