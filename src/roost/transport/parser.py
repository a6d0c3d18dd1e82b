"""The NATS client protocol, parsed without regular expressions and without a coroutine per message.

nats-py's parser decodes inside the read loop and tries up to seven patterns per control line; a
subject with a form feed in it matches none of them and the connection is reset for ever. This one
splits control lines at the single spaces that the server writes and hands messages on synchronously.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from nats.errors import ProtocolError

if TYPE_CHECKING:
    from roost.transport.client import Client

MAX_CONTROL_LINE = 64 * 1024
"""Longest control line accepted, in bytes; INFO of a large cluster is the longest there is."""

_M, _H, _P, _PLUS, _MINUS, _I = b"MHP+-I"


class Parser:
    """Feeds one client. `reset` forgets a half-read message; it is called at every reconnect."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._rest: list[bytes] = []
        self._held = 0
        self._want = 0
        self._generation = 0

    def reset(self) -> None:
        self._rest.clear()
        self._held = 0
        self._want = 0
        self._generation += 1

    async def parse(self, data: bytes) -> None:
        """Handle all complete operations in what has been received so far.

        Raises nats.errors.ProtocolError when the bytes are not the NATS protocol.
        """
        if self._rest:
            self._rest.append(data)
            self._held += len(data)
            if self._held < self._want:
                return
            data = b"".join(self._rest)
            self._rest.clear()
            self._held = self._want = 0
        client, generation = self._client, self._generation
        deliver = client.deliver
        position, size, want = 0, len(data), 0
        while position < size:
            eol = data.find(b"\r\n", position)
            if eol < 0:
                if size - position > MAX_CONTROL_LINE:
                    raise ProtocolError("nats: control line too long")
                break
            op = data[position]
            if op == _M or op == _H:
                body = eol + 2
                try:
                    if op == _M:
                        words = data[position + 4 : eol].split(b" ")
                        header_size, total = 0, int(words[-1])
                        reply = words[2] if len(words) == 4 else b""
                    else:
                        words = data[position + 5 : eol].split(b" ")
                        header_size, total = int(words[-2]), int(words[-1])
                        reply = words[2] if len(words) == 5 else b""
                    sid = int(words[1])
                except (ValueError, IndexError) as error:
                    raise ProtocolError("nats: malformed MSG") from error
                end = body + total
                if end + 2 > size:
                    want = end + 2 - position
                    break
                position = end + 2
                split = body + header_size
                waiting = deliver(sid, words[0], reply, data[body:split], data[split:end])
                if waiting is not None:
                    await waiting
                    if generation != self._generation:
                        return
                continue
            line = data[position:eol]
            position = eol + 2
            if op == _P and line == b"PING":
                await client._process_ping()
            elif op == _P and line == b"PONG":
                await client._process_pong()
            elif op == _PLUS:
                pass
            elif op == _MINUS:
                await client._process_err(line[5:].decode("utf-8", "replace").strip().lower())
            elif op == _I and line.startswith(b"INFO "):
                await client._process_info(json.loads(line[5:].decode("utf-8", "replace")))
            else:
                raise ProtocolError("nats: unknown operation")
            if generation != self._generation:
                return
        if position < size:
            rest = data[position:]
            self._rest.append(rest)
            self._held = len(rest)
            self._want = want
