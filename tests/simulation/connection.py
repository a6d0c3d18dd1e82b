"""The network between one client and the simulated server: what is sent arrives in order, or not at all."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from roost.transport import Message
from simulation.loop import NOWHERE, Process

if TYPE_CHECKING:
    from simulation.server import Server


class Connection:
    """One client's connection, from its making to its end."""

    def __init__(self, server: Server, process: Process, receive: Callable[[int, Message], None]) -> None:
        self.server = server
        self.process = process
        self.open = True
        self.receive = receive
        self.on_pong: Callable[[int], None] = lambda _: None
        self.on_cut: Callable[[Connection], None] = lambda _: None
        self.up_at = 0.0
        self.down_at = 0.0
        self.on_the_way: list[tuple[Any, ...]] = []  # sent by the client and not arrived

    def send(self, *command: Any) -> None:
        """From the client to the server."""
        loop = self.server.loop
        self.up_at = max(self.up_at, loop.time() + self.server.faults.delay_s())
        self.on_the_way.append(command)
        loop.call_at(self.up_at, self._arrive, command, context=NOWHERE)

    def _arrive(self, command: tuple[Any, ...]) -> None:
        if self.open:
            self.on_the_way.pop(0)
            self.server.take(self, command)

    def answer(self, sid: int, message: Message) -> None:
        """From the server to a subscription of the client."""
        loop = self.server.loop
        self.down_at = max(self.down_at, loop.time() + self.server.faults.delay_s())
        loop.call_at(self.down_at, self._deliver, sid, message, context=self.process.context)

    def pong(self, number: int) -> None:
        loop = self.server.loop
        self.down_at = max(self.down_at, loop.time() + self.server.faults.delay_s())
        loop.call_at(self.down_at, self._ponged, number, context=self.process.context)

    def _deliver(self, sid: int, message: Message) -> None:
        if self.open:
            self.receive(sid, message)

    def _ponged(self, number: int) -> None:
        if self.open:
            self.on_pong(number)

    def close(self, kept: int) -> None:
        """The end, of the process or the network: the first `kept` messages on their way still arrive."""
        if not self.open:
            return
        for command in self.on_the_way[:kept]:
            self.server.take(self, command)
        self.on_the_way.clear()
        self.open = False
        self.server.forget(self)
        self.server.loop.call_soon(self.on_cut, self, context=self.process.context)
